"""Random noise of an attack's size, the control that shows the effect of any change of that size."""

import torch
from torch import Tensor

from src.attacks.attack import LEVELS, Victim
from src.attacks.pgd import inside, per_image

_BISECTIONS = 40


def sign_noise(victim: Victim, images: Tensor, eps: float) -> Tensor:
    """Add +eps or -eps to every coordinate with equal probability."""
    return inside(victim.box)(images + eps * (2 * torch.randint_like(images, 2) - 1))


def sized_noise(images: Tensor, sizes: Tensor, order: int) -> Tensor:
    """Add noise in whole grey levels with an L2 or L1 norm of ``sizes`` (N,) levels, or just below.

    The noise is normal (L2) or has Laplace's distribution (L1) before it is randomly rounded up or
    down; ``images`` and the result are pixels in [0, 1]. A file holds the result unchanged. Noise that
    is rounded to the nearest level instead would vanish if it is smaller than half a level.
    """
    levels = (images * LEVELS).round()
    noise = torch.randn_like(images)
    if order == 1:
        noise = noise.sign() * torch.empty_like(images).exponential_()
    chance = torch.rand_like(images)

    def changed(scale: Tensor) -> Tensor:
        moved = levels + (per_image(scale, images) * noise.abs() + chance).floor() * noise.sign()
        return moved.clamp(0, LEVELS) - levels

    # The norm grows with the scale, so that the largest scale within the size is found by bisection.
    low, high = torch.zeros_like(sizes), sizes.clamp_min(1) * LEVELS
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        fits = changed(middle).flatten(1).norm(order, dim=1) <= sizes
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return ((levels + changed(low)) / LEVELS).clamp(0, 1)
