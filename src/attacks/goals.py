"""What an attack wants, and the space it moves in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Maps points (N, 3, H, W) of the attacked space to logits (N, C), differentiably."""

Box = tuple[float, float]
"""Smallest and largest value that a coordinate may take."""


@dataclass(frozen=True)
class Goal:
    """A class for every image: to be reached (targeted) or to be left (untargeted)."""

    classes: Tensor
    """(N,) int64."""
    targeted: bool = True

    def reached(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """Which images are where the attack wants them, (N,) bool, by a margin of ``confidence``.

        The margin is taken from the target's logit, or added to that of the class to leave, before
        the largest logit is looked for.
        """
        margin = -confidence if self.targeted else confidence
        shifted = logits.scatter_add(
            1, self.classes[:, None], logits.new_full((len(logits), 1), margin)
        )
        return (shifted.argmax(dim=1) == self.classes) == self.targeted

    def __getitem__(self, rows: Tensor) -> "Goal":
        """The goals of some of the images: ``rows`` is an index or a mask."""
        return Goal(self.classes[rows], self.targeted)

    def to(self, device: torch.device) -> "Goal":
        return Goal(self.classes.to(device), self.targeted)


class Attack(Protocol):
    """Moves images towards a goal. The budget and all other parameters belong to the attack itself.

    ``logits`` is called on points of the attacked space and must not need weight gradients (see
    ``freezing.frozen``). ``points`` (N, 3, H, W) float32 are the clean images in that space, ``box``
    bounds its coordinates (None: unbounded). Returns points of the same shape, detached. Random
    choices come from torch's global generator, which the caller seeds.
    """

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor: ...


class CountedLogits:
    """A ``Logits`` that counts the images that pass through it."""

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self.passes = 0
        self.on_pass: Callable[[int], object] | None = None
        """Called with the number of images after each forward, for a progress bar."""

    def __call__(self, points: Tensor) -> Tensor:
        logits = self._logits(points)
        self.count(len(points))
        return logits

    def count(self, images: int) -> None:
        """Note that ``images`` have passed through the network, here or elsewhere."""
        self.passes += images
        if self.on_pass:
            self.on_pass(images)


def predict_reached(logits: Logits, points: Tensor, goal: Goal) -> Tensor:
    """``goal.reached`` of the points as they are, (N,) bool, without gradients."""
    with torch.no_grad():
        return goal.reached(logits(points))
