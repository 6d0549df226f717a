"""SPSA, the black-box attack of Uesato et al. 2018, by CleverHans."""

import math

import torch
from cleverhans.torch.attacks.spsa import spsa
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.goals import class_goal


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
    """Adam on gradients estimated from ``samples`` pairs of probes of size ``delta``, logits alone read.

    Costs ``steps * (2 * samples + 1)`` image passes for an image.
    """
    low, high = victim.box or (-math.inf, math.inf)
    goal = class_goal(goal)
    attacked = [
        spsa(
            _Recentred(victim, image),
            image,
            eps,
            steps,
            norm=order,
            clip_min=low,
            clip_max=high,
            y=label,
            targeted=goal.targeted,
            learning_rate=learning_rate,
            delta=delta,
            spsa_samples=samples,
            sanity_checks=False,
        )
        for image, label in zip(images.split(1), goal.classes.split(1), strict=True)
    ]
    return torch.cat(attacked)


class _Recentred:
    """Makes CleverHans probe around the current iterate.

    CleverHans 4.0.0 adds the clean image to its probes twice (cleverhans#1249), so that it estimates
    the gradient at 2x, which does not depend on what the attack has done so far. It asks for two
    kinds of batches in turn: many probes 2x + d, and the one current iterate. The probes are moved
    to (iterate + d); before the first iterate is known, to (x + d).
    """

    def __init__(self, victim: Victim, point: Tensor) -> None:
        self._victim = victim
        self._doubled = 2 * point
        self._iterate = point

    def __call__(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            if len(batch) == 1:
                self._iterate = batch.clone()
                return self._victim(batch).logits
            return self._victim(batch - self._doubled + self._iterate).logits
