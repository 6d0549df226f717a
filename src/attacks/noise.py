"""Random noise of an attack's size: what any change of that size does, attack or not."""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.goals import Box, Goal, Logits


@dataclass(frozen=True)
class Noise:
    """Every coordinate moves by +eps or -eps with equal chance; the goal is not looked at."""

    eps: float
    """Size of the change in units of the attacked space."""

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        del logits, goal  # a control knows neither
        noisy = points + self.eps * (2 * torch.randint_like(points, 2) - 1)
        return noisy if box is None else noisy.clamp(*box)
