"""Distances of embeddings in the metrics C (1 - cosine), E (Euclidean), N (Euclidean on the unit sphere).

Gradients are finite everywhere; those of E and N are 0 for equal embeddings.
"""

import torch
from torch import Tensor
from torch.nn import functional

DISTANCES = ("C", "E", "N")


def distance(a: Tensor, b: Tensor, metric: str = "N") -> Tensor:
    """Return distances row by row, (n, d) and (n, d) float -> (n,), in [0, 2] for C and N."""
    if metric == "C":
        return 1 - functional.cosine_similarity(a, b)
    return torch.linalg.vector_norm(to_space(a, metric) - to_space(b, metric), dim=1)


def pairwise_distances(a: Tensor, b: Tensor, metric: str = "N") -> Tensor:
    """Return the distances (n, m) of every row of ``a`` (n, d) to every row of ``b`` (m, d)."""
    if metric == "C":
        return 1 - functional.normalize(a) @ functional.normalize(b).T
    # Computed by differences: the faster way by products is wrong by 1e-3 for small distances.
    return torch.cdist(
        to_space(a, metric), to_space(b, metric), compute_mode="donot_use_mm_for_euclid_dist"
    )


def to_space(embeddings: Tensor, metric: str) -> Tensor:
    """Return embeddings (n, d) in the space of ``metric``: scaled to length 1 except for E."""
    if metric not in DISTANCES:
        raise ValueError(f"unknown metric {metric!r}: {', '.join(DISTANCES)}")
    return embeddings if metric == "E" else functional.normalize(embeddings)
