"""Projected gradient descent for L-inf, L2 and L1, shared by all attacks that descend.

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018. Attacks on
classes, on attention and on rankings and training adversaries bring an objective and, if the defaults do
not suit them, a start, a step and a projection.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.attack import Box
from src.extractors.device import generator_on

Objective = Callable[[Tensor], Tensor]
"""Function of images (N, ...) whose value, (N,) or a scalar, is minimised. An image must not meet
another's gradient, or its perturbation depends on the batch that it is in."""

_TINY = 1e-12


def descend(
    start: Tensor,
    objective: Objective,
    step: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
    steps: int,
) -> Tensor:
    """Take ``steps`` steps down the gradient of ``objective`` from ``start`` (N, ...).

    ``step`` turns a gradient into the change that is subtracted, ``project`` brings the result back to
    the allowed set. Only pixels are differentiated, so that parameters neither need freezing nor get a
    gradient. Returns the last point.
    """
    points = start.detach()
    for _ in range(steps):
        points.requires_grad_()
        (gradient,) = torch.autograd.grad(objective(points).sum(), points)
        points = project(points.detach() - step(gradient))
    return points


def pgd(
    images: Tensor,
    objective: Objective,
    eps: float | Tensor,
    step: float | Tensor,
    steps: int,
    *,
    box: Box | None = (0.0, 1.0),
    start: Tensor | None = None,
) -> Tensor:
    """Descend by sign steps within the L-inf ball of ``eps`` around ``images`` (N, ...).

    Images are float inside ``box``, if there is one; ``eps`` and ``step`` are in the same unit, 1 being
    white; tensors (N, 1, 1, 1) give each image its own. ``start`` replaces ``images`` as the first point.
    """
    into_box = inside(box)
    floor, ceiling = into_box(images - eps), into_box(images + eps)
    return descend(
        images if start is None else start,
        objective,
        lambda gradient: step * gradient.sign(),
        lambda points: torch.clamp(points, floor, ceiling),
        steps,
    )


def steepest(gradient: Tensor, order: float, share: float = 0.0) -> Tensor:
    """Return the step of unit length along which a linear function grows most.

    It rounds like CleverHans. For L1 the ``share`` of coordinates with the largest slopes moves (Tramèr
    and Boneh, "Adversarial training and robustness for multiple perturbations", 2019), all by the same
    length; the largest always moves.
    """
    if order == math.inf:
        return gradient.sign()
    axes = tuple(range(1, gradient.ndim))
    if order == 2:
        square = gradient.square().sum(axes, keepdim=True)
        return gradient / square.clamp_min(_TINY).sqrt()
    slopes = gradient.abs().flatten(1)
    n_moved = max(1, int(share * slopes.shape[1]))
    least = slopes.topk(n_moved, dim=1).values[:, -1]
    moved = (slopes >= least[:, None]).view_as(gradient).float()
    return gradient.sign() * moved / moved.sum(axes, keepdim=True)


def inside(box: Box | None) -> Callable[[Tensor], Tensor]:
    """Return the projection of points into ``box``; None leaves points unchanged."""
    return (lambda points: points) if box is None else (lambda points: points.clamp(*box))


def limit(change: Tensor, eps: float, order: float) -> Tensor:
    """Return the point of the ball of ``eps`` around 0 that is nearest to each ``change`` (N, ...)."""
    if order == math.inf:
        return change.clamp(-eps, eps)
    axes = tuple(range(1, change.ndim))
    if order == 2:
        length = change.square().sum(axes, keepdim=True).clamp_min(_TINY).sqrt()
        return change * (eps / length).clamp_max(1)
    size = change.abs().flatten(1)
    # Duchi et al., "Efficient projections onto the l1-ball", ICML 2008: all entries shrink alike.
    falling = size.sort(dim=1, descending=True).values
    excess = falling.cumsum(dim=1) - eps
    counts = torch.arange(1, size.shape[1] + 1, device=size.device)
    last = (falling * counts > excess).sum(dim=1, keepdim=True).clamp_min(1)
    shrink = (excess.gather(1, last - 1) / last).clamp_min(0)
    return change.sign() * (size - shrink).clamp_min(0).view_as(change)


def into_ball(
    images: Tensor, eps: float, order: float, box: Box | None
) -> Callable[[Tensor], Tensor]:
    """Return the projection of points into the ball of ``eps`` around ``images``, and into ``box``."""
    into_box = inside(box)
    return lambda points: into_box(images + limit(points - images, eps, order))


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Reshape ``values`` (N,), so that each meets all pixels of its image in ``images`` (N, ...)."""
    return values.view(-1, *[1] * (images.ndim - 1))


@dataclass
class Best:
    """Tensors of each image from when its score was highest so far."""

    scores: Tensor
    """Highest scores (N,)."""
    kept: tuple[Tensor, ...]
    """Tensors (N, ...) that belong to them."""

    def update(self, scores: Tensor, *found: Tensor) -> None:
        """Take over the images of ``found`` whose ``scores`` (N,) are higher."""
        better = scores > self.scores
        self.scores = torch.where(better, scores, self.scores)
        self.kept = tuple(
            torch.where(per_image(better, old), new, old)
            for new, old in zip(found, self.kept, strict=True)
        )


def random_start(images: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Return a point that is uniform over the eps-ball, cut to [0, 1]."""
    draws = generator_on(images.device, generator)
    noise = torch.rand(images.shape, generator=draws, device=images.device)
    return (images + eps * (2 * noise - 1)).clamp(0, 1)
