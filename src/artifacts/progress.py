"""Progress of long work: a bar on a terminal, and a line a minute in a log."""

import sys
from collections.abc import Iterable
from time import monotonic
from typing import Any

from tqdm import tqdm as ProgressBar

SECONDS_BETWEEN_LINES = 60.0


class _ProgressLines(ProgressBar):
    """Progress bar for files, which writes whole lines and no carriage returns."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._said = monotonic()
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line unless the last one is younger than ``SECONDS_BETWEEN_LINES``."""
        if msg is None and monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = monotonic()
            self.fp.write(f"{self}\n")
        return False

    def clear(self, *_: Any, **__: Any) -> None:
        """Leave what is written: lines of a file are not taken back."""


def progress_bar(
    iterable: Iterable[Any] | None = None,
    desc: str | None = None,
    total: float | None = None,
    **options: Any,
) -> ProgressBar:
    """Return a bar on stderr; where that is no terminal, one that writes a line a minute.

    ``options`` are those of ``tqdm``, such as ``unit``, ``initial`` and ``disable``.
    """
    if sys.stderr.isatty():
        return ProgressBar(iterable, desc, total, **options)
    return _ProgressLines(iterable, desc, total, **(options | {"leave": False}))


def duration(seconds: float) -> str:
    """Return a time in words: ``50 s``, ``7 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
