"""Comparison of recipes by robust accuracy: means over seeds, and differences to a baseline."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.tables import write_tables
from src.measures.robust_accuracy import read_table
from src.measures.terminal import format_mean, format_table
from src.metrics.significance import mean_interval


def compared_recipes(table: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Return a row for each recipe and attack of ``table`` (columns ``robust_accuracy.COLUMNS``).

    ``accuracy`` is the mean over ``seeds`` trainings, [``low``, ``high``] its 95 % t interval (NaN with a
    single seed). ``change`` is the mean difference to recipe ``baseline`` of the same seeds, with its
    interval. Raises ``UserError`` for an unknown baseline.
    """
    wide = table.pivot_table(index="seed", columns=["recipe", "attack"], values="accuracy")
    if baseline is not None and baseline not in wide.columns.get_level_values("recipe"):
        raise UserError(f"no recipe {baseline} in the table to compare with")
    rows = []
    for recipe, attack in table[["recipe", "attack"]].drop_duplicates().itertuples(index=False):
        values = wide[recipe, attack].dropna()
        row = {"recipe": recipe, "attack": attack, "seeds": len(values)}
        row |= _estimate(values, "accuracy", "low", "high")
        if baseline is not None and (baseline, attack) in wide:
            differences = (wide[recipe, attack] - wide[baseline, attack]).dropna()
            row |= _estimate(differences, "change", "change_low", "change_high")
        rows.append(row)
    return pd.DataFrame(rows)


def _estimate(values: pd.Series, *names: str) -> dict[str, float]:
    """Return mean and interval under the three ``names``; NaN without values."""
    if values.empty:
        return dict.fromkeys(names, np.nan)
    low, high = mean_interval(values.to_numpy())
    return dict(zip(names, (values.mean(), float(low), float(high)), strict=True))


def write_comparison(source: Path, baseline: str | None = None) -> tuple[Path, pd.DataFrame]:
    """Compare the recipes of the table ``source`` and write ``<name>_summary.tsv`` beside it."""
    table = read_table(source)
    if missing := [name for name in ("recipe", "seed") if name not in table]:
        raise UserError(f"{source} lacks the column {missing[0]}: it is no joint table of recipes")
    comparison = compared_recipes(table, baseline)
    path = source.with_name(f"{source.stem}_summary{source.suffix}")
    write_tables({path: comparison})
    return path, comparison


def comparison_overview(comparison: pd.DataFrame) -> str:
    """Return a text table, recipes by attacks: mean +- half of the interval, and changes."""
    attacks = list(dict.fromkeys(comparison["attack"]))
    indexed = comparison.set_index(["recipe", "attack"])
    rows = []
    for recipe in dict.fromkeys(comparison["recipe"]):
        cells = [
            _cell(indexed.loc[recipe, attack]) if (recipe, attack) in indexed.index else ""
            for attack in attacks
        ]
        rows.append([recipe, *cells])
    return format_table(["accuracy %", *attacks], rows)


def _cell(row: pd.Series) -> str:
    return format_mean(row["accuracy"], row["low"], row["high"])
