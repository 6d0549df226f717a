"""What a recipe adds to its loss: functions of a batch's views that return a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from src.training.distances import distance
from src.training.metric_losses import triplet_loss
from src.training.views import Views

Term = Callable[[Views], Tensor]


def intraclass_structure(views: Views) -> Tensor:
    """relu(d(a, a') - d(a, p)): perturbed, an anchor is no farther than its class (ICS).

    Zhou and Patel, CVPR 2022; their earlier anti-adversary penalty (AAP) is the same with weight 1.
    """
    anchors, positives, _ = views.triplets.of(views.benign.features)
    perturbed, _, _ = views.perturbed_triplets.of(views.perturbed.features)
    return triplet_loss(anchors, perturbed, positives, views.metric, margin=0.0)


def embedding_shift(views: Views) -> Tensor:
    """Mean of d(f(x'), f(x)), with the gradient through both."""
    return distance(views.perturbed.features, views.benign.features, views.metric).mean()


def prediction_shift(views: Views) -> Tensor:
    """Mean of KL(f(x) || f(x')) of the class probabilities (Zhang et al., TRADES, 2019)."""
    return functional.kl_div(
        views.perturbed.logits.log_softmax(dim=1),
        views.benign.logits.log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )


def barlow_twins(views: Views) -> Tensor:
    """Cross-correlation of the dimensions of anchors and positives against the identity.

    sum_i (1 - c_ii)^2 + 0.005 sum_{i != j} c_ij^2 (Zbontar et al., "Barlow Twins", ICML 2021) over the
    triplets whose class has at least 3 images in the batch; 0 where there are fewer than 2 such.
    """
    frequent = views.labels.bincount()[views.labels[views.triplets.anchor]] >= 3
    anchors, positives, _ = views.trained_triplets.of(views.trained_on.features)
    if frequent.sum() < 2:
        return anchors.new_zeros(())
    correlation = _standardised(anchors[frequent]).T @ _standardised(positives[frequent])
    correlation = correlation / frequent.sum()
    redundant = correlation - torch.diag(correlation.diagonal())
    return (1 - correlation.diagonal()).square().sum() + 5e-3 * redundant.square().sum()


def _standardised(values: Tensor) -> Tensor:
    """Mean 0 and variance 1 in every column."""
    deviation, mean = torch.std_mean(values, dim=0, correction=0)
    return (values - mean) / deviation.clamp_min(1e-6)
