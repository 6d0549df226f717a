"""Comparison of embedders by their scores: a row for each recipe, over the seeds of its trainings."""

from pathlib import Path

import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.tables import write_tables
from src.measures.terminal import format_table
from src.measures.trainings_means import HIGH, LOW, mean_cell, means_over_trainings

RECIPE, SCORE, SEEDS = "recipe", "ers", "seeds"


def embedder_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``means_over_trainings`` for each recipe, with the column ``seeds``.

    ``rows`` has one row for each training, as ``audits.rankings --compare`` writes them. Raises
    ``UserError`` for a table of another kind.
    """
    if not {RECIPE, SCORE} <= set(rows):
        raise UserError(f"a table of embedders has columns {RECIPE} and {SCORE}: {', '.join(rows)}")
    return means_over_trainings(rows, RECIPE, SEEDS)


def write_embedder_means(source: Path, table: Path) -> pd.DataFrame:
    """Write the means of the rows in ``source``; ``UserError`` if there is no such table."""
    means = embedder_means(read_results(source, (RECIPE,), text=(RECIPE,)))
    write_tables({table: means})
    return means


def embedders_overview(means: pd.DataFrame) -> str:
    """Return a text table of means, with half of their intervals if there are any."""
    shown = [
        name for name in means if not name.endswith((LOW, HIGH)) and name not in (RECIPE, SEEDS)
    ]
    cells = [
        [row[RECIPE], *(mean_cell(row, name) for name in shown)] for _, row in means.iterrows()
    ]
    return format_table([RECIPE, *shown], cells)
