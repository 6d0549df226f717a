"""Ways to damage a file, each a function of its content and a seeded generator."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

EXECUTED = "executed"
"""File that appears in the working folder if a payload is executed."""
PAYLOAD = f"touch {EXECUTED}"
"""Command of the payloads."""

NO_NUMBERS = (
    *("nan", "inf", "-inf", "-5", "1.5", "", "x", "9" * 25, "1e300", "99999999999", "0x10", "1_0"),
    *("true", "[]", '"', "\t", "None", "-0.0", f"$({PAYLOAD})", f"=SYSTEM({PAYLOAD})"),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def _halved(content: bytes, _: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[: len(lines) // 2])


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for at in rng.integers(0, len(content), 1 + len(content) // 200):
        changed[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _with_line_twice(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    at = int(rng.integers(0, len(lines)))
    return b"".join([*lines[:at], lines[at], *lines[at:]])


def _without_line(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[int(rng.integers(0, len(lines)))]
    return b"".join(lines)


def _shuffled(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[at] for at in rng.permutation(len(lines)))


def _with_other_number(text: str) -> Damage:
    def damage(content: bytes, rng: np.random.Generator) -> bytes:
        found = list(_NUMBER.finditer(content))
        if not found:
            return content + text.encode()
        match = found[int(rng.integers(0, len(found)))]
        return content[: match.start()] + text.encode() + content[match.end() :]

    return damage


def _with_float(value: float) -> Damage:
    """Overwrite an aligned float32 of the second half of a binary file."""

    def damage(content: bytes, rng: np.random.Generator) -> bytes:
        n_floats = len(content) // 4
        at = 4 * int(rng.integers(n_floats // 2, max(n_floats, 1)))
        return content[:at] + np.float32(value).tobytes() + content[at + 4 :]

    return damage


def _with_longer_row(content: bytes, _: np.random.Generator) -> bytes:
    return content.rstrip(b"\n") + b"\t1,1\t1,1\n"


class Payload:
    """Object whose pickle executes a command when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (PAYLOAD,)


def _array_with_payload() -> bytes:
    """Return an ``.npy`` file of one object."""
    stream = io.BytesIO()
    np.save(stream, np.array([[Payload()]]), allow_pickle=True)
    return stream.getvalue()


def _archive_with_payload(content: bytes, _: np.random.Generator) -> bytes:
    """Return an archive of torch with a payload, or an archive of arrays whose every array is one."""
    before, stream = io.BytesIO(content), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        if zipfile.is_zipfile(before):
            for name in zipfile.ZipFile(before).namelist():
                archive.writestr(name, _array_with_payload())
        else:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload(), protocol=2))
            archive.writestr("archive/version", "3\n")
    return stream.getvalue()


DAMAGES: dict[str, Damage] = {
    "empty": lambda content, _: b"",
    "cut": _cut,
    "cut by a byte": lambda content, _: content[:-1],
    "halved": _halved,
    "flipped": _flipped,
    "twice": lambda content, _: content + content,
    "line twice": _with_line_twice,
    "line missing": _without_line,
    "shuffled": _shuffled,
    "longer row": _with_longer_row,
    "random bytes": lambda content, rng: rng.bytes(len(content)),
    "UTF-16": lambda content, _: content.decode("latin-1").encode("utf-16"),
    "zero bytes": lambda content, _: bytes(len(content)),
    "JSON list": lambda content, _: b"[]",
    "JSON null": lambda content, _: b"null",
    "deep JSON": lambda content, _: b"[" * 100_000,
    "a zip": lambda content, _: b"PK\3\4" + content,
    "a pickle": lambda content, _: pickle.dumps(Payload()),
    "a pickle in an array": lambda content, _: _array_with_payload(),
    "a pickle in an archive": _archive_with_payload,
    "a YAML tag": lambda content, _: f"!!python/object/apply:os.system ['{PAYLOAD}']\n".encode(),
    **{f"number {text!r}": _with_other_number(text) for text in NO_NUMBERS},
    **{f"float {value}": _with_float(value) for value in (np.nan, np.inf, -1, 3e38)},
}
"""Damages by name. Those of text change little in a binary file, and the other way round."""


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def as_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


REPLACEMENTS: dict[str, Callable[[Path], None]] = {
    "folder": as_folder,
    "link loop": as_link_loop,
    "broken link": as_broken_link,
    "missing": Path.unlink,
}
"""Ways to take a file away, or to put a folder or a link in its place."""


def apply(name: str, path: Path, seed: int) -> bool:
    """Damage ``path`` by the damage ``name``; return whether it is different now."""
    if name in REPLACEMENTS:
        REPLACEMENTS[name](path)
        return True
    before = path.read_bytes()
    after = DAMAGES[name](before, np.random.default_rng(seed))
    path.unlink()  # the file may share its content with the undamaged one
    path.write_bytes(after)
    return after != before
