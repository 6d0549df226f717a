"""Attacks on random defences: EOT, the mean of the goal over draws in one batch.

Athalye et al., "Synthesizing robust adversarial examples", ICML 2018.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from src.attacks.attack import Attack, Box, Goal, Victim
from src.extractors.extractor import Prediction


@dataclass(frozen=True)
class Expected:
    """Attack that sees ``draws`` predictions of each image and the mean of its goal over them.

    The defence draws for each row of a batch, so that one pass of the repeated images holds all draws.
    """

    attack: Attack
    draws: int

    def __call__(self, victim: Victim, images: Tensor, goal: Goal) -> Tensor:
        rows = torch.arange(len(images))
        return self.attack(_Drawn(victim, self.draws), images, MeanGoal(goal, rows, self.draws))


@dataclass(frozen=True)
class _Drawn:
    """Victim that predicts each image ``draws`` times: first all images once, then all again."""

    victim: Victim
    draws: int

    @property
    def box(self) -> Box | None:
        return self.victim.box

    def __call__(self, images: Tensor) -> Prediction:
        return self.victim(images.repeat(self.draws, 1, 1, 1))


@dataclass(frozen=True)
class MeanGoal:
    """Mean of ``goal`` over ``draws`` predictions of each image; ``rows`` are the images' rows in it."""

    goal: Goal
    rows: Tensor
    draws: int

    @cached_property
    def _repeated(self) -> Goal:
        return self.goal[self.rows.repeat(self.draws)]

    def _mean(self, values: Tensor) -> Tensor:
        return values.view(self.draws, -1).mean(dim=0)

    def __call__(self, prediction: Prediction) -> Tensor:
        return self._mean(self._repeated(prediction))

    def achieved(self, prediction: Prediction) -> Tensor:
        return self._mean(self._repeated.achieved(prediction))

    def missed_by(self, prediction: Prediction) -> Tensor:
        return self._mean(self._repeated.missed_by(prediction))

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        """Return whether most draws of an image reach the goal, (n,) bool."""
        return self._mean(self._repeated.reached(prediction, confidence).float()) > 0.5

    def __getitem__(self, rows: Tensor) -> "MeanGoal":
        return MeanGoal(self.goal, self.rows[rows.cpu()], self.draws)
