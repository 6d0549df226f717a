"""Signs that an attack failed to optimise; its result is then a lower bound and no evaluation.

After Pintor et al., "Indicators of attack failure", NeurIPS 2022.
"""

import re

import numpy as np
import pandas as pd

from src.artifacts.experiments import DEMOTE, Experiment
from src.attacks.settings import EOT_DRAWS
from src.measures.threats import KNOWING_LESS, WORST
from src.measures.verdicts import CONTROL

CONVERGED = 0.02
"""Share of its change that an attack may still gain from more steps."""
_BY_DRAWS = 0.02
"""Exposure of an item that an attack on a random defence may gain by more draws."""
NOT_CONVERGED = "not converged"
"""Begins the signs that an attack would gain from more steps."""
MORE_DRAWS = "more draws gain"
"""Sign that an attack on a random defence takes the mean of too few draws."""
_NO_SLOPE = 0.05
"""Share of the images that may start without a usable gradient."""
_STILL_RISING = 0.5
"""Share of the images whose best step may be the last one."""
_SIZES = re.compile(r"(eps_it|eps|nb_iter|nb_it|restarts|eot)(\d+(?:\.\d+)?)_?")
_JUDGE = ["extractor", "recommender", "scope", "popularity", "k"]
_AIM = ["objective", "norm", "eps", "item_ids"]


def evaluated(table: pd.DataFrame) -> pd.Series:
    """Return which rows have no indicator, bool."""
    return table["indicator"] == ""


def indicators(rows: pd.DataFrame) -> list[str]:
    """Return the signs of failure of each row of ``promotion_rows``, joined; empty where there is none.

    Many images have no gradient at the start, most are best at the last step, twice the steps
    or restarts gain more than 2 %, more draws of a random defence gain more than .02, a smaller budget
    does more, an attack that knows less does more, or noise does more than an attack on this very
    recommender.
    """
    attacks = [Experiment.parse(name) for name in rows["attack"]]
    sign = np.array([-1 if of.objective.startswith(DEMOTE) else 1 for of in attacks])
    told = rows.assign(
        family=[_family(of) for of in attacks],
        effort=[_effort(of) for of in attacks],
        draws=[int(_sizes(of).get("eot", EOT_DRAWS)) for of in attacks],
        gain=sign * rows["change"],
        net_gain=sign * rows["net"],
    )
    return ["; ".join(_signs_of_failure(row, told)) for _, row in told.iterrows()]


def _signs_of_failure(row: pd.Series, told: pd.DataFrame) -> list[str]:
    if row["objective"] == CONTROL or row["threat"] in ("retrained", WORST):
        return []
    rivals = told[told[_JUDGE].eq(row[_JUDGE]).all(axis=1)]
    rivals = rivals[rivals["gain"] > row["gain"] + CONVERGED * abs(row["gain"])]
    alike = rivals[(rivals["threat"] == row["threat"]) & (rivals["family"] == row["family"])]
    longer = (alike["eps"] == row["eps"]) & (alike["effort"] >= 2 * max(row["effort"], 1))
    found = [f"{NOT_CONVERGED}: more steps gain"] if longer.any() else []
    same_effort = (alike["eps"] == row["eps"]) & (alike["effort"] == row["effort"])
    wider = same_effort & (alike["draws"] > row["draws"])
    # Where all items are attacked at once, the gain is in places of a list, those of all items together.
    allowed = _BY_DRAWS * (row["items"] if row["scope"] == "all" else 1)
    if (wider & (alike["gain"] > row["gain"] + allowed)).any():
        found.append(MORE_DRAWS)
    if (alike["eps"] < row["eps"]).any():
        found.append("a smaller budget gains more")
    if row["objective"] == "class":
        return found  # no attack on classes is after exposure
    same = rivals[_AIM].eq(row[_AIM]).all(axis=1)
    if row["threat"] == "white_box" and (same & rivals["threat"].isin(KNOWING_LESS)).any():
        found.append("an attack that knows less gains more")
    # Images that were made for another recommender or extractor may well do no more than noise, and
    # what their own attack went through says nothing of this one.
    if row["threat"] not in ("white_box", "ranks_only"):
        return found
    if row["no_gradient"] > _NO_SLOPE:
        found.append(f"{row['no_gradient']:.0%} of the images start without a gradient")
    if row["best_is_last"] > _STILL_RISING:
        found.append(f"{NOT_CONVERGED}: the last step is the best of {row['best_is_last']:.0%}")
    if row["scope"] == "one" and row["net_gain"] < 0:
        found.append("noise gains more")
    return found


def _family(experiment: Experiment) -> str:
    """Return the name without budget, steps, restarts and draws."""
    aim = experiment.objective or experiment.target
    parameters = _SIZES.sub("", experiment.parameters).strip("_")
    return f"{experiment.attack} {experiment.items or experiment.origin} {aim} {parameters}"


def _effort(experiment: Experiment) -> int:
    """Return the steps of all restarts; 0 where the name shows no steps."""
    numbers = _sizes(experiment)
    steps = numbers.get("nb_iter", numbers.get("nb_it", 0))
    return int(steps * numbers.get("restarts", 1))


def _sizes(experiment: Experiment) -> dict[str, float]:
    return {kind: float(number) for kind, number in _SIZES.findall(experiment.parameters)}
