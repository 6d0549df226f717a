"""Attacked experiments as stage 3 recorded them: items, budget, success."""

import re

import numpy as np

from src.artifacts.attack_report import read_attack_report
from src.artifacts.classes import read_attacked_classes
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record
from src.metrics import attack as attack_metrics

_EPS = re.compile(r"eps([\d.]+)(?:_|$)")
_NORM = re.compile(r"_l(inf|[\d.]+)(?:_|$)")


def recorded_budget(layout: Layout, experiment: Experiment) -> tuple[float, str] | None:
    """Return (eps in grey levels, norm) as stage 3 recorded them, or else as the name has them."""
    options = read_record(layout.classes(experiment)).get("options", {})
    if "budget" not in options:
        return budget_of(experiment)
    budget = options["budget"]
    return budget and (budget["eps"], budget["norm"])


def budget_of(experiment: Experiment) -> tuple[float, str] | None:
    """Return (eps in grey levels, norm) as the name has them; None without a budget.

    The norm is L-inf if none is named.
    """
    eps = _EPS.match(experiment.parameters)
    norm = _NORM.search(experiment.parameters)
    return (float(eps[1]), norm[1] if norm else "inf") if eps else None


def resembles(layout: Layout, noise: Experiment, experiment: Experiment) -> bool:
    """Return whether ``noise`` has, image by image, the size of the changes of ``experiment``."""
    parameters = read_record(layout.classes(noise)).get("options", {}).get("parameters", {})
    liked = parameters.get("like") or noise.parameters.removeprefix("like_")
    parts = (experiment.attack, experiment.objective, experiment.parameters)
    same_target = noise.target == experiment.target or experiment.objective
    return liked == "_".join(filter(None, parts)) and bool(same_target)


def read_success(layout: Layout, experiment: Experiment) -> np.ndarray:
    """Return whether the attack reached its goal with each stored image: (n,) of 1, 0 and NaN.

    An attack without a target succeeds where the class is no longer the origin, one on lists where more
    users are shown the item. NaN stands for images whose goal nobody named.
    """
    if experiment.objective:
        table = read_attack_report(layout.attack_report(experiment), needs=["success"])
        return table["success"].to_numpy(np.float64)
    attacked, _ = read_attacked_classes(layout.classes(experiment))
    if experiment.target is None:
        return (attacked.classes != experiment.origin).astype(np.float64)
    return (attacked.classes == experiment.target).astype(np.float64)


def attack_outcome(layout: Layout, experiment: Experiment) -> tuple[float, float]:
    """Return (success rate in percent, mean squared feature loss) of an attack; NaN if files lack."""
    if not layout.classes(experiment).is_file():
        return np.nan, np.nan
    success = 100 * read_success(layout, experiment).mean()
    clean_file, attacked_file = layout.features(experiment.clean), layout.features(experiment)
    if not (clean_file.is_file() and attacked_file.is_file()):
        return success, np.nan
    clean = read_features(clean_file)
    features = read_features(attacked_file, len(clean))
    ids = read_attacked_classes(layout.classes(experiment))[0].image_ids
    mse, _ = attack_metrics.feature_loss(clean[ids], features[ids])
    return success, float(mse.mean())


def measurable(layout: Layout) -> list[Experiment]:
    """Return the attacked experiments of a data set whose images and features stage 3 has reported."""
    return [
        of
        for of in layout.attacked_experiments()
        if layout.attack_report(of).is_file() and layout.features(of).is_file()
    ]


def attacked_ids(layout: Layout, experiment: Experiment) -> np.ndarray:
    """Return the items (n,) int64 that an experiment attacks, ascending."""
    return np.sort(read_attack_report(layout.attack_report(experiment))["image"].to_numpy())
