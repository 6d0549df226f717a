"""Changes of measures between runs, over trainings, seeds and users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from src.metrics.effects import Factor, nested_interval
from src.metrics.significance import paired_t_test

Measure = tuple[str, int | None]
"""Name of a metric and its K; AUC has none."""

Measured = Mapping[Measure, np.ndarray]
"""Values of one run for each user, in the same order for all runs that are compared; or those of the runs
of a recommender with several attacks (crossed factors ..., users)."""

Pairs = Sequence[tuple[Measured, Measured]]
"""Values (before, after) of each recommender seed on one extractor training."""

TRAINING = Factor("extractor training")
SEED = Factor("recommender seed", within=TRAINING.name)
USER = Factor("user")
FACTORS = (TRAINING, SEED, USER)
"""Axes of every effect: a recommender belongs to one extractor, users are the same under all. Crossed
factors stand before users."""


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
    sd_crossed: tuple[float, ...]
    """Standard deviations of the change between units of each level, the last ones of the crossed
    factors; NaN for a single unit."""

    @property
    def change(self) -> float:
        return self.after - self.before


def changes_of(trainings: Sequence[Pairs], crossed: Sequence[Factor] = ()) -> dict[Measure, Change]:
    """Compare each run before with the run after, with equally many seeds on every extractor training.

    ``crossed`` are the factors of the axes before users, whose units are the same for all trainings.
    Only measures that every run has are compared: AUC is missing for runs of which only lists are known.
    """
    runs = [run for pairs in trainings for pair in pairs for run in pair]
    groups: dict[tuple[int, ...], list[Measure]] = {}
    for measure in runs[0]:
        if all(measure in run for run in runs):
            groups.setdefault(runs[0][measure].shape, []).append(measure)
    found = {
        measure: change
        for measures in groups.values()
        for measure, change in zip(measures, _changes(trainings, measures, crossed), strict=True)
    }
    return {measure: found[measure] for measure in runs[0] if measure in found}


def _changes(
    trainings: Sequence[Pairs], measures: Sequence[Measure], crossed: Sequence[Factor]
) -> list[Change]:
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
    interval = nested_interval(differences, (TRAINING, SEED, *crossed, USER))
    unknown = np.full(len(measures), np.nan)
    bounds = [interval.low, interval.high, interval.p_value]
    users = before.ndim - 2
    if np.prod(before.shape[:users]) == 1:
        bounds = [unknown] * 3
    units = 0 if len(trainings) > 1 else 1
    p_values, within = (
        paired_t_test(differences.mean(axis=tuple(set(range(users + 1)) - {kept})))
        for kept in (units, users)
    )
    sds = [interval.sds.get(factor.name, unknown) for factor in (*FACTORS, *crossed)]
    averaged = tuple(range(users + 1))
    numbers = np.stack(
        [
            before.mean(axis=averaged),
            after.mean(axis=averaged),
            *bounds,
            p_values,
            within,
            *sds,
        ],
        axis=-1,
    )
    return [
        Change(*row[:7], interval.weakest_level, *row[7:10], tuple(row[10:]))
        for row in numbers.tolist()
    ]
