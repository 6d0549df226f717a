"""Images in an LMDB database, such as the one that PixelRec's code makes of its covers."""

import importlib.util
import io
import pickle
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.datasets.image_files import SUFFIXES
from src.datasets.images import SUFFIX_OF_FORMAT
from src.datasets.shards import write_shards

_OF_THE_DATABASE = b"__"
"""Beginning of keys that describe the database, such as ``__len__``."""
_PIXELREC_CLASS = "LMDB_Image"


def is_lmdb(path: Path) -> bool:
    """Return whether ``path`` is a database by its name, or a folder that holds one."""
    return path.suffix == ".lmdb" or (path / "data.mdb").is_file()


def unpack_lmdb(database: Path, folder: Path) -> None:
    """Write the images of a database to tar archives in ``folder``, each named by its key.

    A value is the file of an image, or an object of PixelRec's code with the pixels of one, which becomes
    a PNG. Such objects are pickled, and nothing of them is run. Raises ``UserError`` without the library
    lmdb, for a file that is no database, and for a value of another kind.
    """
    if importlib.util.find_spec("lmdb") is None:
        raise UserError(f"{database}: databases of images need a reader: pip install lmdb")
    import lmdb

    if not database.exists():
        raise UserError(f"no image database at {database}")
    try:
        # A lock would write beside the database, which may be shared and read-only.
        environment = lmdb.open(
            str(database), subdir=database.is_dir(), readonly=True, lock=False, readahead=False
        )
        with environment, environment.begin() as transaction:
            entries = progress_bar(
                transaction.cursor(), "unpacking", environment.stat()["entries"], unit="image"
            )
            write_shards(folder, _images(entries, database))
    except lmdb.Error as error:
        raise UserError(f"{database} is no LMDB database, or it is damaged: {error}") from error


def _images(entries: Iterator[tuple[bytes, bytes]], database: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the content of each image."""
    for key, value in entries:
        if key.startswith(_OF_THE_DATABASE):
            continue
        item = PurePosixPath(key.decode(errors="replace"))
        if item.suffix.lower() in SUFFIXES:
            item = item.with_suffix("")
        suffix = _suffix_of(value)
        if suffix is None:
            suffix, value = ".png", _png(value, database, item)
        yield f"{item}{suffix}", value


def _suffix_of(content: bytes) -> str | None:
    """Return the suffix of an image file by its first bytes; None for other contents."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return SUFFIX_OF_FORMAT.get(image.format or "")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _png(content: bytes, database: Path, item: PurePosixPath) -> bytes:
    """Return a PNG file with the pixels of a pickled object of PixelRec's code."""
    try:
        of = _Unpickler(io.BytesIO(content)).load()
        pixels = np.frombuffer(of.image, np.uint8).reshape(*of.size, 3)
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, "PNG", compress_level=1)
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the unpickler raise errors of any type
        raise UserError(
            f"{database}: {item} is neither an image file nor the pixels of one as PixelRec's code "
            "writes them"
        ) from error
    return written.getvalue()


class _PixelRecImage:
    """Attributes of the pickled object: ``image``, bytes of height x width x 3, and ``size``."""


class _Unpickler(pickle.Unpickler):
    """Reader of that object alone: any other class or function of a pickle is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if name != _PIXELREC_CLASS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _PixelRecImage
