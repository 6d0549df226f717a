"""The one engine of projected gradient descent within an L-inf ball.

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018. Whoever
perturbs images (training adversaries, attacks on rankings, on attention) brings an objective.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]
"""Images (N, ...) -> what is to be made small, (N,) or a scalar. Images must not meet each other's
gradient, or their perturbations depend on the batch they are in."""


def pgd(
    images: Tensor,
    objective: Objective,
    eps: float | Tensor,
    step: float | Tensor,
    steps: int,
    *,
    low: float = 0.0,
    high: float = 1.0,
    start: Tensor | None = None,
    tolerance: float = 0.0,
) -> Tensor:
    """Descend ``objective`` by ``steps`` sign steps; returns images within ``eps`` of ``images``.

    ``images`` (N, ...) float in [low, high]; ``eps`` and ``step`` in the same unit, 1 being white; as
    tensors (N, 1, 1, 1) each image has its own.
    ``start`` replaces ``images`` as the first point. Only pixels are differentiated, so that
    parameters neither need freezing nor get a gradient. A positive ``tolerance`` ends the descent when
    the mean objective has moved by less since the step before.
    """
    floor, ceiling = (images - eps).clamp_min(low), (images + eps).clamp_max(high)
    points = (images if start is None else start).detach()
    before = None
    for _ in range(steps):
        points.requires_grad_()
        values = objective(points)
        (gradient,) = torch.autograd.grad(values.sum(), points)
        points = torch.clamp(points.detach() - step * gradient.sign(), floor, ceiling)
        if tolerance:
            now = values.detach().mean()
            if before is not None and (now - before).abs() < tolerance:
                break
            before = now
    return points


def random_start(images: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """A point that is uniform over the eps-ball, cut to [0, 1]."""
    noise = torch.rand(images.shape, generator=generator, device=generator.device)
    return (images + eps * (2 * noise.to(images.device) - 1)).clamp(0, 1)
