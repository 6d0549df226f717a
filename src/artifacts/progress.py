"""Progress of long work: a bar on a terminal, a line a minute in a log, and the time that is left."""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from tqdm import tqdm as ProgressBar

SECONDS_BETWEEN_LINES = 60.0
_SECONDS_TIMED = 5.0
"""Time over which the speed of a training is measured."""
_SECONDS_SAID = 600.0
"""Duration up to which a training needs no announcement."""


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


@dataclass
class Pace:
    """Speed of a training, which tells once how long a long training takes."""

    n_steps: int
    steps_per_epoch: int = 1
    first: tuple[int, float] | None = None
    """Number of the first step seen and when it ended; a step that compiles is not timed."""
    is_said: bool = False

    def after(self, step: int, now: float) -> str:
        """Return a line about the time that is left after ``step``, or an empty text.

        The line comes once, when steps of ``_SECONDS_TIMED`` are timed, if more than ``_SECONDS_SAID``
        are left. ``now`` is in seconds.
        """
        self.first = self.first or (step, now)
        seconds = now - self.first[1]
        if self.is_said or step == self.first[0] or seconds < _SECONDS_TIMED:
            return ""
        self.is_said = True
        n_left = self.n_steps - step
        left = seconds / (step - self.first[0]) * n_left
        if left <= _SECONDS_SAID:
            return ""
        epochs = math.ceil(n_left / self.steps_per_epoch)
        return f"{epochs} more epochs take about {duration(left)} (--epochs sets their number)"
