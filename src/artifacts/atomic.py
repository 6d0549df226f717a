"""Atomic writes, which leave an artifact either whole or absent."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.locks import sole_maker

PARTIAL_PREFIX = ".partial-"


def partial_path(path: Path) -> Path:
    """Return the path under which ``path`` is written: hidden, in the same folder, same suffix."""
    return path.with_name(PARTIAL_PREFIX + path.name)


@contextlib.contextmanager
def atomic_outputs(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yield one temporary path for each of ``paths``; rename them all when the block succeeds.

    If the block raises, every temporary file is removed and earlier artifacts stay unchanged. Parent
    folders are created. A temporary path keeps the suffix, since libraries choose a format by suffix.
    Waits while another process writes the first of ``paths``. Raises ``UserError`` for a folder in the
    place of an output.
    """
    temporaries = tuple(partial_path(path) for path in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    if folder := next((path for path in paths if path.is_dir()), None):
        raise UserError(f"{folder} is a folder in the place of a file: move it away")
    with sole_maker(paths[0]):
        try:
            with named(paths[0]):
                yield temporaries
            for temporary, path in zip(temporaries, paths, strict=True):
                temporary.replace(path)
        except BaseException:
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Apply ``atomic_outputs`` to a single path."""
    with atomic_outputs(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def staging_folder(place: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside ``place``, from which the block moves what it has finished.

    What is left in it after the block, or after an error, is removed.
    """
    staging = partial_path(place)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with named(place):
            staging.mkdir(parents=True)
            yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def named(place: Path) -> Iterator[None]:
    """Give an ``OSError`` of the block that names no file, as after a short write, the name ``place``."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(place)
        raise
