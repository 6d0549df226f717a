"""Means over trainings in tables with a row for each training, and Student's t intervals of them."""

import numpy as np
import pandas as pd

from src.measures.terminal import format_mean
from src.metrics.significance import mean_interval

LOW, HIGH = "_low", "_high"


def means_over_trainings(rows: pd.DataFrame, by: str, count: str) -> pd.DataFrame:
    """Return a row for each value of the column ``by``, in the order of first rows, with means.

    Every other column of ``rows`` holds numbers. If a value has several rows, columns ``<column>_low``
    and ``<column>_high`` (95 % t interval; NaN for a single row) follow, and ``count``, the number of
    rows.
    """
    groups = rows.groupby(by, sort=False)
    values = {name: of.drop(columns=by).to_numpy(np.float64) for name, of in groups}
    columns, index = rows.columns.drop(by), pd.Index(values, name=by)

    def table(of_groups: list[np.ndarray], ending: str = "") -> pd.DataFrame:
        return pd.DataFrame(of_groups, index, columns + ending)

    means = table([of.mean(axis=0) for of in values.values()])
    if len(rows) > len(means):
        lows, highs = zip(*map(mean_interval, values.values()), strict=True)
        means = means.join([table(lows, LOW), table(highs, HIGH)])
        means[count] = groups.size()
    return means.reset_index()


def mean_cell(row: pd.Series, column: str) -> str:
    """Format a mean of ``means_over_trainings`` for the terminal, with half of its interval if known."""
    return format_mean(*(row.get(column + ending, np.nan) for ending in ("", LOW, HIGH)))
