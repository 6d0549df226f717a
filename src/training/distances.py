"""How far embeddings are apart: C is 1 - cosine, E Euclid, N Euclid on the unit sphere.

Gradients are finite everywhere: where two embeddings coincide, that of E and N is 0.
"""

import torch
from torch import Tensor
from torch.nn import functional

METRICS = ("C", "E", "N")


def distance(a: Tensor, b: Tensor, metric: str = "N") -> Tensor:
    """Row by row: (n, d) and (n, d) float -> (n,). In [0, 2] for C and N."""
    if metric == "C":
        return 1 - functional.cosine_similarity(a, b)
    return torch.linalg.vector_norm(to_space(a, metric) - to_space(b, metric), dim=1)


def pairwise_distances(a: Tensor, b: Tensor, metric: str = "N") -> Tensor:
    """Every row of ``a`` (n, d) to every row of ``b`` (m, d) -> (n, m)."""
    if metric == "C":
        return 1 - functional.normalize(a) @ functional.normalize(b).T
    # By differences: the faster way, through products, is wrong by 1e-3 where distances are small.
    return torch.cdist(
        to_space(a, metric), to_space(b, metric), compute_mode="donot_use_mm_for_euclid_dist"
    )


def to_space(embeddings: Tensor, metric: str) -> Tensor:
    """Embeddings (n, d) as the metric sees them: of unit length, but for E."""
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: {', '.join(METRICS)}")
    return embeddings if metric == "E" else functional.normalize(embeddings)
