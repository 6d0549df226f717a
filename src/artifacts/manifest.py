"""Manifests: records beside artifacts of how these were made, and checks that they are up to date.

A stage describes its options and inputs. If its outputs exist and were made in the same way it is
skipped, otherwise it runs and writes a new record. Inputs and outputs are compared by content, so that
records hold in a copied or cloned tree as well; sizes and times are not recorded, since a copy changes
times. Within one process a file is hashed once for each size and time.

An input that a command of this project wrote, and that is no longer as that command left it, is refused
(``require_as_written``) unless the user gives ``--accept_changed``.
"""

import functools
import hashlib
import importlib.metadata
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src import __version__
from src.artifacts.atomic import PARTIAL_PREFIX, atomic_output
from src.artifacts.errors import UserError
from src.artifacts.program import program

RECORD_SUFFIX = ".manifest.json"
ACCEPT_CHANGED = "--accept_changed"
"""Option by which a user accepts inputs that were changed by hand."""
_RECORD_TYPES = {
    "stage": str,
    "command": str,
    "options": dict,
    "inputs": dict,
    "outputs": dict,
    "versions": dict,
}
_PACKAGES = ("numpy", "pandas", "pillow", "torch", "torchvision", "tensorflow", "cleverhans")


def fingerprint(path: Path) -> str:
    """Return SHA-256 of a file's bytes, or of a folder's file names and bytes without manifests."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if file.is_file() and not _is_bookkeeping(file):
                digest.update(f"{file.relative_to(path).as_posix()}\0{_of_file(file)}\n".encode())
        return digest.hexdigest()
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    return _of_file(path)


def _is_bookkeeping(file: Path) -> bool:
    return file.name.startswith(PARTIAL_PREFIX) or file.name.endswith("manifest.json")


def _of_file(path: Path) -> str:
    status = path.stat()
    return _hash_content(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=65536)
def _hash_content(path: Path, size: int, mtime_ns: int) -> str:
    """Return SHA-256 of a file, once for each path, size and time (the keys of the cache)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """Stage, options and content of inputs that determine an artifact."""

    stage: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    accepted: tuple[str, ...] = ()
    """Names of the inputs that were changed by hand and that the user accepts."""

    @classmethod
    def of(cls, stage: str, options: Mapping[str, Any], inputs: Iterable[Path]) -> "Manifest":
        """Describe a stage. ``options`` must hold JSON values only, the seed included.

        Inputs are named by their last two path components (``original/features.npy``), so that the
        record does not depend on where the tree stands; of two with equal ends each has as many more as
        tell them apart. Raises ``UserError`` for a missing input and as ``require_as_written`` does.
        """
        files = _names_of(inputs)
        hashes = {name: fingerprint(path) for name, path in files.items()}
        accepted = tuple(name for name, path in files.items() if not require_as_written(path))
        return cls(stage, json.loads(json.dumps(dict(options))), hashes, accepted)

    def is_current(self, outputs: Sequence[Path]) -> bool:
        """Return whether all outputs exist, are unchanged, and were made as this manifest describes.

        A damaged record describes nothing, so that the stage runs again and replaces it; so do outputs
        that another process replaces at this moment.
        """
        try:
            recorded = read_record(outputs[0])
            return (
                recorded.get("stage") == self.stage
                and recorded.get("options") == self.options
                and recorded.get("inputs") == self.inputs
                and all(path.exists() for path in outputs)
                and recorded.get("outputs") == _hashes(outputs)
            )
        except (UserError, FileNotFoundError):
            return False

    def write(self, outputs: Sequence[Path]) -> None:
        """Write the record of ``outputs`` beside the first of them."""
        record = {
            "stage": self.stage,
            "command": shlex.join([*program(), *sys.argv[1:]]),
            "options": self.options,
            "inputs": self.inputs,
            "outputs": _hashes(outputs),
            "versions": {"var": __version__, "python": sys.version.split()[0], **_versions()},
        }
        if self.accepted:
            record["accepted_changes"] = list(self.accepted)
        with atomic_output(record_path(outputs[0])) as temporary:
            temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def input_name(path: Path, n_parts: int = 2) -> str:
    """Return the name of an input in a record: ``original/features.npy``."""
    return "/".join(path.parts[-n_parts:])


def _names_of(inputs: Iterable[Path]) -> dict[str, Path]:
    """Return different files by the shortest names that tell them apart."""
    files = {path.absolute(): path for path in inputs}
    names = {}
    for path, given in files.items():
        name = input_name(given)
        rivals = [other for other in files if other != path and input_name(files[other]) == name]
        n_parts = 2
        while any(input_name(other, n_parts) == input_name(path, n_parts) for other in rivals):
            n_parts += 1
        names[input_name(path, n_parts) if rivals else name] = given
    return names


def record_path(output: Path) -> Path:
    """Return the path of the manifest of ``output``: ``classes.csv`` -> ``classes.csv.manifest.json``."""
    return output.with_name(f"{output.name}{RECORD_SUFFIX}")


def _hashes(outputs: Sequence[Path]) -> dict[str, str]:
    """Hash outputs by name; those that share a name are told apart by their folders."""
    shared = Counter(path.name for path in outputs)
    return {
        path.name if shared[path.name] == 1 else input_name(path): fingerprint(path)
        for path in outputs
    }


def read_record(output: Path) -> dict[str, Any]:
    """Return the record beside ``output``, or an empty one if there is none.

    Raises ``UserError`` for a file that is no record.
    """
    path = record_path(output)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):  # a decoding or parsing error is a ValueError
        record = None
    whole = isinstance(record, dict) and all(
        isinstance(record.get(name, kind()), kind) for name, kind in _RECORD_TYPES.items()
    )
    if not whole or not {"options", "inputs", "outputs"} <= set(record):
        raise UserError(
            f"{path} is no manifest of this project: delete it and run the command that wrote "
            f"{output.name} again"
        )
    return record


def require_as_written(path: Path) -> bool:
    """Return True if ``path`` is as the command that wrote it left it, or if no record names it.

    A file that was changed since raises ``UserError`` that names the command. With ``ACCEPT_CHANGED``
    among the arguments of the running script it returns False instead, and says so on stderr.
    """
    found = _recorded(path)
    if found is None or found[1] == fingerprint(path):
        return True
    command = found[0]
    if ACCEPT_CHANGED not in sys.argv:
        raise UserError(
            f"{path} was changed after it was written by: {command}; run that again with --force, or "
            f"accept the changed file with {ACCEPT_CHANGED}"
        )
    _say_accepted(path, command)
    return False


def require_present(path: Path) -> None:
    """Raise ``UserError`` if a record names ``path``, but there is no such file.

    With ``ACCEPT_CHANGED`` among the arguments of the running script it says so on stderr instead.
    """
    if path.is_file() or (found := _recorded(path)) is None:
        return
    if ACCEPT_CHANGED not in sys.argv:
        raise UserError(
            f"missing file: {path}, which was written by: {found[0]}; run that again with --force, or go "
            f"on without the file with {ACCEPT_CHANGED}"
        )
    print(f"accepted although it is missing: {path}", file=sys.stderr)


def is_recorded(path: Path) -> bool:
    """Return whether a record names ``path`` among the outputs of its command."""
    return _recorded(path) is not None


def _recorded(path: Path) -> tuple[str, str] | None:
    """Return the command that wrote ``path`` and the hash that it recorded; None without a record.

    The record stands beside the first output of a command: ``path`` itself, another file of its folder,
    or, for ranks of held-out items, the lists in the folder above.
    """
    if (own := _in_record(path, path)) is not None:
        return own
    above = path.parent.parent / path.name
    if (lists := _in_record(above, path)) is not None:
        return lists
    for record in sorted(path.parent.glob(f"*{RECORD_SUFFIX}")):
        output = record.with_name(record.name.removesuffix(RECORD_SUFFIX))
        if output != path and (found := _in_record(output, path)) is not None:
            return found
    return None


def _in_record(output: Path, path: Path) -> tuple[str, str] | None:
    """Return the command and the hash of ``path`` in the record beside ``output``; None if absent."""
    record = read_record(output)
    outputs = record.get("outputs", {})
    by_name = outputs.get(path.name) if output.parent == path.parent else None
    digest = outputs.get(input_name(path), by_name)
    return None if digest is None else (record.get("command", "an unknown command"), digest)


@functools.cache
def _say_accepted(path: Path, command: str) -> None:
    """Print once that a changed file is accepted."""
    print(f"accepted although it was changed: {path} (written by: {command})", file=sys.stderr)


def first_difference(
    options: Mapping[str, Any], others: Mapping[str, Any]
) -> tuple[str, Any, Any] | None:
    """Return (name, value, other value) of the first, possibly nested, option that differs; or None."""
    for name in dict.fromkeys((*options, *others)):
        value, other = options.get(name), others.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if found := first_difference(value, other):
                return found
        elif value != other:
            return name, value, other
    return None


@functools.cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
