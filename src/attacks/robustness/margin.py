"""PGD on the margin loss of Carlini and Wagner.

Carlini and Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017 (f6, without
confidence), in the L-inf ball by PGD as in Madry et al., "Towards deep learning models resistant to
adversarial attacks", ICLR 2018.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.goals import Box, Goal, Logits
from src.attacks.pgd import pgd, random_start


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """z_y - max over j != y of z_j, (N,): positive while the class ``classes`` (N,) is predicted."""
    own = logits.gather(1, classes[:, None]).squeeze(1)
    others = logits.scatter(1, classes[:, None], -math.inf)
    return own - others.amax(dim=1)


@dataclass(frozen=True)
class MarginPGD:
    """Descends the margin from a uniformly random point of the ball; untargeted, in pixels."""

    eps: float
    """Radius of the ball, 1 being white."""
    step: float
    steps: int = 50

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        if goal.targeted or box != (0.0, 1.0):
            raise ValueError("the margin attack is untargeted and reads pixels in [0, 1]")
        start = random_start(points, self.eps, torch.default_generator)
        return pgd(
            points,
            lambda moved: margin(logits(moved), goal.classes),
            self.eps,
            self.step,
            self.steps,
            start=start,
        )
