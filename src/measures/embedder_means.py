"""Comparison of embedders by their scores: a row for each recipe, over the seeds of its trainings."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_output
from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.measures.terminal import format_mean, format_table
from src.metrics.significance import mean_interval

RECIPE, SCORE = "recipe", "ers"


def embedder_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each recipe, in the order of first rows, with the means of other columns.

    ``rows`` has one row for each training, as ``audits.rankings --compare`` writes them. For several
    seeds of a recipe ``<column>_low`` and ``<column>_high`` follow (95 % t interval), and ``seeds``,
    their number. Raises ``UserError`` for a table of another kind.
    """
    if not {RECIPE, SCORE} <= set(rows):
        raise UserError(f"a table of embedders has columns {RECIPE} and {SCORE}: {', '.join(rows)}")
    groups = rows.groupby(RECIPE, sort=False)
    means, seeds = groups.mean(), groups.size()
    if (seeds > 1).any():
        limits = {name: mean_interval(of.drop(columns=RECIPE).to_numpy()) for name, of in groups}
        for side, ending in enumerate(("low", "high")):
            ends = np.array([limits[name][side] for name in means.index])
            means[[f"{column}_{ending}" for column in rows.columns.drop(RECIPE)]] = ends
        means["seeds"] = seeds
    return means.reset_index()


def write_embedder_means(source: Path, table: Path) -> pd.DataFrame:
    """Write the means of the rows in ``source``; ``UserError`` if there is no such table."""
    means = embedder_means(read_results(source, (RECIPE,), text=(RECIPE,)))
    table.parent.mkdir(parents=True, exist_ok=True)
    with atomic_output(table) as temporary:
        means.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
    return means


def embedders_overview(means: pd.DataFrame) -> str:
    """Return a text table of means, with half of their intervals if there are any."""
    shown = [name for name in means if not name.endswith(("_low", "_high")) and name != "seeds"]
    cells = [[_cell(row, name) for name in shown] for _, row in means.iterrows()]
    return format_table(shown, cells)


def _cell(row: pd.Series, name: str) -> str:
    if name == RECIPE:
        return row[name]
    return format_mean(*(row.get(f"{name}{end}", np.nan) for end in ("", "_low", "_high")))
