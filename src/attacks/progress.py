"""How an attack on a batch went: whether it had a gradient to start with, and when it was at its best."""

import numpy as np
import torch
from torch import Tensor

from src.attacks.attack import Goal
from src.attacks.list_goals import ListGoal
from src.extractors.extractor import Prediction


class Progress:
    """Notes on the images of one batch; what nobody notes is NaN."""

    def __init__(self, n_images: int) -> None:
        self._no_gradient = np.full(n_images, np.nan)
        self._looks = np.empty((0, n_images))

    def note_start(self, gradient: Tensor) -> None:
        """Note which images have a ``gradient`` (n, ...) of zeros, or one that is not finite."""
        if len(gradient) == len(self._no_gradient):
            slopes = gradient.flatten(1)
            usable = slopes.isfinite().all(dim=1) & (slopes != 0).any(dim=1)
            self._no_gradient = (~usable).double().cpu().numpy()

    def note_goal(self, goal: "FollowedGoal") -> None:
        """Note how good the images were whenever the attack looked at them."""
        if looks := goal.compared or goal.looked_at:
            self._looks = torch.stack(looks).double().cpu().numpy()

    def columns(self) -> dict[str, np.ndarray]:
        """Return no_gradient, best_step and last_step, (n,) float64 each; step 0 is the start."""
        n_looks, n_images = self._looks.shape
        best, last = np.full((2, n_images), np.nan)
        if n_looks > 1:
            best, last = self._looks.argmax(axis=0).astype(float), np.full(n_images, n_looks - 1.0)
        return {"no_gradient": self._no_gradient, "best_step": best, "last_step": last}


class FollowedGoal:
    """Goal of an attack on lists that records its values for the whole batch.

    Goals of some rows are not followed: they are those of probes.
    """

    def __init__(self, goal: ListGoal) -> None:
        self._goal = goal
        self.compared: list[Tensor] = []
        """Values of ``achieved``, (n,) each, one for each comparison of images."""
        self.looked_at: list[Tensor] = []
        """Minus the goal's values, (n,) each."""

    def __call__(self, prediction: Prediction) -> Tensor:
        value = self._goal(prediction)
        self.looked_at.append(-value.detach())
        return value

    def achieved(self, prediction: Prediction) -> Tensor:
        achieved = self._goal.achieved(prediction)
        self.compared.append(achieved.detach())
        return achieved

    def missed_by(self, prediction: Prediction) -> Tensor:
        return self._goal.missed_by(prediction)

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        return self._goal.reached(prediction, confidence)

    def __getitem__(self, rows: Tensor) -> Goal:
        return self._goal[rows]
