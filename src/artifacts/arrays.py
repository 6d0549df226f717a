"""Reading and writing of NumPy's files: plain arrays (``.npy``) and archives of them (``.npz``).

A header says how much memory an array takes, so it is compared with the length of the file before the
memory is taken. Nothing in a file is executed.
"""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from src.artifacts.errors import UserError

_MAGIC = b"\x93NUMPY"
_DAMAGED = (
    *(ValueError, KeyError, EOFError, OSError, TypeError, SyntaxError, RecursionError),
    *(OverflowError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)
"""Errors that NumPy's and Python's readers raise on arbitrary bytes."""


def read_array(path: Path, *, in_memory: bool = True) -> np.ndarray:
    """Read the array of a ``.npy`` file, or map it if not ``in_memory``; writing to it changes no file.

    Raises ``UserError`` for a missing file, for any other format, for an array of Python objects, and for
    a file that is shorter or longer than its header says.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path} (run the stage that writes it first)")
    try:
        with path.open("rb") as stream:
            needed = _claimed(stream) + stream.tell()
        if needed != path.stat().st_size:
            raise ValueError(f"its header says {needed} bytes, it has {path.stat().st_size}")
        return np.load(path, mmap_mode=None if in_memory else "c", allow_pickle=False)
    except _DAMAGED as error:
        raise UserError(
            f"{path} is not a plain NumPy array, or it is damaged: {error}; run the stage that writes it "
            "again"
        ) from error


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as a ``.npy`` file, with the bytes of ``np.save``; ``OSError`` if the disk is full.

    ``np.save`` does not notice that its last write was short.
    """
    array = np.ascontiguousarray(array)
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, np.lib.format.header_data_from_array_1_0(array)
        )
        stream.write(array.reshape(-1).view(np.uint8).data)


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an ``.npz`` archive; ``UserError`` as in ``read_array``."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays ``names`` of an ``.npz`` archive, or all; ``UserError`` as in ``read_array``.

    Also raises ``UserError`` if the archive lacks one of ``names``.
    """
    with _archive(path) as archive:
        members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if names is None or info.filename.removesuffix(".npy") in names
        }
        for name, info in members.items():
            if not _is_whole(archive, info, path.stat().st_size):
                raise ValueError(f"{name} is not as long as its header says")
        if missing := [name for name in names or () if name not in members]:
            raise ValueError(f"it lacks {missing[0]}")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in members}


def _is_whole(archive: zipfile.ZipFile, info: zipfile.ZipInfo, available: int) -> bool:
    """Return whether an array fills its member, which is no longer than the ``available`` bytes.

    ``available`` counts for a member that is stored as it is; others unpack to more.
    """
    with archive.open(info) as stream:
        needed = _claimed(stream) + stream.tell()
    stored = info.compress_type == zipfile.ZIP_STORED
    return needed == info.file_size and not (stored and info.file_size > available)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an ``.npz`` archive; ``UserError`` if it is missing, or if the block finds it damaged."""
    if not path.is_file():
        raise UserError(f"missing file: {path} (run the stage that writes it first)")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED as error:
        raise UserError(
            f"{path} is not an archive of plain NumPy arrays, or it is damaged: {error}"
        ) from error


def _claimed(stream: IO[bytes]) -> int:
    """Return the bytes that follow the header of an array; ``ValueError`` for any other content."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin as one")
    version = tuple(stream.read(2))
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its format {version} is unknown")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return math.prod(shape) * dtype.itemsize
