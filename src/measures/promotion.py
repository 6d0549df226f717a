"""The table of what attacks do to the lists: exposure and places, beside noise, with intervals.

A row of ``promotion.tsv`` is one (extractor, recommender, threat, objective, norm, eps, scope,
popularity, k), as ``exposure.py`` measures it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.experiments import DEMOTE, Experiment
from src.attacks.items import POPULARITIES
from src.measures.attack_failures import evaluated, indicators
from src.measures.attack_records import recorded_budget
from src.measures.changes import SEED, TRAINING, USER
from src.measures.exposure import Pushed
from src.measures.threats import WORST, is_control
from src.measures.trainings import PushedByTraining, Trainings
from src.measures.verdicts import CONTROL
from src.metrics.effects import Factor, Interval, nested_interval, verdict

COLUMNS = (
    *("extractor", "recommender", "threat", "objective", "norm", "eps", "scope", "k"),
    *("before", "after", "change", "low", "high", "control", "control_low", "control_high"),
    *("reliance", "indicator", "items", "extractor_seeds", "recommender_seeds"),
    *("net", "net_low", "net_high", "verdict", "weakest_level"),
    *("restored", "place_before", "place_after", "score_shift", "improved", "attack"),
    *("popularity", "no_gradient", "best_is_last"),
)
"""Columns of ``promotion.tsv``; ``restored`` is the change with the clean length of features."""
NOT_EVALUATED = "not evaluated"
"""The verdict on an attack that failed to optimise."""
ANY = "any"
"""The popularity of rows on all attacked items; others are those of a third of them, or of cold ones."""
MARGIN = 0.005
"""Exposure within which an attack counts as doing no more than noise."""
ITEM = Factor("item")


def promotion_rows(trainings: Trainings) -> list[dict[str, object]]:
    """Return the rows of one recommender on one extractor: ``COLUMNS`` without indicators, and ids."""
    rows = []
    for experiment, pushed in trainings.pushed.items():
        noise = trainings.noise(experiment)
        for threat, seeds in trainings.seeds_by_threat(experiment).items():
            judged = _of_seeds(pushed, seeds)
            by_noise = _of_seeds(trainings.pushed[noise], seeds) if noise else None
            said = _said(trainings, experiment) | {
                "threat": threat,
                "recommender_seeds": len(seeds),
            }
            rows += [
                said
                | {"scope": "one", "popularity": popularity}
                | _one(judged, by_noise, popularity)
                for popularity in (ANY, *_groups(judged))
            ]
            listed = _listed(judged), by_noise and _listed(by_noise)
            rows.append(said | {"scope": "all", "popularity": ANY} | _compared(*listed, USER))
        if after := trainings.retrained[experiment]:
            by_noise = noise and trainings.retrained[noise]
            rows.append(
                _said(trainings, experiment)
                | {"scope": "all", "popularity": ANY, "threat": "retrained"}
                | _retrained(pushed, after, by_noise)
            )
    return rows + worst_rows(trainings)


def worst_rows(trainings: Trainings) -> list[dict[str, object]]:
    """Return a row for each budget and choice of items: of each item its best image over all attacks.

    The row is named after the attack that is best for most items. A single attack has no such row.
    """
    rivals: dict[tuple, list[Experiment]] = {}
    for experiment in trainings.attacked:
        if not is_control(experiment):
            demotes = experiment.objective.startswith(DEMOTE)
            budget = recorded_budget(trainings.first.layout, experiment)
            key = budget, demotes, trainings.ids[experiment].tobytes()
            rivals.setdefault(key, []).append(experiment)
    return [
        _worst_row(trainings, of, demotes) for (_, demotes, _), of in rivals.items() if len(of) > 1
    ]


def _worst_row(
    trainings: Trainings, rivals: Sequence[Experiment], demotes: bool
) -> dict[str, object]:
    best = np.argmin if demotes else np.argmax
    chosen, pushed = [], []
    for of_seeds in zip(*(trainings.pushed[of] for of in rivals), strict=True):
        pushed.append([])
        for of_rivals in zip(*of_seeds, strict=True):
            after = np.stack([of.after for of in of_rivals])
            chosen.append(best(after, axis=0))
            after = np.take_along_axis(after, chosen[-1][None], axis=0)[0]
            pushed[-1].append(replace(of_rivals[0], after=after))
    named = rivals[int(np.bincount(np.concatenate(chosen)).argmax())]
    noise = trainings.noise(named)
    exposed = _exposures(pushed, ANY), noise and _exposures(trainings.pushed[noise], ANY)
    said = {
        "threat": WORST,
        "objective": f"{DEMOTE if demotes else ''}any",
        "scope": "one",
        "popularity": ANY,
        "improved": float(np.mean([(of.after > of.before).mean() for s in pushed for of in s])),
    }
    return _said(trainings, named) | said | _compared(*exposed, ITEM)


def _of_seeds(pushed: PushedByTraining, seeds: Sequence[int]) -> PushedByTraining:
    return [[of[seed] for seed in seeds] for of in pushed]


def _said(trainings: Trainings, experiment: Experiment) -> dict[str, object]:
    subject = trainings.first
    budget = recorded_budget(subject.layout, experiment)
    objective = experiment.objective or "class"
    return {
        "extractor": experiment.extractor,
        "recommender": trainings.recommender,
        "objective": CONTROL if is_control(experiment) else objective,
        "norm": budget[1] if budget else "2",
        "eps": budget[0] if budget else np.nan,
        "k": subject.k,
        "reliance": subject.reliance.lost_hits,
        "items": len(trainings.ids[experiment]),
        "extractor_seeds": len(trainings.subjects),
        "recommender_seeds": len(trainings.subjects[0]),
        "attack": experiment.attack_name,
        "item_ids": tuple(trainings.ids[experiment].tolist()),
        **trainings.progress(experiment),
    }


def _groups(pushed: PushedByTraining) -> list[str]:
    """Return the groups of popularity that every training attacks, if there are several."""
    found = [set(of[0].popularity) for of in pushed]
    common = [name for name in POPULARITIES if all(name in of for of in found)]
    return common if len(set.union(*found)) > 1 else []


def _one(
    pushed: PushedByTraining, noise: PushedByTraining | None, popularity: str
) -> dict[str, object]:
    """Return the effects on items of one popularity, each of which is attacked alone."""

    def mean(value: Callable[[Pushed], np.ndarray]) -> float:
        means = [value(of)[_in_group(of, popularity)].mean() for seeds in pushed for of in seeds]
        return float(np.mean(means))

    exposed = (of and _exposures(of, popularity) for of in (pushed, noise))
    return _compared(*exposed, ITEM) | {
        "items": int(_in_group(pushed[0][0], popularity).sum()),
        "restored": mean(lambda of: of.restored - of.before),
        "place_before": mean(lambda of: of.places[0]),
        "place_after": mean(lambda of: of.places[1]),
        "score_shift": mean(lambda of: of.shift),
        "improved": mean(lambda of: of.after > of.before),
    }


def _in_group(of: Pushed, popularity: str) -> np.ndarray:
    """Return which items have this popularity, (n,) bool."""
    return np.ones(len(of.ids), bool) if popularity == ANY else of.popularity == popularity


def _exposures(pushed: PushedByTraining, popularity: str) -> tuple[np.ndarray, np.ndarray]:
    """Return exposures before and after by training, seed and item.

    Where trainings have other items, the arrays are (trainings, seeds) and have means over items, which
    then are a part of what differs between trainings.
    """
    ids = [of.ids[_in_group(of, popularity)] for seeds in pushed for of in seeds]
    same = all(np.array_equal(of, ids[0]) for of in ids)

    def by_seed(values: np.ndarray, of: Pushed) -> np.ndarray:
        values = values[_in_group(of, popularity)]
        return values if same else values.mean()

    before = np.array([[by_seed(of.before, of) for of in seeds] for seeds in pushed])
    return before, np.array([[by_seed(of.after, of) for of in seeds] for seeds in pushed])


def _listed(pushed: PushedByTraining) -> tuple[np.ndarray, np.ndarray]:
    """Return attacked items in the lists before and after by training, seed and user."""
    before = np.array([[of.listed_before for of in seeds] for seeds in pushed], np.float64)
    return before, np.array([[of.listed for of in seeds] for seeds in pushed], np.float64)


def _compared(
    effect: tuple[np.ndarray, np.ndarray], noise: tuple[np.ndarray, np.ndarray] | None, unit: Factor
) -> dict[str, object]:
    """Return before, after, the change, that of noise, and their difference, with intervals."""
    before, after = effect
    factors = (TRAINING, SEED, unit)[: before.ndim]
    change = nested_interval(after - before, factors)
    row = {"before": before.mean(), "after": after.mean()} | _bounds(change, "change", "")
    row["weakest_level"] = change.weakest_level
    if noise is None:
        return row
    control = noise[1] - noise[0]
    row |= _bounds(nested_interval(control, factors), "control", "control_")
    net = nested_interval(after - before - control, factors)
    row |= _bounds(net, "net", "net_")
    row["verdict"] = verdict(float(net.low), float(net.high), MARGIN)
    return row


def _bounds(interval: Interval, name: str, prefix: str) -> dict[str, object]:
    return {
        name: float(interval.effect),
        f"{prefix}low": float(interval.low),
        f"{prefix}high": float(interval.high),
    }


def _retrained(
    pushed: PushedByTraining, lists: list[list[np.ndarray]], noise: list[list[np.ndarray]] | None
) -> dict[str, object]:
    before, _ = _listed(pushed)
    control = (before, np.array(noise, np.float64)) if noise else None
    return _compared((before, np.array(lists, np.float64)), control, USER)


def promotion_table(trainings: Sequence[Trainings]) -> pd.DataFrame:
    """Return ``promotion.tsv``: the rows of all recommenders and extractors, with indicators."""
    rows = pd.DataFrame([row for of in trainings for row in promotion_rows(of)])
    rows = rows.reindex(columns=[*COLUMNS, "item_ids"])
    rows["indicator"] = indicators(rows)
    rows["verdict"] = rows["verdict"].fillna("").where(evaluated(rows), NOT_EVALUATED)
    return rows[list(COLUMNS)]


def read_promotion(path: Path) -> pd.DataFrame:
    """Read ``promotion.tsv``."""
    numbers = [
        *COLUMNS[COLUMNS.index("k") : COLUMNS.index("indicator")],
        "net",
        "net_low",
        "net_high",
    ]
    table = read_results(path, COLUMNS, text=("norm",), numbers=numbers)
    return table.fillna({"indicator": "", "verdict": "", "weakest_level": ""})
