"""SPSA, the black-box attack of Uesato et al. 2018, by CleverHans."""

import math
from dataclasses import dataclass

import torch
from cleverhans.torch.attacks.spsa import spsa
from torch import Tensor

from src.attacks.goals import Box, Goal, Logits

SPSA_NORMS = (math.inf, 2)


@dataclass(frozen=True)
class SPSA:
    """Adam on gradients estimated from pairs of random probes; only logits are read.

    Costs ``steps * (2 * samples + 1)`` image passes for an image.
    """

    eps: float
    """Radius of the ball in units of the attacked space."""
    steps: int = 100
    samples: int = 128
    """Pairs of probes of one gradient estimate."""
    delta: float = 0.01
    """Size of a probe in units of the attacked space."""
    learning_rate: float = 0.01
    norm: float = math.inf

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        low, high = box or (-math.inf, math.inf)
        attacked = [
            spsa(
                _Recentred(logits, point),
                point,
                self.eps,
                self.steps,
                norm=self.norm,
                clip_min=low,
                clip_max=high,
                y=label,
                targeted=goal.targeted,
                learning_rate=self.learning_rate,
                delta=self.delta,
                spsa_samples=self.samples,
                sanity_checks=False,
            )
            for point, label in zip(points.split(1), goal.classes.split(1), strict=True)
        ]
        return torch.cat(attacked)


class _Recentred:
    """Makes CleverHans probe around the current iterate.

    CleverHans 4.0.0 adds the clean image to its probes twice (cleverhans#1249), so that it estimates
    the gradient at 2x, which does not depend on what the attack has done so far. It asks for two
    kinds of batches in turn: many probes 2x + d, and the one current iterate. The probes are moved
    to (iterate + d); before the first iterate is known, to (x + d).
    """

    def __init__(self, logits: Logits, point: Tensor) -> None:
        self._logits = logits
        self._doubled = 2 * point
        self._iterate = point

    def __call__(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            if len(batch) == 1:
                self._iterate = batch.clone()
                return self._logits(batch)
            return self._logits(batch - self._doubled + self._iterate)
