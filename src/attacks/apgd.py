"""APGD: projected descent with momentum that chooses its own steps.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, section 3.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import inside, limit, steepest

MOMENTUM = 0.75
_FALLING = 0.75
"""The share of steps between two checkpoints that have to lower the goal, or the step is halved."""


def apgd(
    victim: Victim,
    images: Tensor,
    goal: Goal,
    eps: float,
    steps: int,
    order: float,
    random_start: bool,
) -> Tensor:
    """Take ``steps`` steps in the ball of ``eps``; return each image's best point by ``goal.achieved``.

    A step begins at 2 eps and is halved at checkpoints where the goal's value has stopped falling; the
    image goes on from the point of its lowest value then. Each image has its own steps. Costs ``steps``
    + 1 passes.
    """
    project = into_ball(victim, images, eps, order)
    points = project(noisy(images, eps)) if random_start else images
    n = len(images)
    column = (n,) + (1,) * (images.ndim - 1)
    value, achieved, gradient = look(victim, points, goal)
    lowest, lowest_value, lowest_gradient = points, value, gradient
    kept, kept_achieved = points, achieved
    previous = points
    step = images.new_full(column, 2 * eps)
    falls = torch.zeros(n, dtype=torch.int64, device=images.device)
    value_then, halved_then = value, torch.ones(n, dtype=torch.bool, device=images.device)
    checkpoints = checkpoints_of(steps)
    last_checkpoint = 0
    for number in range(1, steps + 1):
        ahead = project(points - step * steepest(gradient, order))
        if number > 1:
            ahead = project(
                points + MOMENTUM * (ahead - points) + (1 - MOMENTUM) * (points - previous)
            )
        previous, points, value_before = points, ahead, value
        value, achieved, gradient = look(victim, points, goal)

        better = (achieved > kept_achieved).view(column)
        kept = torch.where(better, points, kept)
        kept_achieved = torch.maximum(achieved, kept_achieved)
        falls += value < value_before
        lower = value < lowest_value
        lowest = torch.where(lower.view(column), points, lowest)
        lowest_gradient = torch.where(lower.view(column), gradient, lowest_gradient)
        lowest_value = torch.minimum(value, lowest_value)

        if number in checkpoints:
            stuck = ~halved_then & (lowest_value >= value_then)
            halve = (falls < _FALLING * (number - last_checkpoint)) | stuck
            chosen = halve.view(column)
            step = torch.where(chosen, step / 2, step)
            points = torch.where(chosen, lowest, points)
            gradient = torch.where(chosen, lowest_gradient, gradient)
            value = torch.where(halve, lowest_value, value)
            value_then, halved_then = lowest_value, halve
            falls.zero_()
            last_checkpoint = number
    return kept


def checkpoints_of(steps: int) -> set[int]:
    """The steps after which APGD looks back: 22 % of them, then ever closer, 6 % at the least."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {math.ceil(round(share * steps, 6)) for share in shares[1:-1]}


def into_ball(
    victim: Victim, images: Tensor, eps: float, order: float
) -> Callable[[Tensor], Tensor]:
    """Return the projection of points into the box of the victim and the ball around ``images``."""
    into_box = inside(victim.box)
    return lambda points: into_box(images + limit(points - images, eps, order))


def noisy(images: Tensor, eps: float) -> Tensor:
    """Return ``images`` with noise that is uniform within ``eps`` at every coordinate."""
    return images + torch.zeros_like(images).uniform_(-eps, eps)


def look(victim: Victim, points: Tensor, goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
    """Return the goal's value (n,) at ``points``, what is achieved (n,), and the value's gradient."""
    points = points.detach().requires_grad_()
    prediction = victim(points)
    value = goal(prediction)
    (gradient,) = torch.autograd.grad(value.sum(), points)
    with torch.no_grad():
        achieved = goal.achieved(prediction)
    return value.detach(), achieved, gradient
