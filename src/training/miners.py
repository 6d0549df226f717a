"""Miners, which select triplets of a mini-batch for a metric-learning loss or an adversary.

A batch holds pairs [a0, p0, a1, p1, ...] whose two images share a class. Every miner makes one triplet
for each anchor, the even positions in their order, so that triplets of two miners align row by row.
Distances are Euclidean on the unit sphere for every metric of the loss; they carry no gradient.
Definitions follow Zhou and Patel, "Enhancing Adversarial Robustness for Deep Metric Learning", CVPR 2022,
and Roth et al., "Revisiting Training Strategies and Generalization Performance in Deep Metric
Learning", ICML 2020. If a batch holds a single class, a negative is any image of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from src.extractors.device import generator_on
from src.training.distances import pairwise_distances, to_space


class Triplets(NamedTuple):
    """Positions of triplets in a batch, each (t,) int64."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor

    def of(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of (n, ...) as (anchors, positives, negatives), each (t, ...)."""
        return embeddings[self.anchor], embeddings[self.positive], embeddings[self.negative]


Miner = Callable[[Tensor, Tensor, torch.Generator], Triplets]
"""Function of embeddings (n, d) float, classes (n,) int64 and a generator, with even n."""


@dataclass(frozen=True)
class Random:
    """Miner of the partner as the positive and any image of another class as the negative."""

    def __call__(self, embeddings: Tensor, classes: Tensor, generator: torch.Generator) -> Triplets:
        anchors, partners = pairs_of(classes)
        return Triplets(anchors, partners, _draw(generator, _negatives(classes)))


@dataclass(frozen=True)
class Semihard:
    """Miner of a negative farther than the partner by less than ``margin``, or else any negative.

    Schroff et al., "FaceNet", CVPR 2015.
    """

    margin: float = 0.2

    def __call__(self, embeddings: Tensor, classes: Tensor, generator: torch.Generator) -> Triplets:
        anchors, partners = pairs_of(classes)
        negatives, distances = _negatives(classes), _from_anchors(embeddings)
        to_partner = distances.gather(1, partners[:, None])
        semihard = (to_partner < distances) & (to_partner - distances + self.margin > 0)
        return Triplets(anchors, partners, _draw(generator, negatives & semihard, negatives))


@dataclass(frozen=True)
class Softhard:
    """Miner of a negative nearer than the farthest positive, and a positive beyond the nearest negative.

    If there is none, it takes any negative or any positive. ``allow_self`` lets an anchor be its own
    positive, as in the published experiments.
    """

    allow_self: bool = True

    def __call__(self, embeddings: Tensor, classes: Tensor, generator: torch.Generator) -> Triplets:
        anchors, _ = pairs_of(classes)
        negatives, distances = _negatives(classes), _from_anchors(embeddings)
        positives = ~negatives
        if not self.allow_self:
            positives = positives.scatter(1, anchors[:, None], False)
        farthest_positive = distances.where(positives, -torch.inf).amax(dim=1, keepdim=True)
        nearest_negative = distances.where(negatives, torch.inf).amin(dim=1, keepdim=True)
        hard_negatives = negatives & (distances < farthest_positive)
        hard_positives = positives & (distances > nearest_negative)
        return Triplets(
            anchors,
            _draw(generator, hard_positives, positives),
            _draw(generator, hard_negatives, negatives),
        )


@dataclass(frozen=True)
class DistanceWeighted:
    """Miner of negatives at all distances alike, weighted by the inverse density on a sphere.

    Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, without their cut-off. ``switch``
    is the probability that a whole batch uses (a, a, p), in which the partner is the negative, after Roth
    et al.
    """

    switch: float = 0.0

    def __call__(self, embeddings: Tensor, classes: Tensor, generator: torch.Generator) -> Triplets:
        anchors, partners = pairs_of(classes)
        if self.switch and _uniform(1, generator, generator.device) < self.switch:
            return Triplets(anchors, anchors, partners)
        negatives = _negatives(classes)
        weights = _log_inverse_density(_from_anchors(embeddings), embeddings.shape[1])
        # An anchor without negatives has log weights of 0 everywhere, so its negative is any image.
        weights = weights.where(negatives, 0)
        return Triplets(anchors, partners, _draw(generator, negatives, log_weights=weights))


@dataclass(frozen=True)
class Hardest:
    """Miner of the nearest negative, with the partner as the positive."""

    def __call__(self, embeddings: Tensor, classes: Tensor, generator: torch.Generator) -> Triplets:
        anchors, partners = pairs_of(classes)
        negatives, distances = _negatives(classes), _from_anchors(embeddings)
        least = distances.where(negatives, torch.inf).amin(dim=1, keepdim=True)
        return Triplets(anchors, partners, _draw(generator, negatives & (distances == least)))


MINERS: dict[str, Miner] = {
    "random": Random(),
    "semihard": Semihard(),
    "softhard": Softhard(),
    "distance": DistanceWeighted(),
    "distance_switch": DistanceWeighted(switch=0.15),
    "hardest": Hardest(),
}

MINER_LETTERS = {
    "r": "random",
    "m": "semihard",
    "s": "softhard",
    "d": "distance",
    "D": "distance_switch",
    "h": "hardest",
}
"""Letters of miners in the names of published experiments."""


def pairs_of(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return anchors and partners, the even and the odd positions of a batch, each (n / 2,) int64."""
    if len(classes) % 2:
        raise ValueError(f"a batch of pairs has an even length, not {len(classes)}")
    positions = torch.arange(len(classes), device=classes.device)
    return positions[::2], positions[1::2]


def _negatives(classes: Tensor) -> Tensor:
    """Mark the images that have another class than an anchor, (t, n) bool."""
    return classes[::2, None] != classes


@torch.no_grad()
def _from_anchors(embeddings: Tensor) -> Tensor:
    """Return the distances of every image from every anchor, (t, n)."""
    unit = to_space(embeddings, "N")
    return pairwise_distances(unit[::2], unit, "E")


def _log_inverse_density(distances: Tensor, dim: int) -> Tensor:
    """Return -log q(d), float64, where q is the density of distances d of random points on the sphere.

    log q(d) = (D - 2) log d + (D - 3) / 2 log(1 - d^2 / 4) up to a constant, in D = ``dim`` dimensions.
    """
    # The value is infinite at both ends of [0, 2].
    d = distances.double().clamp(1e-3, 2 - 1e-3)
    return (2 - dim) * d.log() - (dim - 3) / 2 * torch.log1p(-d.square() / 4)


def _draw(
    generator: torch.Generator, *candidates: Tensor, log_weights: Tensor | None = None
) -> Tensor:
    """Draw one position of each row, (t,) int64, from its first mask (t, n) bool that is not empty.

    Positions are weighted by ``log_weights`` (t, n) or uniform. If every mask is empty, all positions are
    eligible.
    """
    eligible = torch.ones_like(candidates[0])
    for mask in reversed(candidates):
        eligible = torch.where(mask.any(dim=1, keepdim=True), mask, eligible)
    if log_weights is None:
        weights = eligible.double()
    else:
        weights = log_weights.masked_fill(~eligible, -torch.inf).softmax(dim=1)
    cumulative = weights.cumsum(dim=1)
    thresholds = cumulative[:, -1] * _uniform(len(weights), generator, weights.device)
    # The first position with a cumulative weight above the threshold has a weight above 0.
    return torch.searchsorted(cumulative, thresholds[:, None], right=True).squeeze(1)


def _uniform(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw (n,) float64 in [0, 1)."""
    draws = generator_on(device, generator)
    return torch.rand(n, generator=draws, device=device, dtype=torch.float64)
