"""Attacks towards the least likely class: step-LL, R+step-LL and Iter-LL.

step-LL and Iter-LL: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world" and
"Adversarial machine learning at scale", ICLR 2017. R+step-LL: Tramèr et al., "Ensemble adversarial
training", ICLR 2018, with half of the budget for the random step. All are untargeted: they leave the
class of an image for one that they choose themselves.
"""

import torch
from torch import Tensor
from torch.nn import functional

from src.attacks.attack import Box, Goal, Victim
from src.attacks.goals import untargeted
from src.attacks.pgd import inside, pgd
from src.extractors.device import generator_on

LABEL_SMOOTHING = 0.1


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
    box: Box | None = (0.0, 1.0),
) -> Tensor:
    """Return a corner of the ball of half the size: x + eps/2 sign(N(0, 1)), cut to ``box``."""
    draws = generator_on(images.device, generator)
    noise = torch.randn(images.shape, generator=draws, device=images.device)
    return inside(box)(images + eps / 2 * noise.sign())


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
    return pgd(
        images,
        lambda moved: smoothed_cross_entropy(victim(moved).logits, targets),
        eps,
        step,
        steps,
        box=victim.box,
        start=start,
    )


def random_step_towards_least_likely(
    victim: Victim, images: Tensor, goal: Goal, eps: float
) -> Tensor:
    """Take a step-LL of half the size from a random corner of the half ball.

    The class is the least likely one of the clean x. The random step leaves the sharp curvature around x,
    which keeps single-step attacks from succeeding after single-step training.
    """
    start = half_sign_start(images, eps, torch.default_generator, box=victim.box)
    return towards_least_likely(victim, images, goal, eps, eps / 2, 1, start=start)
