"""Accuracy of a classifier under attack: tables with intervals, and signs of gradient masking."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.locks import sole_maker
from src.artifacts.tables import NUMBERS, write_tables
from src.attacks.robustness.trials import CLEAN, NOISE, Trial, TrialResult
from src.measures.terminal import format_table
from src.metrics.significance import wilson_interval

COLUMNS = (
    "recipe", "attack", "seed", "n", "accuracy", "low", "high", "success_rate", "linf",
)  # fmt: skip
_KEY = ["recipe", "attack", "seed"]

TOLERANCE = 1.0
"""Points of accuracy by which a comparison must fail before it counts as a sign of masking."""


def accuracy_table(outcomes: Mapping[Trial, TrialResult], recipe: str, seed: int) -> pd.DataFrame:
    """Return a row for each trial, ``CLEAN`` among them, with the columns ``COLUMNS``.

    ``accuracy`` is in percent of the ``n`` images, [``low``, ``high``] bounds it with 95 % confidence;
    ``success_rate`` in percent of the images that are right without an attack, NaN if there are none,
    and for no attack; ``linf`` is the largest change in grey levels.
    """
    n_right = int(outcomes[CLEAN].right.sum())
    rows = [_row(trial, outcome, n_right) for trial, outcome in outcomes.items()]
    return pd.DataFrame(rows).assign(recipe=recipe, seed=seed)[list(COLUMNS)]


def masking_table(outcomes: Mapping[Trial, TrialResult], recipe: str, seed: int) -> pd.DataFrame:
    """Return ``accuracy_table`` with each trial's budget ``eps``, in grey levels, before ``seed``."""
    table = accuracy_table(outcomes, recipe, seed)
    table.insert(2, "eps", [trial.eps for trial in outcomes])
    return table


def _row(trial: Trial, outcome: TrialResult, n_right: int) -> dict[str, object]:
    still_right, n = int(outcome.right.sum()), len(outcome.right)
    low, high = wilson_interval(still_right, n)
    attacked = trial != CLEAN and n_right > 0
    return {
        "attack": trial.name,
        "n": n,
        "accuracy": 100 * still_right / n,
        "low": 100 * low,
        "high": 100 * high,
        "success_rate": 100 * (1 - still_right / n_right) if attacked else np.nan,
        "linf": outcome.linf,
    }


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of either kind; ``UserError`` for a file that is no table of attacks."""
    return read_results(path, ("attack", "accuracy"), text=("recipe",))


def compare(table: pd.DataFrame, joint: Path, name: str) -> None:
    """Put the rows of an ``accuracy_table`` into a table of several recipes, as recipe ``name``.

    Rows of the same recipe, attack and seed are replaced in place, others are added at the end. Raises
    ``UserError`` for a file that is no such table.
    """
    rows = table.assign(recipe=name)
    with sole_maker(joint):
        if joint.is_file():
            known = read_table(joint)
            if list(known) != list(COLUMNS):
                raise UserError(
                    f"{joint} is not a table of robust accuracy: its columns are others"
                )
            rows = pd.concat([known, rows], ignore_index=True)
        place = rows.groupby(_KEY, sort=False).ngroup()
        latest = ~rows.duplicated(_KEY, keep="last")
        rows = rows[latest].iloc[np.argsort(place[latest].to_numpy())]
        write_tables({joint: rows})


def overview(table: pd.DataFrame) -> str:
    """Return either table as text."""
    shown = [name for name in table if name not in ("recipe", "seed")]
    header = [_NAMES.get(name, name) for name in shown]
    return format_table(header, table[shown].to_numpy(object).tolist())


_NAMES = {
    "accuracy": "accuracy %",
    "low": "95 % from",
    "high": "to",
    "success_rate": "success %",
    "linf": "largest change",
}


def masking_signs(table: pd.DataFrame, eps: float) -> list[str]:
    """Return a sentence for each sign of masked gradients in a ``masking_table`` at budget ``eps``.

    Many steps must do more than one, gradients more than noise and more than those of another network,
    and a budget that reaches every image must leave none right (Athalye et al., ICML 2018, 3.1).
    """
    eps, table = _as_written(eps), table.assign(eps=table["eps"].map(_as_written))
    accuracy = table.set_index(["attack", "eps"])["accuracy"].to_dict()
    pgd = accuracy["pgd20", eps]
    signs = [
        f"{what} leaves {accuracy[attack, eps]:.1f} %, PGD-20 {pgd:.1f} %"
        for attack, what in _WEAKER.items()
        if (attack, eps) in accuracy and accuracy[attack, eps] < pgd - TOLERANCE
    ]
    largest = max(budget for attack, budget in accuracy if attack == "pgd20")
    left = accuracy["pgd20", largest]
    if left > 0:
        signs.append(f"PGD-20 within {largest:g} grey levels still leaves {left:.1f} %")
    return signs


def _as_written(eps: float) -> float:
    """Round to the digits of ``write_table``, so that a budget equals the one read back."""
    return float(NUMBERS % eps)


_WEAKER = {
    "fgsm": "FGSM",
    NOISE: "noise of the same size",
    "transfer_pgd20": "PGD-20 from the surrogate",
}
"""Attacks that must leave at least the accuracy that PGD-20 leaves."""


def masking_verdict(table: pd.DataFrame, eps: float) -> str:
    """Return the verdict in one line."""
    signs = masking_signs(table, eps)
    if not signs:
        return "gradient masking: nothing looks masked"
    return f"gradient masking: LOOKS MASKED: {'; '.join(signs)}"
