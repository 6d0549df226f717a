"""Knowledge of an attacker about the recommender that ranks the attacked items."""

import re
from typing import Literal

from src.artifacts.experiments import Experiment, Run
from src.attacks.given import GIVEN
from src.attacks.settings import kind_of
from src.measures.verdicts import CONTROL
from src.recommenders.read_out import weights_text

Threat = Literal[
    "white_box",
    "other_seed",
    "other_recommender",
    "ranks_only",
    "unaware",
    "transfer",
    "retrained",
    "worst",
]
"""Knowledge of the attacker; ``worst`` is the best image of each item over all attacks of a budget."""
WORST: Threat = "worst"
KNOWING_LESS = ("other_recommender", "ranks_only", "unaware", "transfer")
"""Threats that do no more than ``white_box``, unless the latter failed to optimise.

``other_seed`` is left out: attacks do as well on other seeds as on their own, by chance a little better.
"""


def threat_of(experiment: Experiment, run: Run) -> Threat:
    """Return what the attacker of ``experiment`` knew, where the recommender of ``run`` ranks."""
    parts = experiment.parameters.split("_")
    if experiment.attack == GIVEN:
        return "transfer"
    knows = "unaware" if "unaware" in parts else "white_box"
    if not experiment.objective:
        return knows
    own = weights_text(run)
    if experiment.recommender == own:
        return "ranks_only" if kind_of(experiment).asks_places else knows
    same = re.sub(r"-seed\d+$", "", experiment.recommender) == re.sub(r"-seed\d+$", "", own)
    return "other_seed" if same else "other_recommender"


def is_control(experiment: Experiment) -> bool:
    """Return whether the images of ``experiment`` hold noise, of this extractor or another one."""
    given = experiment.attack == GIVEN and CONTROL in experiment.parameters.split("_")
    return experiment.attack == CONTROL or given
