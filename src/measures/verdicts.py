"""Tests of the net effects of a summary, corrected for their number, and verdicts."""

import numpy as np
import pandas as pd

from src.measures.changes import SEED, TRAINING
from src.measures.terminal import format_number
from src.metrics.effects import holm, smallest_effect, verdict

CONTROL = "noise"
"""The attack whose effect is taken from that of every other one."""
NO_CONTROL = "no noise control"
FAMILY_METRIC = "chr"
"""Measure whose net effects at the largest K are the tests of a summary, corrected together."""
_ERROR = 0.05
"""Chance of any false positive in the family."""


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Put ``p_holm`` and ``verdict`` in the place of ``p_net`` in rows of ``effect_rows``.

    One training of an extractor cannot tell what another one would do, so that nothing is tested and
    every verdict is undecided. Within the family an effect has to survive the correction. Noise is the
    control and has no verdict.
    """
    several = table["extractor_seeds"] > 1
    family = in_family(table) & several
    table = table.assign(p_holm=np.nan)
    table.loc[family, "p_holm"] = holm(table.loc[family, "p_net"].to_numpy(np.float64))
    said = [
        verdict(*bounds)
        for bounds in table[["net_low", "net_high", "margin"]].itertuples(index=False)
    ]
    by_chance = table["p_holm"] > _ERROR
    table["verdict"] = np.where(
        ~several | (by_chance & (np.array(said) == "effect")), "undecided", said
    )
    table.loc[table["attack"].str.startswith(f"{CONTROL}_"), "verdict"] = ""
    return table.drop(columns="p_net")


def in_family(table: pd.DataFrame) -> pd.Series:
    """Mark the rows whose net effects are the tests of a table: (rows,) bool."""
    is_attack = ~table["attack"].str.startswith(f"{CONTROL}_")
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
    for trainings in (now, 2 * now):
        found = [_smallest(row, trainings) for _, row in tested.iterrows()]
        line += (
            f"\nwith {trainings} extractor trainings a net effect is found with a probability of 80 % "
            f"from {format_number(min(found), 2)} (the steadiest comparison) to "
            f"{format_number(max(found), 2)} (the least steady) on"
        )
    return line


def _smallest(row: pd.Series, trainings: int) -> float:
    """Return the smallest net effect that so many trainings find with these users."""
    sds = {TRAINING.name: row["sd_extractor"], SEED.name: row["sd_recommender"]}
    known = {name: sd for name, sd in sds.items() if not np.isnan(sd)}
    return smallest_effect(known, (TRAINING, SEED), (trainings, int(row["recommender_seeds"])))
