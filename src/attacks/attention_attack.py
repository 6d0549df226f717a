"""PGD that minds where the network looks: it drives attention away while it attacks, or keeps it.

Images are taken for another class by descending

    CE(z(x'), target) - weight * D(x, x')       (untargeted: -CE(z(x'), class to leave) - ...),
    D(x, x') = ||n(M_y(x)) - n(M_y(x'))||^2,    n: to unit L2 length, 0 <= D <= 4,

where M_y is the attention map of the class y that the clean image is taken for, on either image. A
positive weight pushes attention away, the preservation loss of "Attention, Please! Adversarial Defense
via Attention Rectification and Preservation" (Wu et al. 2018) turned into an attack. A negative one
keeps it where it was, and so adapts to defences that preserve attention or watch it. At weight inf the
map alone is attacked.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.attacks.goals import Box, Goal, Logits
from src.attacks.pgd import Objective, pgd
from src.extractors.attention import Watched, class_directions, map_distance, normalise


@dataclass(frozen=True)
class AttentionAttack:
    """``steps`` sign steps of size ``step`` within the L-inf ball of ``eps``; the last iterate.

    For the least likely class of an image, the published target, make it the class of a targeted goal.
    Raises ``UserError`` for images so small that their map is a single cell, which cannot move.
    """

    watched: Watched
    """The network under attack; it is called in place of ``logits``."""
    eps: float
    """Radius of the ball in units of the attacked space."""
    step: float
    steps: int = 10
    weight: float = 1.0
    """Above 0 pushes attention away, below 0 keeps it; inf and -inf leave the classes out."""
    random_start: bool = True
    """Start from a uniformly random point of the ball: at the clean image D has no gradient."""

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        del logits  # it has no maps
        low, high = box or (-math.inf, math.inf)
        noise = self.eps * (2 * torch.rand_like(points) - 1) if self.random_start else 0
        return pgd(
            points,
            attention_objective(self.watched, points, goal, self.weight),
            self.eps,
            self.step,
            self.steps,
            low=low,
            high=high,
            start=(points + noise).clamp(low, high),
        )


def attention_objective(watched: Watched, points: Tensor, goal: Goal, weight: float) -> Objective:
    """What the attack makes small, (N,), for images that start at ``points`` (N, 3, H, W)."""
    directions, clean = _clean_attention(watched, points, goal)

    def objective(attacked: Tensor) -> Tensor:
        attended = watched(attacked)
        maps = watched.attention(attended, directions, differentiable=True)
        distance = attention_shift(maps, clean)
        if math.isinf(weight):
            return -math.copysign(1, weight) * distance
        loss = functional.cross_entropy(attended.logits, goal.classes, reduction="none")
        return (loss if goal.targeted else -loss) - weight * distance

    return objective


def attention_shift(first: Tensor, second: Tensor) -> Tensor:
    """Squared distances (N,) of signed maps (N, h, w), each of unit length: 0 equal, 4 opposite."""
    return map_distance(normalise(first, "l2"), normalise(second, "l2"), "l2")


def _clean_attention(watched: Watched, points: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Read-outs (N, D) and maps (N, h, w) of the clean images; one forward.

    Read is the class to be left, or where the goal is another class, the one that is predicted.
    """
    attended = watched(points.detach().requires_grad_())
    classes = attended.logits.argmax(dim=1) if goal.targeted else goal.classes
    directions = class_directions(watched.extractor, classes).detach()
    maps = watched.attention(attended, directions).detach()
    if maps[0].numel() == 1:
        height, width = points.shape[2:]
        raise UserError(
            f"attention of {watched.extractor.arch} on images of {width}x{height} pixels is a single "
            "cell, which cannot move: use larger images (--resize)"
        )
    return directions, maps
