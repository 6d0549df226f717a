"""NES: descent on slopes that are estimated from the goal's value alone.

Ilyas et al., "Black-box adversarial attacks with limited queries and information", ICML 2018, section 2.
As in their code, slopes are averaged over steps with momentum and steps become shorter; here each is
shorter by the same factor.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.attacks.attack import LEVELS, Goal, Victim
from src.attacks.pgd import Best, inside, into_ball, per_image

if TYPE_CHECKING:
    from src.attacks.registry import NES

_MOMENTUM = 0.9
"""Share of the mean of earlier slopes that a step keeps: one estimate from few probes is mostly noise."""
_LAST_STEP = 0.1
"""Length of the last step, as a share of the first."""


def nes(attack: "NES", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Take sign steps within the L-inf ball; return each image's best point by ``goal.achieved``.

    A slope is the mean over ``pairs`` of normal probes u of u (value(x + sigma u) - value(x - sigma u)),
    scaled to a mean size of 1. A step costs 2 ``pairs`` + 1 queries for an image: its probes, and the
    point that it leads to.
    """
    into_box = inside(victim.box)
    project = into_ball(images, attack.radius, math.inf, victim.box)
    both = goal[torch.arange(len(images), device=images.device).repeat(2)]
    points, mean = images, torch.zeros_like(images)
    steps = attack.queries // (2 * attack.pairs + 1)
    with torch.no_grad():
        best = Best(torch.full_like(images[:, 0, 0, 0], -torch.inf), (images,))
        for number in range(steps):
            slope = torch.zeros_like(images)
            for _ in range(attack.pairs):
                probe = torch.randn_like(images)
                change = attack.sigma * probe
                values = both(victim(into_box(torch.cat([points + change, points - change]))))
                ahead, behind = (per_image(of, images) for of in values.chunk(2))
                slope += (ahead - behind) * probe
            size = slope.abs().flatten(1).mean(dim=1).clamp_min(torch.finfo(slope.dtype).tiny)
            mean = _MOMENTUM * mean + (1 - _MOMENTUM) * slope / per_image(size, images)
            length = attack.first_step / LEVELS * _LAST_STEP ** (number / max(steps - 1, 1))
            points = project(points - length * mean.sign())
            best.update(goal.achieved(victim(points)), points)
    return best.kept[0]
