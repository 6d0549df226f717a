"""Content of a file: its columns, and a digest without parts that differ between equal runs."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

VOLATILE = {"versions", "seconds"}
"""Keys of JSON and columns of tables that differ between equal runs."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
_HEADING = re.compile("h[1-6]")
_NUMBER = re.compile(r"-?(\d+\.?\d*(e[+-]?\d+)?|nan|inf)")


def describe(file: Path) -> dict[str, Any]:
    """Return ``{"columns": [...], "sha256": ...}``; images and plain text have no columns."""
    columns, content = _READERS.get(file.suffix, _bytes)(file)
    return {"columns": columns, "sha256": hashlib.sha256(content).hexdigest()}


def _bytes(file: Path) -> tuple[list[str], bytes]:
    return [], file.read_bytes()


def _text(file: Path) -> tuple[list[str], bytes]:
    """Return the text without the dates of artifacts, which the report shows."""
    return [], _without_dates(file.read_text())


def _without_dates(text: str) -> bytes:
    return _DATE.sub("<date>", text).encode()


def _table(file: Path) -> tuple[list[str], bytes]:
    """Return the header, or # for each column of a table without one."""
    delimiter = "\t" if file.suffix == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(file.read_text()), delimiter=delimiter))
    first = rows[0] if rows else []
    columns = ["#"] * len(first) if all(map(_NUMBER.fullmatch, first)) else first
    if not VOLATILE.intersection(columns):
        return columns, file.read_bytes()
    kept = [at for at, column in enumerate(columns) if column not in VOLATILE]
    return columns, json.dumps([[row[at] for at in kept] for row in rows]).encode()


def _json(file: Path) -> tuple[list[str], bytes]:
    """Return every key with the keys above it, without digests of other files."""
    content = _stable(json.loads(file.read_text()))
    return sorted(set(_keys(content))), json.dumps(content).encode()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(of) for key, of in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_stable(of) for of in value]
    return "<sha256>" if isinstance(value, str) and _DIGEST.fullmatch(value) else value


def _keys(value: Any, above: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, of in value.items():
            yield f"{above}{key}"
            yield from _keys(of, f"{above}{key} > ")
    elif isinstance(value, list):
        for of in value:
            yield from _keys(of, above)


def _array(file: Path) -> tuple[list[str], bytes]:
    array = np.load(file, allow_pickle=False)
    return [_kind(array)], array.tobytes()


def _arrays(file: Path) -> tuple[list[str], bytes]:
    with np.load(file, allow_pickle=False) as content:
        return _named({name: content[name] for name in content.files})


def _checkpoint(file: Path) -> tuple[list[str], bytes]:
    import torch

    return _named(dict(_leaves(torch.load(file, map_location="cpu", weights_only=True))))


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Return tensors as arrays of bytes with the name of their type, and all else unchanged."""
    if isinstance(value, dict):
        for key, of in value.items():
            yield from _leaves(of, f"{above}{key} > ")
    elif hasattr(value, "numpy"):
        yield above.removesuffix(" > "), value.contiguous().numpy()
    else:
        yield above.removesuffix(" > "), value


def _named(entries: dict[str, Any]) -> tuple[list[str], bytes]:
    columns, digest = [], hashlib.sha256()
    for name, value in sorted(entries.items()):
        is_array = isinstance(value, np.ndarray)
        columns.append(f"{name}: {_kind(value) if is_array else type(value).__name__}")
        digest.update(columns[-1].encode())
        digest.update(value.tobytes() if is_array else repr(value).encode())
    return columns, digest.digest()


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {'x'.join(map(str, array.shape))}".rstrip()


class _Page(HTMLParser):
    """Parser of headings and identifiers of elements, in the order of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.columns: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if anchor := dict(attrs).get("id"):
            self.columns.append(f"#{anchor}")
        if _HEADING.fullmatch(tag):
            self._heading = True
            self.columns.append(f"{tag} ")

    def handle_endtag(self, tag: str) -> None:
        self._heading = self._heading and not _HEADING.fullmatch(tag)

    def handle_data(self, data: str) -> None:
        if self._heading:
            self.columns[-1] += data


def _page(file: Path) -> tuple[list[str], bytes]:
    text = file.read_text()
    return _Page(text).columns, _without_dates(text)


_READERS = {
    ".tsv": _table,
    ".csv": _table,
    ".json": _json,
    ".npy": _array,
    ".npz": _arrays,
    ".pt": _checkpoint,
    ".html": _page,
    ".tex": _text,
}
