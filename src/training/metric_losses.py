"""Losses of metric learning, as pure functions of embeddings.

Losses of triplets read (anchor, positive, negative) embeddings row by row, which an adversary may have
perturbed. The others compare a whole batch of pairs (see ``miners``). Without a ``margin`` each loss uses
its published one. ``METRIC_LOSSES`` gives all losses one signature. Definitions follow Zhou and Patel,
"Enhancing Adversarial Robustness for Deep Metric Learning", CVPR 2022, and Roth et al., "Revisiting
Training Strategies and Generalization Performance in Deep Metric Learning", ICML 2020, besides the papers
named below.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from pytorch_metric_learning.losses import AngularLoss, NCALoss
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError, choose_from
from src.training.distances import distance, pairwise_distances, to_space
from src.training.miners import Triplets

Reduction = Literal["mean", "sum", "none"]

NORM_WEIGHT = 0.005
"""Weight of the term that keeps embeddings of any length small."""

LEARNT_LR = 5e-4
"""Learning rate of plain SGD for the parameters of a loss."""


def default_margin(metric: str) -> float:
    """Return 0.2 for distances of at most 2, and 1 for Euclidean distances of unbounded embeddings."""
    return 1.0 if metric == "E" else 0.2


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    metric: str = "N",
    margin: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return relu(d(a, p) - d(a, n) + margin) of embeddings (t, d) row by row, margin >= 0.

    Schroff et al., "FaceNet", CVPR 2015.
    """
    margin = default_margin(metric) if margin is None else margin
    hinge = (
        distance(anchor, positive, metric) - distance(anchor, negative, metric) + margin
    ).relu()
    if reduction == "none":
        return hinge
    return hinge.sum() if reduction == "sum" else hinge.mean()


def triplet_loss_detached_anchor(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    metric: str = "N",
    margin: float | None = None,
) -> Tensor:
    """Return ``triplet_loss`` with gradients only for positives and negatives."""
    return triplet_loss(anchor.detach(), positive, negative, metric, margin)


def contrastive_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    metric: str = "N",
    margin: float | None = None,
) -> Tensor:
    """Return mean d(a, p) plus the mean of relu(margin - d(a, n)) over triplets in which it is not 0.

    The published margin is 1. Hadsell et al., CVPR 2006. For C the second mean is over all triplets,
    which is the cosine embedding loss and makes negatives orthogonal.
    """
    margin = 1.0 if margin is None else margin
    push = (margin - distance(anchor, negative, metric)).relu()
    return distance(anchor, positive, metric).mean() + (
        push.mean() if metric == "C" else _mean_active(push)
    )


def margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    metric: str = "N",
    margin: float | None = None,
    beta: Tensor | float = 0.6,
) -> Tensor:
    """Return the means of relu(d(a, p) - beta + margin) and relu(beta - d(a, n) + margin), added up.

    Each mean is over the values that are not 0; the published margin is 0.2. Wu et al., "Sampling Matters
    in Deep Embedding Learning", ICCV 2017; ``beta`` () is learnt.
    """
    margin = 0.2 if margin is None else margin
    pull = (distance(anchor, positive, metric) - beta + margin).relu()
    push = (beta - distance(anchor, negative, metric) + margin).relu()
    return _mean_active(pull) + _mean_active(push)


def snr_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    metric: str = "N",
    margin: float | None = None,
) -> Tensor:
    """Return the mean of relu((var(a - p) - var(a - n)) / var(a) + margin), plus 0.005 |sum a|.

    The first mean is over the values that are not 0; the published margin is 0.2. Yuan et al.,
    "Signal-to-Noise Ratio: A Robust Distance Metric for Deep Metric Learning", CVPR 2019. Variances are
    over the dimensions of an embedding, which for C and N has unit length.
    """
    margin = 0.2 if margin is None else margin
    a, p, n = (to_space(embeddings, metric) for embeddings in (anchor, positive, negative))
    noise = (a - p).var(dim=1) - (a - n).var(dim=1)
    return _mean_active((noise / a.var(dim=1) + margin).relu()) + (
        NORM_WEIGHT * a.sum(dim=1).abs().mean()
    )


def quadruplet_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "N",
    margin: float | None = None,
) -> Tensor:
    """Return ``triplet_loss`` plus the mean of relu(d(a, p) - d(n, n2) + margin / 2).

    Chen et al., "Beyond triplet loss", CVPR 2017. Labels of a, n and n2 all differ; n2 is the next such
    image after n in the batch, whose order is random. A batch of two classes lacks the second term.
    """
    margin = default_margin(metric) if margin is None else margin
    second, exists = second_negatives(classes, triplets)
    anchor, positive, negative = triplets.of(embeddings)
    hinge = triplet_loss(anchor, positive, negative, metric, margin)
    to_second = distance(negative, embeddings[second], metric)
    push = (distance(anchor, positive, metric) - to_second + margin / 2).relu()
    return hinge + (push * exists).mean()


def second_negatives(classes: Tensor, triplets: Triplets) -> tuple[Tensor, Tensor]:
    """Find the next image of a third class: (positions (t,) int64, whether there is one (t,) bool).

    The search starts after the negative and continues from the start of the batch after its end.
    """
    third = (classes[triplets.anchor, None] != classes) & (
        classes[triplets.negative, None] != classes
    )
    ahead = (torch.arange(len(classes), device=classes.device) - triplets.negative[:, None]) % len(
        classes
    )
    nearest = ahead.masked_fill(~third, len(classes)).argmin(dim=1)
    return nearest, third.any(dim=1)


def rhomboid_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "N",
    margin: float | None = None,
) -> Tensor:
    """Return ``triplet_loss`` of (a, p, n) plus ``triplet_loss`` of (n, partner of n, a)."""
    partners = triplets.negative ^ 1  # 2k and 2k + 1 are a pair
    mirrored = Triplets(triplets.negative, partners, triplets.anchor)
    return triplet_loss(*triplets.of(embeddings), metric, margin) + triplet_loss(
        *mirrored.of(embeddings), metric, margin
    )


def lifted_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "E",
    margin: float | None = None,
) -> Tensor:
    """Return the mean of relu(log sum_p exp d(a, p) + log sum_n exp(margin - d(a, n))) + 0.005 ||x||.

    The published margin is 1. Generalised lifted structure: Hermans et al., "In Defense of the Triplet
    Loss", 2017. The mean is over anchors; sums are over all other images of an anchor's class and all
    images of other classes.
    """
    margin = 1.0 if margin is None else margin
    same, others = _same_class(classes, triplets.anchor)
    distances = pairwise_distances(embeddings[triplets.anchor], embeddings, metric)
    pull = _log_sum_exp(distances, others)
    push = _log_sum_exp(margin - distances, ~same)
    return (pull + push).relu().mean() + _norm_penalty(embeddings)


def n_pair_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "E",
) -> Tensor:
    """Return the mean over anchors of log(1 + sum_n exp(a (n - p) / |a|)) + 0.005 ||x||.

    Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NIPS 2016. The sum is
    over all images of other classes.
    """
    same, _ = _same_class(classes, triplets.anchor)
    anchor = functional.normalize(embeddings[triplets.anchor])
    to_positive = (anchor * embeddings[triplets.positive]).sum(dim=1, keepdim=True)
    excess = _log_sum_exp(anchor @ embeddings.T - to_positive, ~same)
    return functional.softplus(excess).mean() + _norm_penalty(embeddings)


def multi_similarity_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "N",
    margin: float | None = None,
) -> Tensor:
    """Return log-sums of hard positives and negatives, averaged over anchors that have both.

    Wang et al., "Multi-Similarity Loss with General Pair Weighting", CVPR 2019, with alpha 2, beta 40,
    threshold 0.5 and a mining margin of 0.1 on cosines. As published with the recipes for robust
    embeddings, an anchor counts among its positives.
    """
    margin = 0.1 if margin is None else margin
    alpha, beta, threshold = 2, 40, 0.5
    same, _ = _same_class(classes, triplets.anchor)
    unit = functional.normalize(embeddings)
    cosines = unit[triplets.anchor] @ unit.T
    farthest = cosines.masked_fill(~same, torch.inf).amin(dim=1, keepdim=True)
    nearest = cosines.masked_fill(same, -torch.inf).amax(dim=1, keepdim=True)
    hard_positives = same & (cosines - margin < nearest)
    hard_negatives = ~same & (cosines + margin > farthest)
    pull = functional.softplus(_log_sum_exp(alpha * (threshold - cosines), hard_positives)) / alpha
    push = functional.softplus(_log_sum_exp(beta * (cosines - threshold), hard_negatives)) / beta
    counted = hard_positives.any(dim=1) & hard_negatives.any(dim=1)
    return ((pull + push) * counted).sum() / counted.sum().clamp_min(1)


def info_nce_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "C",
) -> Tensor:
    """Return the cross-entropy of cosines by which anchors find their positives, and vice versa.

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, in both
    directions as in CLIP, at temperature 1.
    """
    anchor, positive, _ = triplets.of(functional.normalize(embeddings))
    cosines, own = anchor @ positive.T, torch.arange(len(anchor), device=anchor.device)
    return (functional.cross_entropy(cosines, own) + functional.cross_entropy(cosines.T, own)) / 2


def angular_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "N",
) -> Tensor:
    """Return the mean angular loss of (a, p) against all images of other classes, at 40 degrees.

    Wang et al., "Deep Metric Learning with Angular Loss", ICCV 2017.
    """
    return AngularLoss()(embeddings, classes, tuple(triplets))


def nca_loss(
    embeddings: Tensor,
    classes: Tensor,
    triplets: Triplets,
    metric: str = "N",
) -> Tensor:
    """Return the loss of Goldberger et al., "Neighbourhood Components Analysis", NIPS 2004.

    Distances are squared. ``triplets`` is not used.
    """
    return NCALoss()(embeddings, classes)


@dataclass(frozen=True)
class MetricLoss:
    """Loss of a batch of pairs, by ``of_triplets`` or ``of_batch``."""

    metrics: str
    """Letters of the metrics for which the loss is defined."""
    of_triplets: Callable[..., Tensor] | None = None
    """Function of (anchor, positive, negative, metric), embeddings (t, d) row by row."""
    of_batch: Callable[..., Tensor] | None = None
    """Function of (embeddings, classes, triplets, metric)."""
    has_margin: bool = True
    """True if the function takes ``margin`` too."""
    learnt: Mapping[str, float] = field(default_factory=dict)
    """Names and initial values of the parameters of the loss."""

    def __call__(
        self,
        embeddings: Tensor,
        classes: Tensor,
        triplets: Triplets,
        metric: str,
        margin: float | None = None,
        **learnt: Tensor,
    ) -> Tensor:
        """Return the loss () of embeddings (n, d) float and classes (n,) int64.

        ``margin`` None is the published one; only losses with ``has_margin`` take another.
        ``learnt`` are the parameters of ``parameters``.
        """
        chosen = {} if margin is None else {"margin": margin}
        if self.of_batch is not None:
            return self.of_batch(embeddings, classes, triplets, metric, **chosen)
        return self.of_triplets(*triplets.of(embeddings), metric, **chosen, **learnt)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return new scalar parameters by name, for an optimiser of learning rate ``LEARNT_LR``."""
        return {name: nn.Parameter(torch.tensor(value)) for name, value in self.learnt.items()}


METRIC_LOSSES = {
    "triplet": MetricLoss("CEN", triplet_loss),
    "tripxa": MetricLoss("CEN", triplet_loss_detached_anchor),
    "contrast": MetricLoss("CEN", contrastive_loss),
    "margin": MetricLoss("CEN", margin_loss, learnt={"beta": 0.6}),
    "snr": MetricLoss("CEN", snr_loss),
    "quad": MetricLoss("CEN", of_batch=quadruplet_loss),
    "rhom": MetricLoss("CEN", of_batch=rhomboid_loss),
    # The losses below read only anchors, or anchors and positives, of the triplets.
    "lift": MetricLoss("E", of_batch=lifted_loss),
    "ms": MetricLoss("CN", of_batch=multi_similarity_loss),
    "npair": MetricLoss("E", of_batch=n_pair_loss, has_margin=False),
    "ice": MetricLoss("C", of_batch=info_nce_loss, has_margin=False),
    "angular": MetricLoss("N", of_batch=angular_loss, has_margin=False),
    "nca": MetricLoss("N", of_batch=nca_loss, has_margin=False),
}


def metric_loss(name: str, metric: str) -> MetricLoss:
    """Return the loss ``name``; ``UserError`` if it is unknown or not defined for ``metric``."""
    if name not in METRIC_LOSSES:
        raise UserError(f"unknown loss {name}: {choose_from(name, METRIC_LOSSES)}")
    loss = METRIC_LOSSES[name]
    if metric not in tuple(loss.metrics):
        raise UserError(f"the loss {name} is defined for the metric {' or '.join(loss.metrics)}")
    return loss


def _mean_active(values: Tensor) -> Tensor:
    """Average the entries of (t,) that are not 0; 0 if all are."""
    return values.sum() / values.count_nonzero().clamp_min(1)


def _same_class(classes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Mark the images of an anchor's class, with and without the anchor itself: (t, n) bool each."""
    same = classes[anchors, None] == classes
    return same, same.scatter(1, anchors[:, None], False)


def _log_sum_exp(values: Tensor, mask: Tensor) -> Tensor:
    """Return log sum exp (t,) of the entries (t, n) in ``mask``; -inf for an empty mask."""
    return values.masked_fill(~mask, -torch.inf).logsumexp(dim=1)


def _norm_penalty(embeddings: Tensor) -> Tensor:
    return NORM_WEIGHT * embeddings.norm(dim=1).mean()
