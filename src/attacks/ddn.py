"""DDN: Rony et al. 2019, "Decoupling Direction and Norm for Efficient Gradient-Based L2
Adversarial Attacks and Defenses".

Looks for the smallest L2 change like C&W, in a hundred steps instead of thousands. Every candidate
is rounded to the grey levels that a file can hold before it is judged, so what succeeds here succeeds
after storage.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.goals import Box, Goal, Logits


@dataclass(frozen=True)
class DDN:
    """The direction follows the gradient; the norm shrinks after a success and grows otherwise."""

    steps: int = 100
    gamma: float = 0.05
    """By which share the norm changes at each step."""
    initial_norm: float = 1.0
    """L2 norm of the first change, in pixels of [0, 1]."""
    levels: int = 256
    """Grey levels between the ends of the box."""

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        if box is None:
            raise ValueError("DDN rounds to the grey levels of a box")
        low, high = box
        furthest = _norm(torch.maximum(points - low, high - points))
        norm = torch.full_like(furthest, self.initial_norm)
        best = points.clone()
        best_distance = torch.full_like(norm, torch.inf)
        candidate = points
        for step in range(self.steps):
            gradient, reached = _descent_direction(logits, candidate, goal)
            distance = _norm(candidate - points)
            better = reached & (distance < best_distance)
            best_distance = torch.where(better, distance, best_distance)
            best = torch.where(_per_pixel(better), candidate, best)

            # Equations 4 to 6 of the paper; alpha falls from 1 to 0.01 along a cosine.
            alpha = 0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2
            change = candidate - points - alpha * gradient
            norm = norm * torch.where(reached, 1 - self.gamma, 1 + self.gamma)
            norm = torch.minimum(norm, furthest)
            change = change * _per_pixel(norm / _norm(change).clamp_min(1e-12))
            candidate = self._rounded((points + change).clamp(low, high), low, high)
        return best

    def _rounded(self, images: Tensor, low: float, high: float) -> Tensor:
        width = (high - low) / (self.levels - 1)
        return ((images - low) / width).round() * (high - low) / (self.levels - 1) + low


def _descent_direction(logits: Logits, candidate: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Unit gradient (N, 3, H, W) of what is to be made small, and whether the goal is reached (N,).

    An image without a gradient gets a random direction.
    """
    candidate = candidate.detach().requires_grad_()
    outputs = logits(candidate).float()
    loss = torch.nn.functional.cross_entropy(outputs, goal.classes, reduction="sum")
    (gradient,) = torch.autograd.grad(loss if goal.targeted else -loss, candidate)
    vanished = _per_pixel(_norm(gradient) == 0)
    gradient = torch.where(vanished, torch.randn_like(gradient), gradient)
    return gradient / _per_pixel(_norm(gradient)), goal.reached(outputs.detach())


def _norm(images: Tensor) -> Tensor:
    """(N,) L2 norms."""
    return images.flatten(1).norm(dim=1)


def _per_pixel(values: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return values[:, None, None, None]
