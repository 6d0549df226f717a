"""Changing images so that an objective of their embeddings falls: PGD from one or several starts, NES."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.attacks.pgd import Objective, pgd, random_start
from src.attacks.profiles import AttackSpec

_NOISE_SIDE = 32
"""Probes of larger images are noise on a grid of this side, stretched: there are fewer directions."""


@dataclass(frozen=True)
class NES:
    """Gradients estimated from values alone (Ilyas et al. 2018, natural evolution strategies).

    Costs ``samples`` passes a step. Probes come in opposite pairs x + sigma n, x - sigma n, n normal,
    and stay in the ball and in [0, 1].
    """

    samples: int = 100
    sigma: float = 2.0
    """In units of eps."""

    def estimated(
        self, objective: Objective, images: Tensor, eps: float, generator: torch.Generator
    ) -> Objective:
        """A function whose gradient is the estimate; its value means nothing."""
        floor, ceiling = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
        sigma = self.sigma * eps

        def surrogate(points: Tensor) -> Tensor:
            gradient = torch.zeros_like(points)
            with torch.no_grad():
                for _ in range(self.samples // 2):
                    noise = _noise_like(points, generator)
                    up = objective(torch.clamp(points + sigma * noise, floor, ceiling))
                    down = objective(torch.clamp(points - sigma * noise, floor, ceiling))
                    gradient += (up - down).view(-1, *[1] * (points.ndim - 1)) * noise
            return (points * gradient).flatten(1).sum(dim=1)

        return surrogate


def _noise_like(points: Tensor, generator: torch.Generator) -> Tensor:
    *leading, height, width = points.shape
    coarse = (*leading, min(height, _NOISE_SIDE), min(width, _NOISE_SIDE))
    noise = torch.randn(coarse, generator=generator, device=generator.device).to(points.device)
    return noise if noise.shape == points.shape else functional.interpolate(noise, (height, width))


@dataclass(frozen=True)
class Descent:
    """How an attack changes images: its budget and steps, and by which gradients."""

    spec: AttackSpec
    nes: NES | None = None
    """None: by the gradient of the network."""

    def run(
        self, images: Tensor, objective: Objective, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The images (N, ...) of the last step and those of the step before it, in [0, 1].

        Of several restarts each image keeps the one that ends with the smallest objective.
        """
        best_value = torch.full((len(images),), math.inf, device=images.device)
        best = before_best = images
        for start in self._starts(images, generator):
            before, last = self._descend(images, objective, start, generator)
            if self.spec.restarts == 1:
                return last, before
            with torch.no_grad():
                value = objective(last)
            better = (value < best_value).view(-1, *[1] * (images.ndim - 1))
            best, before_best = (
                torch.where(better, new, old) for new, old in ((last, best), (before, before_best))
            )
            best_value = torch.minimum(value, best_value)
        return best, before_best

    def _starts(self, images: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        for number in range(self.spec.restarts):
            clean = number == 0 and self.spec.start == "clean"
            yield images if clean else random_start(images, self.spec.eps, generator)

    def _descend(
        self, images: Tensor, objective: Objective, start: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(before the last step, after it)."""
        eps, step, steps = self.spec.eps, self.spec.step, self.spec.steps
        if self.nes:
            objective = self.nes.estimated(objective, images, eps, generator)
        before = pgd(images, objective, eps, step, steps - 1, start=start)
        return before, pgd(images, objective, eps, step, 1, start=before)
