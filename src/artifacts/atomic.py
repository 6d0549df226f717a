"""Writing artifacts so that they are either whole or absent."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

PARTIAL_PREFIX = ".partial-"


def partial_path(path: Path) -> Path:
    """The name that ``path`` has while it is written: hidden, beside it, with the same suffix."""
    return path.with_name(PARTIAL_PREFIX + path.name)


@contextlib.contextmanager
def atomic_outputs(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yield one temporary path for each of ``paths``; rename them all when the block succeeds.

    If the block raises, every temporary file is removed and the earlier artifacts stay as they were.
    Parent folders are made. The temporary keeps the suffix, so that libraries which choose a format
    by suffix write the right one.
    """
    temporaries = tuple(partial_path(path) for path in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporaries
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
    for temporary, path in zip(temporaries, paths, strict=True):
        temporary.replace(path)


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """``atomic_outputs`` for a single path."""
    with atomic_outputs(path) as (temporary,):
        yield temporary
