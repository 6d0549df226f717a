"""Projected descent with momentum whose steps become shorter from the first to the last."""

import torch
from torch import Tensor

from src.attacks.apgd import MOMENTUM, into_ball, look, noisy
from src.attacks.attack import Goal, Victim
from src.attacks.pgd import steepest

_LAST_STEP = 0.02
"""Length of the last step, as a share of the first."""


def annealed(
    victim: Victim,
    images: Tensor,
    goal: Goal,
    eps: float,
    steps: int,
    order: float,
    random_start: bool,
) -> Tensor:
    """Return the best point of each image by ``goal.achieved`` within the ball of ``eps``.

    The first step has the length eps, each further one is shorter by the same factor. Costs ``steps`` + 1
    passes.
    """
    project = into_ball(victim, images, eps, order)
    points = project(noisy(images, eps)) if random_start else images
    column = (len(images),) + (1,) * (images.ndim - 1)
    _, best_achieved, gradient = look(victim, points, goal)
    best = previous = points
    for number in range(steps):
        step = eps * _LAST_STEP ** (number / max(steps - 1, 1))
        ahead = project(points - step * steepest(gradient, order))
        ahead = project(points + MOMENTUM * (ahead - points) + (1 - MOMENTUM) * (points - previous))
        previous, points = points, ahead
        _, achieved, gradient = look(victim, points, goal)
        better = achieved > best_achieved
        best = torch.where(better.view(column), points, best)
        best_achieved = torch.where(better, achieved, best_achieved)
    return best
