"""Numbers with their intervals, and their text."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from src.artifacts.classes import read_attacked_classes
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.measures.attack_records import read_success
from src.measures.changes import FACTORS, Measure, Measured
from src.measures.terminal import format_number
from src.measures.verdicts import NO_CONTROL
from src.metrics.attack import feature_loss
from src.metrics.effects import nested_interval
from src.metrics.significance import Estimate, bootstrap_interval, mean_interval, wilson_interval


def estimate_lines(estimate: Estimate, decimals: int, *, sign: bool = False) -> list[str]:
    """Return the value and, if there is one, the interval as lines of a cell."""
    value, low, high = (
        fixed(of, decimals, sign=sign) for of in (estimate.value, estimate.low, estimate.high)
    )
    return [value] if np.isnan(estimate.low) else [value, f"({low}, {high})"]


def estimate_text(estimate: Estimate) -> str:
    """Return text such as ``0.36 (0.33 to 0.39)``."""
    if np.isnan(estimate.low):
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def estimate_of(row: Mapping[str, float] | pd.Series, name: str) -> Estimate:
    """Read the estimate that ``Estimate.columns`` wrote into a row."""
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])


def net_estimate(row: Mapping[str, float] | pd.Series) -> Estimate:
    """Return the net effect of a row of the summary with its interval."""
    return Estimate(row["net_effect"], row["net_low"], row["net_high"])


def net_text(row: pd.Series) -> str:
    """Return the net effect of a row in a line: ``0.3 (0.1 to 0.5)``."""
    return NO_CONTROL if np.isnan(row["net_effect"]) else estimate_text(net_estimate(row))


def number(value: float, digits: int = 3) -> str:
    """Format with at most ``digits`` significant digits and a true minus sign; a dash for NaN."""
    if pd.isna(value):
        return "–"
    return format_number(value, digits).replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def decimals_of(values: pd.Series) -> int:
    """Return the decimals, at most 5, that show three digits of the smallest of ``values``."""
    smallest = values[values > 0].min()
    return 3 if pd.isna(smallest) else int(np.clip(2 - np.floor(np.log10(smallest)), 1, 5))


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """Format with a number of decimals and, for changes, a plus; zero has no sign."""
    return f"{value:{'+' if sign else ''}z.{decimals}f}".replace("-", "−")


def signed(value: float) -> str:
    """Format a change as ``+0.03`` or ``−0.01``."""
    return ("+" if value > 0 else "") + number(value)


def mean_of_runs(values: np.ndarray, protocol: str) -> list[Estimate]:
    """Return means of ``values`` (trainings, seeds, users, measures), one for each measure.

    Over several trainings of the extractor the interval is that of effects. With one training at
    ``test_time`` the recommenders are given, and users are resampled, each with the mean of the seeds;
    ``retrained``: Student's interval over the seeds' means, of which a single seed has none.
    """
    if len(values) > 1:
        interval = nested_interval(values, FACTORS)
        bounds = interval.low, interval.high
    elif protocol == "test_time":
        bounds = bootstrap_interval(values[0].mean(axis=0))
    else:
        bounds = mean_interval(values[0].mean(axis=1))
    means = values.mean(axis=(0, 1, 2))
    return [Estimate(*map(float, of)) for of in zip(means, *bounds, strict=True)]


def stacked(trainings: Sequence[Sequence[Measured]], measures: Sequence[Measure]) -> np.ndarray:
    """Return (trainings, seeds, users, measures) float64 of the runs of each training.

    Accuracy has other users than list measures, so that only measures of one kind are stacked.
    """
    return np.array(
        [
            [np.stack([run[measure] for measure in measures], axis=-1) for run in runs]
            for runs in trainings
        ]
    )


def success_estimate(layout: Layout, experiment: Experiment) -> Estimate:
    """Return the success rate in percent with Wilson's interval, as ``attack_outcome`` counts it."""
    hits = read_success(layout, experiment)
    if np.isnan(hits).any():
        return Estimate(np.nan)
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return Estimate(100 * hits.mean(), 100 * low, 100 * high)


def feature_loss_estimate(layout: Layout, experiment: Experiment) -> Estimate:
    """Return the mean squared distance of features, resampled over images; NaN without features."""
    files = layout.features(experiment.clean), layout.features(experiment)
    if not all(file.is_file() for file in files):
        return Estimate(np.nan)
    ids = read_attacked_classes(layout.classes(experiment))[0].image_ids
    clean = read_features(files[0])
    loss, _ = feature_loss(clean[ids], read_features(files[1], len(clean))[ids])
    return resampled(loss)


def resampled(values: np.ndarray) -> Estimate:
    """Return the mean of ``values`` (n,) with a bootstrap interval; NaN is left out."""
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else np.nan)
    low, high = bootstrap_interval(known)
    return Estimate(float(known.mean()), float(low), float(high))
