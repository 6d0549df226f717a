"""PGD that also moves the network's attention away, or keeps it where it was.

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
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.attacks.attack import LEVELS, Goal
from src.attacks.goals import ClassGoal, class_goal
from src.attacks.pgd import inside, pgd
from src.attacks.victim import ExtractorVictim
from src.extractors.attention import Attended, Watched, class_directions, map_distance, normalise

if TYPE_CHECKING:
    from src.attacks.registry import Attention


@dataclass(frozen=True)
class AttentionGoal:
    """Class goal with an attention map that is driven away or kept; it reads predictions with maps."""

    watched: Watched
    goal: ClassGoal
    directions: Tensor
    """Read-outs (N, D) whose maps are compared."""
    clean: Tensor
    """Maps (N, h, w) of the clean images."""
    weight: float
    """Weight of attention: above 0 pushes it away, below 0 keeps it; inf and -inf ignore classes."""

    @classmethod
    def of(
        cls, watched: Watched, images: Tensor, goal: ClassGoal, weight: float
    ) -> "AttentionGoal":
        """Return the goal for images that start at ``images`` (N, 3, H, W)."""
        return cls(watched, goal, *_clean_attention(watched, images, goal), weight)

    def __call__(self, attended: Attended) -> Tensor:
        """Return the value (N,) that the attack makes small."""
        maps = self.watched.attention(attended, self.directions, differentiable=True)
        distance = attention_shift(maps, self.clean)
        if math.isinf(self.weight):
            return -math.copysign(1, self.weight) * distance
        return self.goal(attended) - self.weight * distance

    def missed_by(self, attended: Attended) -> Tensor:
        return self.goal.missed_by(attended)

    def reached(self, attended: Attended, confidence: float = 0.0) -> Tensor:
        return self.goal.reached(attended, confidence)

    def __getitem__(self, rows: Tensor) -> "AttentionGoal":
        return AttentionGoal(
            self.watched, self.goal[rows], self.directions[rows], self.clean[rows], self.weight
        )


def attention_attack(
    attack: "Attention", victim: ExtractorVictim, images: Tensor, goal: Goal
) -> Tensor:
    """Take sign steps in the L-inf ball; return the last iterate.

    ``victim`` shows its maps (``watched``). For the least likely class of an image, the published
    target, make it the class of a targeted goal. A random start is uniform over the ball: at the clean
    image D has no gradient. Raises ``UserError`` for images so small that their map is a single cell,
    which cannot move.
    """
    watched = victim.watched
    noise = attack.radius * (2 * torch.rand_like(images) - 1) if attack.random_start else 0
    attention = AttentionGoal.of(watched, images, class_goal(goal), attack.attention_weight)
    return pgd(
        images,
        lambda points: attention(watched(points)),
        attack.radius,
        attack.step / LEVELS,
        attack.nb_iter,
        box=victim.box,
        start=inside(victim.box)(images + noise),
    )


def attention_shift(first: Tensor, second: Tensor) -> Tensor:
    """Return squared distances (N,) of signed maps (N, h, w) of unit length: 0 equal, 4 opposite."""
    return map_distance(normalise(first, "l2"), normalise(second, "l2"), "l2")


def _clean_attention(watched: Watched, points: Tensor, goal: ClassGoal) -> tuple[Tensor, Tensor]:
    """Return read-outs (N, D) and maps (N, h, w) of the clean images, with one forward.

    The class is the one to be left or, for a targeted goal, the predicted one.
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
