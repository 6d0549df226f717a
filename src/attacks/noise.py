"""Random noise of an attack's size: what any change of that size does, attack or not."""

import torch
from torch import Tensor

from src.attacks.attack import LEVELS, Victim

_BISECTIONS = 40


def sign_noise(victim: Victim, images: Tensor, eps: float) -> Tensor:
    """Every coordinate moves by +eps or -eps with equal chance."""
    noisy = images + eps * (2 * torch.randint_like(images, 2) - 1)
    return noisy if victim.box is None else noisy.clamp(*victim.box)


def sized_noise(images: Tensor, sizes: Tensor, order: int) -> Tensor:
    """Whole grey levels of noise whose L2 or L1 norm is ``sizes`` (N,) levels, or just below.

    The noise is normal (L2) or of Laplace's distribution (L1) before it is rounded up or down by
    chance; ``images`` are pixels in [0, 1], and so is the result. A file holds it as it is: noise that
    is rounded only afterwards would vanish where it is smaller than half a level.
    """
    levels = (images * LEVELS).round()
    noise = torch.randn_like(images)
    if order == 1:
        noise = noise.sign() * torch.empty_like(images).exponential_()
    chance = torch.rand_like(images)

    def changed(scale: Tensor) -> Tensor:
        moved = levels + (scale[:, None, None, None] * noise.abs() + chance).floor() * noise.sign()
        return moved.clamp(0, LEVELS) - levels

    # The norm grows with the scale, so that the largest scale within the size is found by bisection.
    low, high = torch.zeros_like(sizes), sizes.clamp_min(1) * LEVELS
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        fits = changed(middle).flatten(1).norm(order, dim=1) <= sizes
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return ((levels + changed(low)) / LEVELS).clamp(0, 1)
