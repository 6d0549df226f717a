"""Losses of metric learning, as functions of embeddings."""

from typing import Literal

from torch import Tensor

from src.training.distances import distance

Reduction = Literal["mean", "sum", "none"]


def default_margin(metric: str) -> float:
    """0.2 for distances of at most 2, 1 for Euclid between embeddings of any length."""
    return 1.0 if metric == "E" else 0.2


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    metric: str = "N",
    margin: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """relu(d(a, p) - d(a, n) + margin); embeddings (t, d), row by row. A margin of 0 is allowed.

    Schroff et al., "FaceNet", CVPR 2015.
    """
    margin = default_margin(metric) if margin is None else margin
    hinge = (
        distance(anchor, positive, metric) - distance(anchor, negative, metric) + margin
    ).relu()
    return _reduce(hinge, reduction)


def _reduce(values: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()
