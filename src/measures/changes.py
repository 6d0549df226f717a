"""Changes of measures between runs, over trainings, seeds and users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from src.metrics.effects import Factor, nested_interval
from src.metrics.significance import paired_t_test

Measure = tuple[str, int | None]
"""Name of a metric and its K; AUC has none."""

Measured = Mapping[Measure, np.ndarray]
"""One run's value for each user, in the same order for all runs that are compared."""

Pairs = Sequence[tuple[Measured, Measured]]
"""(before, after) of each recommender seed on one extractor training."""

TRAINING = Factor("extractor training")
SEED = Factor("recommender seed", within=TRAINING.name)
USER = Factor("user")
FACTORS = (TRAINING, SEED, USER)
"""Axes of every effect: a recommender belongs to one extractor, users are the same under all."""


@dataclass(frozen=True)
class Change:
    """Change from one mean to another."""

    before: float
    after: float
    low: float
    high: float
    """95 % interval of the change over all levels with several units; see ``nested_interval``. NaN for a
    single run, whose users alone do not sample the effect of an attack."""
    p_interval: float
    """P-value that belongs to the interval."""
    p_value: float
    """P-value of a paired t-test over the means of trainings or, with a single training, of seeds; NaN if
    there is only one."""
    p_within_run: float
    """P-value of a paired t-test over users, each with the mean of all trainings and seeds. It says
    whether the users of these runs agree, and nothing about another training."""
    weakest_level: str
    sd_extractor: float
    sd_recommender: float
    sd_user: float
    """Standard deviations of the change between units of each level; NaN for a single unit."""

    @property
    def change(self) -> float:
        return self.after - self.before


def changes_of(trainings: Sequence[Pairs]) -> dict[Measure, Change]:
    """Compare each run before with the run after, with equally many seeds on every extractor training.

    Only measures that every run has are compared: AUC is missing for runs of which only lists are known.
    """
    runs = [run for pairs in trainings for pair in pairs for run in pair]
    groups: dict[int, list[Measure]] = {}
    for measure in runs[0]:
        if all(measure in run for run in runs):
            groups.setdefault(len(runs[0][measure]), []).append(measure)
    found = {
        measure: change
        for measures in groups.values()
        for measure, change in zip(measures, _changes(trainings, measures), strict=True)
    }
    return {measure: found[measure] for measure in runs[0] if measure in found}


def _changes(trainings: Sequence[Pairs], measures: Sequence[Measure]) -> list[Change]:
    """Compare measures of the same users."""
    before, after = (
        np.array(
            [
                [np.stack([pair[at][measure] for measure in measures], axis=-1) for pair in pairs]
                for pairs in trainings
            ]
        )
        for at in (0, 1)
    )
    differences = after - before
    interval = nested_interval(differences, FACTORS)
    unknown = np.full(len(measures), np.nan)
    bounds = [interval.low, interval.high, interval.p_value]
    if before.shape[0] * before.shape[1] == 1:
        bounds = [unknown] * 3
    units = (1, 2) if len(trainings) > 1 else (0, 2)
    p_values = paired_t_test(differences.mean(axis=units))
    within = paired_t_test(differences.mean(axis=(0, 1)))
    sds = [interval.sds.get(factor.name, unknown) for factor in FACTORS]
    numbers = np.stack(
        [
            before.mean(axis=(0, 1, 2)),
            after.mean(axis=(0, 1, 2)),
            *bounds,
            p_values,
            within,
            *sds,
        ],
        axis=-1,
    )
    return [Change(*row[:7], interval.weakest_level, *row[7:]) for row in numbers.tolist()]
