"""How a measure changes from some runs to others: over seeds, or over users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from src.metrics.significance import paired_tests

Measure = tuple[str, int | None]
"""Name of a metric and its K; AUC has none."""

Measured = Mapping[Measure, np.ndarray]
"""One run's value for each user, in the same order for all runs that are compared."""

Pairs = Sequence[tuple[Measured, Measured]]
"""(before, after) of each seed."""


@dataclass(frozen=True)
class Change:
    """From one mean to another, and how likely that is by chance (NaN: not tested)."""

    before: float
    after: float
    p_value: float

    @property
    def change(self) -> float:
        return self.after - self.before


def change_over_seeds(pairs: Pairs) -> dict[Measure, Change]:
    """Change of the mean over users; the p-value is a paired t-test over the seeds' means.

    A recommender trained anew differs from seed to seed, so one run's users are no sample of what an
    attack does; a single seed has no p-value. No pairs, no changes.
    """
    return {
        measure: _change(
            np.array([before[measure].mean() for before, _ in pairs]),
            np.array([after[measure].mean() for _, after in pairs]),
        )
        for measure in _common_measures(pairs)
    }


def change_over_users(pairs: Pairs) -> dict[Measure, Change]:
    """Change of the mean over users; the p-value is a paired t-test over users.

    For a recommender that stays as it is. Every user's values are first averaged over the seeds. No
    pairs, no changes.
    """
    return {
        measure: _change(
            np.mean([before[measure] for before, _ in pairs], axis=0),
            np.mean([after[measure] for _, after in pairs], axis=0),
        )
        for measure in _common_measures(pairs)
    }


def _change(before: np.ndarray, after: np.ndarray) -> Change:
    p_value, _ = paired_tests(before, after)
    return Change(float(before.mean()), float(after.mean()), float(p_value))


def _common_measures(pairs: Pairs) -> list[Measure]:
    """What was measured on every run: AUC is missing where only lists are known."""
    runs = [run for pair in pairs for run in pair]
    return [measure for measure in runs[0] if all(measure in run for run in runs)] if runs else []
