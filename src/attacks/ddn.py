"""DDN, decoupled direction and norm.

Rony et al., "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and
Defenses", CVPR 2019. Like C&W it looks for the smallest L2 change, in a hundred steps instead of
thousands. Every candidate is rounded to the grey levels that a file can hold before it is judged, so
that an image that succeeds here also succeeds as a file.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.attacks.attack import LEVELS, Goal, Victim
from src.attacks.pgd import Best, per_image

if TYPE_CHECKING:
    from src.attacks.registry import DDN

_GAMMA = 0.05
"""By which share the norm changes at each step."""
_FIRST_NORM = 1.0
"""L2 norm of the first change, in pixels of [0, 1]."""


def ddn(attack: "DDN", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Follow the gradient; the norm of the change shrinks after a success and grows otherwise."""
    if victim.box is None:
        raise ValueError("DDN rounds to the grey levels of a box")
    low, high = victim.box
    furthest = _norm(torch.maximum(images - low, high - images))
    norm = torch.full_like(furthest, _FIRST_NORM)
    best = Best(torch.full_like(norm, -torch.inf), (images.clone(),))
    candidate = images
    for step in range(attack.steps):
        gradient, reached = _descent_direction(victim, candidate, goal)
        distance = _norm(candidate - images)
        best.update(torch.where(reached, -distance, -torch.inf), candidate)

        # Equations 4 to 6 of the paper; alpha falls from 1 to 0.01 along a cosine.
        alpha = 0.01 + 0.99 * (1 + math.cos(math.pi * step / attack.steps)) / 2
        change = candidate - images - alpha * gradient
        norm = norm * torch.where(reached, 1 - _GAMMA, 1 + _GAMMA)
        norm = torch.minimum(norm, furthest)
        change = change * per_image(norm / _norm(change).clamp_min(1e-12), images)
        candidate = _rounded((images + change).clamp(low, high), low, high)
    return best.kept[0]


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
    vanished = per_image(_norm(gradient) == 0, gradient)
    gradient = torch.where(vanished, torch.randn_like(gradient), gradient)
    with torch.no_grad():
        reached = goal.reached(prediction)
    return gradient / per_image(_norm(gradient), gradient), reached


def _norm(images: Tensor) -> Tensor:
    """Return L2 norms (N,)."""
    return images.flatten(1).norm(dim=1)
