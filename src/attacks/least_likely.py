"""Attacks towards the least likely class: step-LL, R+step-LL and Iter-LL.

step-LL and Iter-LL: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world" and
"Adversarial machine learning at scale", ICLR 2017. R+step-LL: Tramèr et al., "Ensemble adversarial
training", ICLR 2018, with half of the budget for the random step. All are untargeted: they leave the
class of an image for one that they choose themselves.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from src.attacks.attack import Goal, Victim
from src.attacks.goals import untargeted
from src.attacks.pgd import pgd
from src.extractors.device import generator_on

LABEL_SMOOTHING = 0.1
UNBOUNDED = (-math.inf, math.inf)


def least_likely(logits: Tensor) -> Tensor:
    """Return the class with the smallest of the ``logits`` (N, C), (N,) int64."""
    return logits.argmin(dim=1)


def smoothed_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Return cross-entropies (N,), smoothed by 0.1, of ``logits`` (N, C) and ``classes`` (N,) int64."""
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
    """Return a corner of the ball of half the size: x + eps/2 sign(N(0, 1)), cut to [low, high]."""
    draws = generator_on(images.device, generator)
    noise = torch.randn(images.shape, generator=draws, device=images.device)
    return (images + eps / 2 * noise.sign()).clamp(low, high)


def towards_least_likely(
    victim: Victim,
    images: Tensor,
    goal: Goal,
    eps: float,
    step: float,
    steps: int,
    *,
    start: Tensor | None = None,
) -> Tensor:
    """Descend the smoothed cross-entropy of the class that is least likely at ``images`` (N, ...).

    Returns points within ``eps`` of ``images`` and inside the victim's box. ``start`` replaces
    ``images`` as the first iterate; it does not decide which class is least likely. The ``goal`` must be
    untargeted.
    """
    untargeted(goal)
    with torch.no_grad():
        targets = least_likely(victim(images).logits)
    low, high = victim.box or UNBOUNDED
    return pgd(
        images,
        lambda moved: smoothed_cross_entropy(victim(moved).logits, targets),
        eps,
        step,
        steps,
        low=low,
        high=high,
        start=start,
    )


def random_step_towards_least_likely(
    victim: Victim, images: Tensor, goal: Goal, eps: float
) -> Tensor:
    """Take a step-LL of half the size from a random corner of the half ball.

    The class is the least likely one of the clean x. The random step leaves the sharp curvature around x,
    which keeps single-step attacks from succeeding after single-step training.
    """
    low, high = victim.box or UNBOUNDED
    start = half_sign_start(images, eps, torch.default_generator, low=low, high=high)
    return towards_least_likely(victim, images, goal, eps, eps / 2, 1, start=start)
