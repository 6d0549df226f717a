"""Attacks towards the least likely class: step-LL, R+step-LL and Iter-LL.

step-LL and Iter-LL: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world" and
"Adversarial machine learning at scale", ICLR 2017. R+step-LL: Tramèr et al., "Ensemble adversarial
training", ICLR 2018, with half of the budget for the random step. All are untargeted: they leave the
class of an image for one that they choose themselves.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.attacks.goals import Box, Goal, Logits
from src.attacks.pgd import pgd

LABEL_SMOOTHING = 0.1
_LEVELS = 255
_UNBOUNDED = (-math.inf, math.inf)


def least_likely(logits: Tensor) -> Tensor:
    """(N, C) -> the class with the smallest logit, (N,) int64."""
    return logits.argmin(dim=1)


def smoothed_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy (N,) with label smoothing 0.1 of ``logits`` (N, C) and ``classes`` (N,) int64."""
    return functional.cross_entropy(
        logits, classes, reduction="none", label_smoothing=LABEL_SMOOTHING
    )


def half_sign_start(
    images: Tensor,
    eps: float,
    generator: torch.Generator,
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """A corner of the ball of half the size: x + eps/2 sign(N(0, 1)), cut to [low, high]."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return (images + eps / 2 * noise.sign().to(images.device)).clamp(low, high)


def towards_least_likely(
    logits: Logits,
    points: Tensor,
    eps: float,
    step: float,
    steps: int,
    *,
    box: Box | None = (0.0, 1.0),
    start: Tensor | None = None,
) -> Tensor:
    """Descend the smoothed cross-entropy of the class that is least likely at ``points`` (N, ...).

    Returns points within ``eps`` of ``points`` and inside ``box``. ``start`` replaces ``points`` as the
    first iterate; it has no say in which class is least likely.
    """
    with torch.no_grad():
        targets = least_likely(logits(points))
    low, high = box or _UNBOUNDED
    return pgd(
        points,
        lambda moved: smoothed_cross_entropy(logits(moved), targets),
        eps,
        step,
        steps,
        low=low,
        high=high,
        start=start,
    )


@dataclass(frozen=True)
class StepLL:
    """x' = clip(x - eps sign(grad CE(x, t))), t being the least likely class of x."""

    eps: float
    """Size of the step in units of the attacked space, as of all attacks here."""

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        _require_untargeted(goal)
        return towards_least_likely(logits, points, self.eps, self.eps, 1, box=box)


@dataclass(frozen=True)
class RandomStepLL:
    """step-LL of half the size from a random corner of the half ball; t is that of the clean x.

    The random step leaves the sharp curvature around x, behind which single-step training hides.
    """

    eps: float

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        _require_untargeted(goal)
        low, high = box or _UNBOUNDED
        start = half_sign_start(points, self.eps, torch.default_generator, low=low, high=high)
        return towards_least_likely(logits, points, self.eps, self.eps / 2, 1, box=box, start=start)


@dataclass(frozen=True)
class IterLL:
    """Steps of one grey level towards the class that is least likely at the clean x."""

    eps: float
    step: float = 1 / _LEVELS
    steps: int | None = None
    """None: min(eps + 4, 1.25 eps) with eps in grey levels, rounded up, as the paper chooses."""

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        _require_untargeted(goal)
        steps = self.steps or usual_steps(self.eps)
        return towards_least_likely(logits, points, self.eps, self.step, steps, box=box)


def usual_steps(eps: float) -> int:
    """How many steps of a grey level Iter-LL takes within ``eps`` (1 is white): enough for its edge."""
    levels = round(_LEVELS * eps, 6)
    return math.ceil(min(levels + 4, 1.25 * levels))


def _require_untargeted(goal: Goal) -> None:
    if goal.targeted:
        raise ValueError(
            "these attacks choose their target themselves: the goal must be untargeted"
        )
