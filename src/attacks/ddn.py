"""DDN, decoupled direction and norm.

Rony et al., "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and
Defenses", CVPR 2019. Like C&W it looks for the smallest L2 change, in a hundred steps instead of
thousands. Every candidate is rounded to the grey levels that a file can hold before it is judged, so
that an image that succeeds here also succeeds as a file.
"""

import math

import torch
from torch import Tensor

from src.attacks.attack import LEVELS, Goal, Victim

_GAMMA = 0.05
"""By which share the norm changes at each step."""
_FIRST_NORM = 1.0
"""L2 norm of the first change, in pixels of [0, 1]."""


def ddn(victim: Victim, images: Tensor, goal: Goal, steps: int) -> Tensor:
    """Follow the gradient; the norm of the change shrinks after a success and grows otherwise."""
    if victim.box is None:
        raise ValueError("DDN rounds to the grey levels of a box")
    low, high = victim.box
    furthest = _norm(torch.maximum(images - low, high - images))
    norm = torch.full_like(furthest, _FIRST_NORM)
    best = images.clone()
    best_distance = torch.full_like(norm, torch.inf)
    candidate = images
    for step in range(steps):
        gradient, reached = _descent_direction(victim, candidate, goal)
        distance = _norm(candidate - images)
        better = reached & (distance < best_distance)
        best_distance = torch.where(better, distance, best_distance)
        best = torch.where(_per_pixel(better), candidate, best)

        # Equations 4 to 6 of the paper; alpha falls from 1 to 0.01 along a cosine.
        alpha = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        change = candidate - images - alpha * gradient
        norm = norm * torch.where(reached, 1 - _GAMMA, 1 + _GAMMA)
        norm = torch.minimum(norm, furthest)
        change = change * _per_pixel(norm / _norm(change).clamp_min(1e-12))
        candidate = _rounded((images + change).clamp(low, high), low, high)
    return best


def _rounded(images: Tensor, low: float, high: float) -> Tensor:
    """Round ``images`` to the grey levels between the ends of the box."""
    width = (high - low) / LEVELS
    return ((images - low) / width).round() * (high - low) / LEVELS + low


def _descent_direction(victim: Victim, candidate: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Return unit gradients (N, 3, H, W) of the goal's value, and whether it is reached (N,).

    An image without a gradient gets a random direction.
    """
    candidate = candidate.detach().requires_grad_()
    prediction = victim(candidate)
    (gradient,) = torch.autograd.grad(goal(prediction).sum(), candidate)
    vanished = _per_pixel(_norm(gradient) == 0)
    gradient = torch.where(vanished, torch.randn_like(gradient), gradient)
    with torch.no_grad():
        reached = goal.reached(prediction)
    return gradient / _per_pixel(_norm(gradient)), reached


def _norm(images: Tensor) -> Tensor:
    """Return L2 norms (N,)."""
    return images.flatten(1).norm(dim=1)


def _per_pixel(values: Tensor) -> Tensor:
    """Reshape (N,) to (N, 1, 1, 1)."""
    return values[:, None, None, None]
