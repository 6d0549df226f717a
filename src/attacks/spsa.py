"""SPSA, the black-box attack of Uesato et al. 2018, from CleverHans.

CleverHans knows classes: it lowers the lead of the best other logit over the target's. It gets a goal of
another kind as two logits, 0 and minus the goal's value, of which the second is the target's.
"""

import math
from typing import TYPE_CHECKING

import torch
from cleverhans.torch.attacks.spsa import spsa
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.goals import ClassGoal

if TYPE_CHECKING:
    from src.attacks.registry import SPSA

_LEARNING_RATE = 0.01
"""Learning rate of Adam, CleverHans' default."""


def spsa_attack(attack: "SPSA", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Descend with Adam on gradients that are estimated from pairs of probes."""
    low, high = victim.box or (-math.inf, math.inf)
    knows_classes = isinstance(goal, ClassGoal)
    labels = goal.classes if knows_classes else torch.ones_like(images[:, 0, 0, 0]).long()
    attacked = [
        spsa(
            _Recentred(victim, image, None if knows_classes else goal[row]),
            image,
            attack.radius,
            attack.nb_iter,
            norm=attack.budget.order,
            clip_min=low,
            clip_max=high,
            y=label,
            targeted=goal.targeted if knows_classes else True,
            learning_rate=_LEARNING_RATE,
            delta=attack.delta,
            spsa_samples=attack.batch_size,
            sanity_checks=False,
        )
        for row, image, label in zip(
            torch.arange(len(images)).split(1), images.split(1), labels.split(1), strict=True
        )
    ]
    return torch.cat(attacked)


class _Recentred:
    """Victim that makes CleverHans probe around the current iterate.

    CleverHans 4.0.0 adds the clean image to its probes twice (cleverhans#1249), so that it estimates
    the gradient at 2x, which does not depend on the steps taken so far. It asks for two
    kinds of batches in turn: many probes 2x + d, and the one current iterate. The probes are moved
    to (iterate + d); before the first iterate is known, to (x + d).
    """

    def __init__(self, victim: Victim, point: Tensor, goal: Goal | None) -> None:
        """Use the ``goal`` of the single image at ``point``; with None the goal is its class."""
        self._victim = victim
        self._goal = goal
        self._doubled = 2 * point
        self._iterate = point

    def __call__(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            if len(batch) == 1:
                self._iterate = batch.clone()
                return self._logits(batch)
            return self._logits(batch - self._doubled + self._iterate)

    def _logits(self, batch: Tensor) -> Tensor:
        prediction = self._victim(batch)
        if self._goal is None:
            return prediction.logits
        value = self._goal[torch.zeros(len(batch), dtype=torch.long)](prediction)
        return torch.stack([torch.zeros_like(value), -value], dim=1)
