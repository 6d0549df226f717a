"""Images in tar archives ("shards"), read where they lie: many small files burden shared file systems.

An archive is not compressed, and its images are named by item, as webdataset has them.
"""

import functools
import io
import itertools
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from src.artifacts.errors import UserError

SUFFIX = ".tar"
_IMAGES_PER_SHARD = 10_000
_HEADER = 2**16
"""Bytes in which the header of nearly every image lies."""


@dataclass(frozen=True, order=True)
class ArchivedImage:
    """Image in an archive; it has the names of a path."""

    archive: Path
    member: str
    offset: int
    """Position of the image's first byte in the archive."""
    size: int
    """Number of the image's bytes."""

    def __str__(self) -> str:
        return f"{self.archive}:{self.member}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.member).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.member).suffix

    def read_bytes(self, most: int | None = None) -> bytes:
        """Return the bytes of the image, or the first ``most`` of them."""
        with self.archive.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size if most is None else min(most, self.size))


ImagePath = Path | ArchivedImage
"""Place of an image: a file of its own, or a member of an archive."""


def source_of(path: ImagePath) -> Path | io.BytesIO:
    """Return what Pillow opens to read the image at ``path``."""
    return path if isinstance(path, Path) else io.BytesIO(path.read_bytes())


def header_of(path: ImagePath) -> Path | io.BytesIO:
    """Return what Pillow opens to read the header at ``path``, with few bytes of an archived image."""
    return path if isinstance(path, Path) else io.BytesIO(path.read_bytes(_HEADER))


def archived_images(folder: Path, suffixes: Iterable[str]) -> list[ArchivedImage]:
    """Return the images, by their suffixes, in the archives of ``folder``, hidden ones left out.

    Raises ``UserError`` for an archive that is damaged or compressed.
    """
    archives = sorted(
        path for path in folder.glob(f"*{SUFFIX}") if path.is_file() and path.name[:1] != "."
    )
    return [
        image
        for path in archives
        for image in _members(path, path.stat().st_size, path.stat().st_mtime_ns)
        if image.suffix.lower() in suffixes and not image.name.startswith(".")
    ]


@functools.lru_cache(maxsize=4096)
def _members(path: Path, size: int, mtime_ns: int) -> tuple[ArchivedImage, ...]:
    """Return the files of an archive, once for each path, size and time (the keys of the cache)."""
    try:
        with tarfile.open(path, "r:") as archive:
            return tuple(
                ArchivedImage(path, info.name, info.offset_data, info.size)
                for info in archive
                if info.isreg()
            )
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path} is no tar archive without compression: {error}") from error


def write_shards(folder: Path, images: Iterable[tuple[str, bytes]]) -> None:
    """Write names and contents of images to archives ``00000.tar``, ``00001.tar``, ... of ``folder``.

    The bytes depend only on names and contents.
    """
    rest = iter(images)
    for number in itertools.count():
        some = itertools.islice(rest, _IMAGES_PER_SHARD)
        if (first := next(some, None)) is None:
            return
        with tarfile.open(folder / f"{number:05d}{SUFFIX}", "w") as archive:
            for name, content in itertools.chain([first], some):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
