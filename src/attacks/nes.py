"""NES: descent on slopes that are estimated from the goal's value alone.

Ilyas et al., "Black-box adversarial attacks with limited queries and information", ICML 2018, section 2.
"""

import math

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import inside, limit


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
    up to a factor. A step costs 2 ``pairs`` + 1 queries for an image: its probes, and the point that it
    leads to.
    """
    into_box = inside(victim.box)
    both = goal[torch.arange(len(images), device=images.device).repeat(2)]
    points, best = images, images
    with torch.no_grad():
        best_achieved = torch.full_like(images[:, 0, 0, 0], -torch.inf)
        for _ in range(queries // (2 * pairs + 1)):
            slope = torch.zeros_like(images)
            for _ in range(pairs):
                probe = torch.randn_like(images)
                values = both(
                    victim(into_box(torch.cat([points + sigma * probe, points - sigma * probe])))
                )
                ahead, behind = values.view(2, -1, *[1] * (images.ndim - 1))
                slope += (ahead - behind) * probe
            change = limit(points - step * slope.sign() - images, eps, math.inf)
            points = into_box(images + change)
            achieved = goal.achieved(victim(points))
            better = achieved > best_achieved
            best = torch.where(better.view(-1, *[1] * (images.ndim - 1)), points, best)
            best_achieved = torch.where(better, achieved, best_achieved)
    return best
