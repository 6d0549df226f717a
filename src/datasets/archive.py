"""Unpack a downloaded archive: ``python -m src.datasets.archive ARCHIVE FOLDER [NAME ...]``.

Every member is checked before the first is written: an absolute path, a path with ``..``, a link or a
device makes the whole archive invalid. The module needs only the standard library.
"""

import contextlib
import re
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from src.artifacts.atomic import staging_folder
from src.artifacts.errors import UserError
from src.cli import Parser, run

MAX_MEMBERS = 5_000_000
MAX_RATIO = 100
"""Largest unpacked size, in sizes of the archive. Texts reach 20; zip bombs begin at 1000."""
_ALWAYS_UNPACKED = 2**26
"""Unpacked size in bytes that is never refused."""
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """File in an archive."""

    path: PurePosixPath
    size: int
    """Unpacked size in bytes."""
    open: Callable[[], IO[bytes]]

    def write(self, file: Path) -> None:
        """Write the content to ``file``, which must not exist, and make the folders above it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self.open() as source, file.open("xb") as destination:
            shutil.copyfileobj(source, destination, 2**20)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[list[Member]]:
    """Yield the files of a zip or (compressed) tar archive.

    Raises ``UserError`` if the file is no such archive or is damaged, and for a member that is no plain
    file or would be written outside the folder.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield list(_zip_members(archive, path))
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                yield list(_tar_members(archive, path))
        else:
            raise UserError(
                f"{path} is neither a zip nor a tar archive: delete it and download it again"
            )
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged: delete it and download it again ({error})") from error


def unpack(archive: Path, folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Unpack ``archive`` into ``folder`` and return the new files and folders in it.

    With ``names``, only members below a folder of such a name (or ``<name>_original``) at any depth are
    unpacked, into ``folder/<name>``. Raises ``UserError`` instead of replacing existing files, and as
    ``_require_room`` does before anything is written. Files are first written to a hidden folder and
    renamed at the end.
    """
    with open_archive(archive) as members:
        targets = {member: _target(member.path, names) for member in members}
        targets = {member: target for member, target in targets.items() if target is not None}
        tops = dict.fromkeys(target.parts[0] for target in targets.values())
        if absent := [name for name in names if name not in tops]:
            present = ", ".join(sorted({member.path.parts[0] for member in members})[:10])
            raise UserError(f"{archive} holds no folder {absent[0]} (at its top: {present})")
        if existing := [folder / top for top in tops if (folder / top).exists()]:
            raise UserError(f"{existing[0]} exists already: move it away")
        _require_room(archive, folder, targets)
        try:
            with staging_folder(folder / archive.name) as staging:
                for member, target in targets.items():
                    member.write(staging / target)
                for top in tops:
                    (staging / top).replace(folder / top)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"{archive} holds {error.filename} twice") from error
    return [folder / top for top in tops]


def _require_room(archive: Path, folder: Path, members: Iterable[Member]) -> None:
    """Raise ``UserError`` for more members or bytes than archives of data have, or the disk takes."""
    sizes = [member.size for member in members]
    total, packed = sum(sizes), archive.stat().st_size
    if len(sizes) > MAX_MEMBERS:
        raise UserError(f"{archive} is refused: it has {len(sizes)} files, more than {MAX_MEMBERS}")
    if total > max(_ALWAYS_UNPACKED, MAX_RATIO * packed):
        raise UserError(
            f"{archive} is refused: its {packed} bytes unpack to {total}, more than {MAX_RATIO} times "
            "as many"
        )
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if total > free:
        raise UserError(
            f"no space to unpack {archive}: it needs {total} bytes, {existing} has {free}"
        )


def _target(path: PurePosixPath, names: Sequence[str]) -> PurePosixPath | None:
    """Return the path of a member below the folder, or None if it is not to be unpacked."""
    if not names:
        return path
    for depth, part in enumerate(path.parts[:-1]):
        name = part.removesuffix("_original")
        if name in names:
            return PurePosixPath(name, *path.parts[depth + 1 :])
    return None


def _zip_members(archive: zipfile.ZipFile, path: Path) -> Iterator[Member]:
    for info in archive.infolist():
        # A zip file keeps the Unix file type in the upper half; other systems write 0 there.
        kind = stat.S_IFMT(info.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG)
        inside = _checked(info.filename, path, directory=info.is_dir(), plain=plain)
        if info.flag_bits & 0x1:
            raise UserError(f"{path} is encrypted")
        if not info.is_dir():
            yield Member(inside, info.file_size, lambda info=info: archive.open(info))


def _tar_members(archive: tarfile.TarFile, path: Path) -> Iterator[Member]:
    for info in archive:
        inside = _checked(info.name, path, directory=info.isdir(), plain=info.isfile())
        if info.isfile():
            yield Member(inside, info.size, lambda info=info: archive.extractfile(info))


def _checked(name: str, archive: Path, *, directory: bool, plain: bool) -> PurePosixPath:
    """Return the path of a member that may be unpacked; ``plain`` says that it is an ordinary file."""
    path = PurePosixPath(name.replace("\\", "/"))
    leaves = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name)
    if leaves or (not path.parts and not directory):
        raise UserError(f"{archive} is refused: its member {name!r} would leave the folder")
    if not (plain or directory):
        raise UserError(f"{archive} is refused: its member {name!r} is a link or a device")
    return path


def main() -> None:
    parser = Parser("Unpack a zip or tar archive, unless it holds links or leaves the folder.")
    parser.add_argument("archive", type=Path, help="zip or (compressed) tar file")
    parser.add_argument("folder", type=Path, help="where to unpack it")
    parser.add_argument("names", nargs="*", help="only these folders of the archive")
    options = parser.parse_args()
    for place in unpack(options.archive, options.folder, options.names):
        print(f"unpacked {place}")


if __name__ == "__main__":
    sys.exit(run(main))
