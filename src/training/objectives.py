"""Objectives of training adversaries.

An objective reads the inner problem at one point of the descent and returns the value to minimise, one
for each image or triplet, (n,), or a scalar. H is the hardness of a triplet, d(a, p) - d(a, n).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.attacks.least_likely import least_likely, smoothed_cross_entropy
from src.extractors.device import generator_on
from src.extractors.extractor import Prediction
from src.training.distances import distance
from src.training.hardness import divergence, hardness, one_sided, two_sided
from src.training.original import Departure


@dataclass(frozen=True)
class Inner:
    """Inner problem at one point of the descent."""

    points: Prediction
    """Prediction for the perturbed images; for triplets first all anchors (unless these stay), then
    positives, then negatives."""
    benign: Callable[[], Prediction]
    """Function that returns the prediction for the benign images, without gradient."""
    classes: Tensor
    """Class numbers (n,) int64 of the perturbed images."""
    anchors: Tensor | None
    """Benign embeddings (t, d) of the anchors if these are not perturbed."""
    metric: str
    """Metric of the loss: C, E or N."""
    wanted: Tensor | None
    """Hardness H_D (t,) that the triplets shall have; None if the adversary has no destination."""
    generator: torch.Generator
    departure: Departure | None = None
    """Differences of the images' features from those before training; None if no recipe reads them."""

    def triplet(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (t, d) of anchors, positives and negatives."""
        features = self.points.features
        if self.anchors is None:
            anchors, positives, negatives = features.chunk(3)
            return anchors, positives, negatives
        positives, negatives = features.chunk(2)
        return self.anchors, positives, negatives

    def hardness(self) -> Tensor:
        """Hardness H of every triplet, (t,)."""
        return hardness(*self.triplet(), self.metric)


Objective = Callable[[Inner], Tensor]


def misclassify(inner: Inner) -> Tensor:
    """Return -CE (Madry et al., "Towards deep learning models resistant to adversarial attacks")."""
    return -functional.cross_entropy(inner.points.logits, inner.classes, reduction="none")


def resemble_least_likely(inner: Inner) -> Tensor:
    """Return the smoothed CE of the least likely class of the benign image (step-LL, Iter-LL)."""
    return smoothed_cross_entropy(inner.points.logits, least_likely(inner.benign().logits))


def diverge(inner: Inner) -> Tensor:
    """Return -KL(f(x) || f(x')) of the class probabilities (Zhang et al., TRADES, 2019)."""
    log_points = inner.points.logits.log_softmax(dim=1)
    log_benign = inner.benign().logits.log_softmax(dim=1)
    return -functional.kl_div(log_points, log_benign, reduction="none", log_target=True).sum(dim=1)


_NUDGE = 1e-7
"""At x' = x a distance has no direction in which it grows; the target is moved by so much."""


def shift(inner: Inner) -> Tensor:
    """Return -d(f(x'), f(x)), minus the shift of the embedding."""
    target = inner.benign().features
    draws = generator_on(target.device, inner.generator)
    signs = torch.randint(-1, 2, target.shape, generator=draws, device=target.device).to(target)
    return -distance(inner.points.features, target + _NUDGE * signs, inner.metric)


def depart(inner: Inner) -> Tensor:
    """Return -|f'(x') - f(x)|^2, with f the network before training (Schlarmann et al., FARE, 2024)."""
    return -inner.departure(inner.points.features).square().sum(dim=1)


def collapse(inner: Inner) -> Tensor:
    """Return d(p', n'), so that positives and negatives become alike (anti-collapse triplets)."""
    _, positives, negatives = inner.triplet()
    return distance(positives, negatives, inner.metric)


def collapse_all(inner: Inner) -> Tensor:
    """Return all three distances in a triplet (three-body collapse)."""
    anchors, positives, negatives = inner.triplet()
    to_positives = distance(anchors, positives, inner.metric)
    return to_positives + distance(anchors, negatives, inner.metric) + collapse(inner)


def invert(inner: Inner) -> Tensor:
    """Return -H, so that positives move away and negatives closer (min-max)."""
    return -inner.hardness()


def collapse_or_invert(inner: Inner) -> Tensor:
    """Return ``collapse`` or ``invert``, chosen at random in each step (ACAP)."""
    heads = torch.rand((), generator=inner.generator) < 0.5
    return collapse(inner) if heads else invert(inner)


def harden(inner: Inner) -> Tensor:
    """Return max(-H, -H_D), which is ``invert`` until a triplet is hard enough (AMDsemi)."""
    return torch.maximum(-inner.hardness(), -_wanted(inner))


def raise_hardness(inner: Inner) -> Tensor:
    """Return relu(H_D - H)^2, "et" (Zhou and Patel, CVPR 2022); each triplet stops at H_D."""
    return one_sided(inner.hardness(), _wanted(inner))


def match_hardness(inner: Inner) -> Tensor:
    """Return (H - H_D)^2, "l2", which makes easier triplets harder and harder ones easier."""
    return two_sided(inner.hardness(), _wanted(inner))


def match_hardness_shares(inner: Inner) -> Tensor:
    """Return KL(H_D || H) over the triplets of the batch, "kl"; only relative hardness counts.

    Published code feeds the divergence L1-normalised values without a logarithm.
    """
    return divergence(inner.hardness(), _wanted(inner))


def _wanted(inner: Inner) -> Tensor:
    if inner.wanted is None:
        raise ValueError("this objective needs a destination")
    return inner.wanted


HARDNESS_OBJECTIVES: dict[str, Objective] = {
    "et": raise_hardness,
    "l2": match_hardness,
    "kl": match_hardness_shares,
}

INDEPENDENT: frozenset[Objective] = frozenset(
    {collapse, collapse_all, invert, harden, raise_hardness, match_hardness}
)
"""Objectives without chance that give each triplet a value of its own: a triplet whose images do not
move in one step will not move in the next."""
