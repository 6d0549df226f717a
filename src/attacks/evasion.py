"""Attacks that stay under the threshold of a detector.

The goal gets a penalty on the detector's score, which grows until an image is under the threshold
(Carlini and Wagner, "Adversarial examples are not easily detected", 2017).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.attack import Attack, Box, Goal, Victim
from src.attacks.settings import PENALTIES
from src.defences.defence import Defence
from src.defences.detectors import Guard
from src.extractors.extractor import Prediction

_MARGIN = 0.95
"""Share of the threshold to stay under: storage in 8 bits moves scores."""
_DETECTED = 1e6


@dataclass(frozen=True)
class Evading:
    """Repetition of ``attack`` with a growing penalty; each image keeps its first undetected result.

    Where none is undetected it is the one with the lowest score.
    """

    attack: Attack
    guard: Guard

    def __call__(self, victim: Victim, images: Tensor, goal: Goal) -> Tensor:
        seen = _Squeezed(victim, self.guard.detector.squeeze)
        best, achieved = images.clone(), torch.full_like(images[:, 0, 0, 0], -torch.inf)
        rows = torch.arange(len(images), device=images.device)
        for weight in PENALTIES:
            evading = EvadingGoal(goal[rows], self.guard, weight)
            attacked = self.attack(seen, images[rows], evading)
            with torch.no_grad():
                prediction = seen(attacked)
                now = evading.achieved(prediction)
                open_rows = ~evading.is_undetected(prediction)
            better = now > achieved[rows]
            best[rows[better]], achieved[rows[better]] = attacked[better], now[better]
            rows = rows[open_rows]
            if len(rows) == 0:
                break
        return best


@dataclass(frozen=True)
class _Squeezed:
    """Victim that predicts the images and, if the detector compares them, their squeezed copies."""

    victim: Victim
    squeeze: Defence | None

    @property
    def box(self) -> Box | None:
        return self.victim.box

    def __call__(self, images: Tensor) -> Prediction:
        if self.squeeze is None:
            return self.victim(images)
        return self.victim(torch.cat([images, self.squeeze(images)]))


@dataclass(frozen=True)
class EvadingGoal:
    """Goal with a penalty of ``weight`` on the share by which the detector's score is too high.

    Predictions are those of ``_Squeezed``: the images' rows, then those of their squeezed copies.
    """

    goal: Goal
    guard: Guard
    weight: float

    def _parts(self, prediction: Prediction) -> tuple[Prediction, Tensor]:
        """Return the images' own prediction, and their scores as shares of the threshold (n,)."""
        detector = self.guard.detector
        n = len(prediction.features) // (1 if detector.squeeze is None else 2)
        logits, features = prediction.logits, prediction.features
        own = Prediction(None if logits is None else logits[:n], features[:n])
        scores = detector.score(own.features, features[n:] if len(features) > n else None)
        return own, scores / self.guard.threshold

    def __call__(self, prediction: Prediction) -> Tensor:
        own, shares = self._parts(prediction)
        return self.goal(own) + self.weight * (shares - _MARGIN).clamp_min(0)

    def is_undetected(self, prediction: Prediction) -> Tensor:
        """Return whether each image is under the threshold, (n,) bool."""
        return self._parts(prediction)[1] <= _MARGIN

    def achieved(self, prediction: Prediction) -> Tensor:
        own, shares = self._parts(prediction)
        return torch.where(shares <= _MARGIN, self.goal.achieved(own), -_DETECTED * shares)

    def missed_by(self, prediction: Prediction) -> Tensor:
        own, shares = self._parts(prediction)
        missed = self.goal.missed_by(own)
        return torch.where(shares <= _MARGIN, missed, missed.clamp_min(0) + shares)

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        own, shares = self._parts(prediction)
        return self.goal.reached(own, confidence) & (shares <= _MARGIN)

    def __getitem__(self, rows: Tensor) -> "EvadingGoal":
        return EvadingGoal(self.goal[rows], self.guard, self.weight)
