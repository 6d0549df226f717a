"""Minimisation of an objective of embeddings over images: PGD from one or several starts, NES."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.attacks.pgd import Best, Objective, per_image, pgd, random_start
from src.attacks.profiles import AttackSpec
from src.extractors.device import generator_on

_NOISE_SIDE = 32
"""Side of the grid of noise that is enlarged to probes of larger images, to have fewer directions."""


@dataclass(frozen=True)
class NES:
    """Estimation of gradients from values (Ilyas et al. 2018, natural evolution strategies).

    A step costs ``samples`` passes. Probes are opposite pairs x + sigma n, x - sigma n with normal n,
    clamped to the ball and to [0, 1].
    """

    samples: int = 100
    sigma: float = 2.0
    """Standard deviation of probes in units of eps."""

    def estimated(
        self, objective: Objective, images: Tensor, eps: float, generator: torch.Generator
    ) -> Objective:
        """Return a function whose gradient is the estimate; its value has no meaning."""
        floor, ceiling = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
        sigma = self.sigma * eps

        def surrogate(points: Tensor) -> Tensor:
            gradient = torch.zeros_like(points)
            with torch.no_grad():
                for _ in range(self.samples // 2):
                    noise = _noise_like(points, generator)
                    up = objective(torch.clamp(points + sigma * noise, floor, ceiling))
                    down = objective(torch.clamp(points - sigma * noise, floor, ceiling))
                    gradient += per_image(up - down, points) * noise
            return (points * gradient).flatten(1).sum(dim=1)

        return surrogate


def _noise_like(points: Tensor, generator: torch.Generator) -> Tensor:
    *leading, height, width = points.shape
    coarse = (*leading, min(height, _NOISE_SIDE), min(width, _NOISE_SIDE))
    draws = generator_on(points.device, generator)
    noise = torch.randn(coarse, generator=draws, device=points.device)
    return noise if noise.shape == points.shape else functional.interpolate(noise, (height, width))


@dataclass(frozen=True)
class Descent:
    """Minimisation with the budget and steps of an attack and a source of gradients."""

    spec: AttackSpec
    nes: NES | None = None
    """Estimation of gradients; None for the exact gradient of the network."""

    def run(
        self, images: Tensor, objective: Objective, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the images (N, ...) after the last step and before it, in [0, 1].

        With several restarts, each image keeps the restart with the smallest final objective.
        """
        worst = torch.full((len(images),), -math.inf, device=images.device)
        best = Best(worst, (images, images))
        for start in self._starts(images, generator):
            before, last = self._descend(images, objective, start, generator)
            if self.spec.restarts == 1:
                return last, before
            with torch.no_grad():
                best.update(-objective(last), last, before)
        return best.kept

    def _starts(self, images: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        for number in range(self.spec.restarts):
            clean = number == 0 and self.spec.start == "clean"
            yield images if clean else random_start(images, self.spec.eps, generator)

    def _descend(
        self, images: Tensor, objective: Objective, start: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the images before and after the last step."""
        eps, step, steps = self.spec.eps, self.spec.step, self.spec.steps
        if self.nes:
            objective = self.nes.estimated(objective, images, eps, generator)
        before = pgd(images, objective, eps, step, steps - 1, start=start)
        return before, pgd(images, objective, eps, step, 1, start=before)
