"""SPSA, the black-box attack of Uesato et al. 2018, from CleverHans.

CleverHans knows classes: it lowers the lead of the best other logit over the target's. It gets a goal of
another kind as two logits, 0 and minus the goal's value, of which the second is the target's.
"""

import math

import torch
from cleverhans.torch.attacks.spsa import spsa
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.goals import ClassGoal


def spsa_attack(
    victim: Victim,
    images: Tensor,
    goal: Goal,
    eps: float,
    steps: int,
    samples: int,
    delta: float,
    order: float,
    learning_rate: float = 0.01,
) -> Tensor:
    """Descend with Adam on gradients estimated from ``samples`` pairs of probes of size ``delta``.

    Costs ``steps * (2 * samples + 1)`` image passes for an image.
    """
    low, high = victim.box or (-math.inf, math.inf)
    knows_classes = isinstance(goal, ClassGoal)
    labels = goal.classes if knows_classes else torch.ones_like(images[:, 0, 0, 0]).long()
    attacked = [
        spsa(
            _Recentred(victim, image, None if knows_classes else goal[row]),
            image,
            eps,
            steps,
            norm=order,
            clip_min=low,
            clip_max=high,
            y=label,
            targeted=goal.targeted if knows_classes else True,
            learning_rate=learning_rate,
            delta=delta,
            spsa_samples=samples,
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
