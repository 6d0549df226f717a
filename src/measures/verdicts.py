"""Tests of the net effects of a summary, corrected for their number, and verdicts."""

import numpy as np
import pandas as pd

from src.measures.changes import SEED, TRAINING
from src.measures.terminal import format_number
from src.metrics.effects import Factor, holm, smallest_effect, verdict

CONTROL = "noise"
"""The attack whose effect is taken from that of every other one."""
NO_CONTROL = "no noise control"
FAMILY_METRIC = "chr"
"""Measure whose net effects at the largest K are the tests of a summary, corrected together."""
_COUNTS = {TRAINING: "extractor_seeds", SEED: "recommender_seeds"}
"""Levels of which a study may have more, outermost first, and the columns that count their units."""
_ERROR = 0.05
"""Chance of any false positive in the family."""


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Fill ``p_holm`` and ``verdict`` in rows of ``effect_rows``, and take ``p_net`` out.

    A verdict is that of the interval that was computed, and says nothing of levels with a single unit:
    ``weakest_level`` names the level, and ``verdict_text`` puts it beside the verdict. Within the family
    an effect has to survive the correction. Noise is the control and has no verdict.
    """
    family = in_family(table)
    table = table.copy()
    table.loc[family, "p_holm"] = holm(table.loc[family, "p_net"].to_numpy(np.float64))
    said = [
        verdict(*bounds)
        for bounds in table[["net_low", "net_high", "margin"]].itertuples(index=False)
    ]
    by_chance = table["p_holm"] > _ERROR
    table["verdict"] = np.where(by_chance & (np.array(said) == "effect"), "undecided", said)
    table.loc[table["attack"].str.startswith(f"{CONTROL}_"), "verdict"] = ""
    return table.drop(columns="p_net")


def verdict_text(row: pd.Series) -> str:
    """Return the verdict of a row with the level that limits it: ``effect (1 extractor training)``."""
    return f"{row['verdict']} ({row['weakest_level']})"


def in_family(table: pd.DataFrame) -> pd.Series:
    """Mark the rows whose net effects are the tests of a table: (rows,) bool.

    Where there are rows over several pairs of classes these are tested. Placebos never are.
    """
    is_attack = ~table["attack"].str.startswith(f"{CONTROL}_") & (table["placebo"] == "")
    is_attack &= table["pairs"] == table["pairs"].max()
    return is_attack & (table["metric"] == FAMILY_METRIC) & (table["k"] == table["k"].max())


def tests_of(table: pd.DataFrame) -> str:
    """Say in a line how many comparisons were tested together, and what they could find."""
    family = table[in_family(table)]
    tested = family[family["p_holm"].notna()]
    name = f"CHR@{table['k'].max()} of the attacked class, attack minus noise"
    if tested.empty:
        reasons = sorted(set(family["weakest_level"])) or [NO_CONTROL]
        return f"comparisons tested: 0 ({name}), because of {', '.join(reasons)}"
    line = f"comparisons tested: {len(tested)} ({name}), p-values corrected together (Holm)"
    now = int(tested["extractor_seeds"].min())
    level = TRAINING if now > 1 else SEED
    now = int(tested[_COUNTS[level]].min())
    for units in (now, 2 * now):
        found = [_smallest(row, level, units) for _, row in tested.iterrows()]
        line += (
            f"\nwith {units} {level.name}s a net effect is found with a probability of 80 % "
            f"from {format_number(min(found), 2)} (the steadiest comparison) to "
            f"{format_number(max(found), 2)} (the least steady) on"
        )
    if level is SEED:
        line += "; nothing here is about another training of the extractors"
    return line


def _smallest(row: pd.Series, level: Factor, units: int) -> float:
    """Return the smallest net effect that so many units of a level find with these users."""
    sds = {TRAINING.name: row["sd_extractor"], SEED.name: row["sd_recommender"]}
    known = {name: sd for name, sd in sds.items() if not np.isnan(sd)}
    planned = {of: int(row[column]) for of, column in _COUNTS.items()} | {level: units}
    return smallest_effect(known, tuple(planned), tuple(planned.values()))
