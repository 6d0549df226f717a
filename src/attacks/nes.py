"""NES: descent on slopes that are estimated from the goal's value alone.

Ilyas et al., "Black-box adversarial attacks with limited queries and information", ICML 2018, section 2.
As in their code, slopes are averaged over steps with momentum and steps become shorter; here each is
shorter by the same factor.
"""

import math

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import inside, limit

_MOMENTUM = 0.9
"""Share of the mean of earlier slopes that a step keeps: one estimate from few probes is mostly noise."""
_LAST_STEP = 0.1
"""Length of the last step, as a share of the first."""


def nes(
    victim: Victim,
    images: Tensor,
    goal: Goal,
    eps: float,
    step: float,
    queries: int,
    pairs: int,
    sigma: float,
) -> Tensor:
    """Sign steps within the L-inf ball of ``eps``; each image's best point by ``goal.achieved``.

    A slope is the mean over ``pairs`` of normal probes u of u (value(x + sigma u) - value(x - sigma u)),
    scaled to a mean size of 1. The first step has the length ``step``. A step costs 2 ``pairs`` + 1
    queries for an image: its probes, and the point that it leads to.
    """
    into_box = inside(victim.box)
    both = goal[torch.arange(len(images), device=images.device).repeat(2)]
    column = (-1,) + (1,) * (images.ndim - 1)
    points, best, mean = images, images, torch.zeros_like(images)
    steps = queries // (2 * pairs + 1)
    with torch.no_grad():
        best_achieved = torch.full_like(images[:, 0, 0, 0], -torch.inf)
        for number in range(steps):
            slope = torch.zeros_like(images)
            for _ in range(pairs):
                probe = torch.randn_like(images)
                values = both(
                    victim(into_box(torch.cat([points + sigma * probe, points - sigma * probe])))
                )
                ahead, behind = values.view(2, *column)
                slope += (ahead - behind) * probe
            size = slope.abs().flatten(1).mean(dim=1).clamp_min(torch.finfo(slope.dtype).tiny)
            mean = _MOMENTUM * mean + (1 - _MOMENTUM) * slope / size.view(column)
            length = step * _LAST_STEP ** (number / max(steps - 1, 1))
            change = limit(points - length * mean.sign() - images, eps, math.inf)
            points = into_box(images + change)
            achieved = goal.achieved(victim(points))
            better = achieved > best_achieved
            best = torch.where(better.view(column), points, best)
            best_achieved = torch.where(better, achieved, best_achieved)
    return best
