"""Terms that a recipe adds to its loss: functions of a batch's views that return a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from src.training.distances import distance
from src.training.metric_losses import triplet_loss
from src.training.views import Views

Term = Callable[[Views], Tensor]


def intraclass_structure(views: Views) -> Tensor:
    """Return the mean of relu(d(a, a') - d(a, p)) of anchors a and perturbed anchors a' (ICS).

    Zhou and Patel, CVPR 2022. It keeps a perturbed anchor nearer than its class. With weight 1 it is
    their earlier anti-adversary penalty (AAP).
    """
    anchors, positives, _ = views.triplets.of(views.benign.features)
    perturbed, _, _ = views.perturbed_triplets.of(views.perturbed.features)
    return triplet_loss(anchors, perturbed, positives, views.metric, margin=0.0)


def benign_departure(views: Views) -> Tensor:
    """Return the mean of |f'(x) - f(x)|^2, with f the network before training."""
    return views.departure(views.benign.features).square().sum(dim=1).mean()


def embedding_shift(views: Views) -> Tensor:
    """Return the mean of d(f(x'), f(x)), with gradients through both."""
    return distance(views.perturbed.features, views.benign.features, views.metric).mean()


def prediction_shift(views: Views) -> Tensor:
    """Return the mean of KL(f(x) || f(x')) of class probabilities (Zhang et al., TRADES, 2019)."""
    return functional.kl_div(
        views.perturbed.logits.log_softmax(dim=1),
        views.benign.logits.log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )


def barlow_twins(views: Views) -> Tensor:
    """Return sum_i (1 - c_ii)^2 + 0.005 sum_{i != j} c_ij^2 (Zbontar et al., "Barlow Twins", ICML 2021).

    c is the cross-correlation of the dimensions of anchors and positives, over triplets whose class has
    at least 3 images in the batch. The value is 0 for fewer than 2 such triplets.
    """
    frequent = views.classes.bincount()[views.classes[views.triplets.anchor]] >= 3
    anchors, positives, _ = views.trained_triplets.of(views.trained_on.features)
    if frequent.sum() < 2:
        return anchors.new_zeros(())
    correlation = _standardised(anchors[frequent]).T @ _standardised(positives[frequent])
    correlation = correlation / frequent.sum()
    redundant = correlation - torch.diag(correlation.diagonal())
    return (1 - correlation.diagonal()).square().sum() + 5e-3 * redundant.square().sum()


def _standardised(values: Tensor) -> Tensor:
    """Scale every column to mean 0 and variance 1."""
    deviation, mean = torch.std_mean(values, dim=0, correction=0)
    return (values - mean) / deviation.clamp_min(1e-6)
