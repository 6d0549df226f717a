"""Distances between the tensors that candidate images would share and the observed tensors.

l2: Zhu et al., "Deep Leakage from Gradients" (NeurIPS 2019). One cosine over all tensors: Geiping et al.,
"Inverting Gradients" (NeurIPS 2020). Cosines of channels: Gao et al., "Privacy-preserving Collaborative
Learning with Automatic Transformation Search" (CVPR 2021).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Cost = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], Tensor]
"""Function (tensors, observed tensors, weights (targets, tensors)) -> costs (targets,).

The first axis of every tensor counts targets. A cost is 0 if the tensors equal the observed ones.
"""

_TINY = 1e-8
"""Lower bound of the product of two norms, below which vectors count as zero. It is small since single
channels have short gradients."""


def l1(tensors: Sequence[Tensor], observed: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return sum_i w_i |g_i - g*_i|_1."""
    return (weights * _each(lambda g, o: (g - o).abs().sum(1), tensors, observed)).sum(1)


def l2(tensors: Sequence[Tensor], observed: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return sum_i w_i |g_i - g*_i|_2^2."""
    return (weights * _each(lambda g, o: (g - o).square().sum(1), tensors, observed)).sum(1)


def largest(tensors: Sequence[Tensor], observed: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return sum_i w_i max|g_i - g*_i|."""
    return (weights * _each(lambda g, o: (g - o).abs().amax(1), tensors, observed)).sum(1)


def cosine(tensors: Sequence[Tensor], observed: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return 1 - sum_i w_i <g_i, g*_i> / (sqrt(sum_i w_i |g_i|^2) sqrt(sum_i w_i |g*_i|^2))."""
    products, squares, observed_squares = (
        (weights * _each(torch.linalg.vecdot, left, right)).sum(1)
        for left, right in ((tensors, observed), (tensors, tensors), (observed, observed))
    )
    return 1 - _cosine(products, squares, observed_squares)


def cosine_of_tensors(
    tensors: Sequence[Tensor], observed: Sequence[Tensor], weights: Tensor
) -> Tensor:
    """Return the mean of 1 - cos(g_i, g*_i) over tensors, weighted by w_i."""
    distances = _each(lambda g, o: 1 - _cosine(*_products(g, o)), tensors, observed)
    return (weights * distances).sum(1) / weights.sum(1)


def cosine_of_channels(
    tensors: Sequence[Tensor], observed: Sequence[Tensor], weights: Tensor
) -> Tensor:
    """Return the mean of 1 - cos over output channels, weighted by w_i; a vector is one channel."""
    counts = weights.new_tensor([g.shape[1] if g.ndim > 2 else 1 for g in observed])
    distances = torch.stack(
        [
            (1 - _cosine(*_products(_channels(g), _channels(o)))).sum(1)
            for g, o in zip(tensors, observed, strict=True)
        ],
        dim=1,
    )
    return (weights * distances).sum(1) / (weights * counts).sum(1)


def _each(
    compare: Callable[[Tensor, Tensor], Tensor], left: Iterable[Tensor], right: Iterable[Tensor]
) -> Tensor:
    """Apply ``compare`` to each pair, flattened to (targets, entries): (targets, tensors)."""
    pairs = zip(left, right, strict=True)
    return torch.stack([compare(_flat(a), _flat(b)) for a, b in pairs], dim=1)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(len(tensor), -1)


def _channels(tensor: Tensor) -> Tensor:
    """Reshape to (targets, channels, entries); a vector is one channel."""
    return tensor.flatten(2) if tensor.ndim > 2 else _flat(tensor)[:, None]


def _products(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return <a, b>, |a|^2 and |b|^2 along the last axis."""
    dot = torch.linalg.vecdot
    return dot(left, right), dot(left, left), dot(right, right)


def _cosine(product: Tensor, left_square: Tensor, right_square: Tensor) -> Tensor:
    """Return the cosine; 0 with finite gradients for zero vectors."""
    return product / (left_square * right_square).clamp_min(_TINY**2).sqrt()


COSTS: dict[str, Cost] = {
    "l1": l1,
    "l2": l2,
    "max": largest,
    "sim": cosine,
    "simlocal": cosine_of_tensors,
    "out_sim": cosine_of_channels,
}

LAYER_WEIGHTS: dict[str, Callable[[int], np.ndarray]] = {
    "equal": np.ones,
    "linear": lambda n: np.arange(n, 0, -1) / n,
    "exp": lambda n: np.exp(-np.arange(n, dtype=float)),
}
"""Functions of n that return the weights of n tensors from the first layer, which has 1, to the last."""

_FIRST = {"first": 4, "first4": 4, "first5": 5, "first10": 10, "first50": 50}
_LAST = {"last5": 5, "last10": 10, "last50": 50}
_LONGEST = {"topk-1": 4, "top10": 10, "top50": 50}
_DRAWN = {"batch": 8}
INDICES = ("def", *_DRAWN, *_LONGEST, *_FIRST, *_LAST)
"""Names of choices of tensors: all, random ones in every step, those of largest observed norm, the first
or the last ones."""


@dataclass(frozen=True)
class Matching:
    """Cost of tensors against the observed tensors, with weights."""

    cost: Cost
    observed: tuple[Tensor, ...]
    """Observed tensors, each (targets, ...)."""
    weights: Tensor
    """Weights (targets, tensors); 0 for tensors that are ignored."""
    kept: tuple[int, ...]
    """Ascending numbers of the tensors that are compared, which have a weight for some target."""
    n_drawn: int | None = None
    """Number of random tensors that count in a step; None for all with a weight."""

    @classmethod
    def of(cls, cost: str, observed: Sequence[Tensor], indices: str, weights: str) -> "Matching":
        """Build the cost from names in ``COSTS``, ``INDICES`` and ``LAYER_WEIGHTS``."""
        observed = tuple(tensor.detach() for tensor in observed)
        by_layer = torch.as_tensor(LAYER_WEIGHTS[weights](len(observed))).to(observed[0])
        chosen = by_layer * _selection(observed, indices)
        kept = tuple(chosen.any(dim=0).nonzero().flatten().tolist())
        return cls(COSTS[cost], observed, chosen, kept, _DRAWN.get(indices))

    def __call__(self, shared: Sequence[Tensor]) -> Tensor:
        """Return differentiable costs (targets,); tensors that are not ``kept`` are skipped."""
        return self.cost(
            [shared[row] for row in self.kept],
            [self.observed[row] for row in self.kept],
            # A list of rows as an index would wait for the device in every step.
            torch.stack([self.weights[:, row] for row in self.kept], dim=1),
        )

    def drawn(self, rng: np.random.Generator) -> "Matching":
        """Return a copy that reads ``n_drawn`` random tensors, shared by all targets, or ``self``."""
        if self.n_drawn is None:
            return self
        drawn = set(rng.permutation(len(self.observed))[: self.n_drawn].tolist())
        return replace(self, kept=tuple(row for row in self.kept if row in drawn))


def _selection(observed: Sequence[Tensor], indices: str) -> Tensor:
    """Return (targets, tensors), 1 for tensors that count; all if there are too few to choose."""
    n_tensors = len(observed)
    if indices in _LONGEST:
        norms = torch.stack([_flat(tensor).norm(dim=1) for tensor in observed], dim=1)
        longest = norms.topk(min(_LONGEST[indices], n_tensors), dim=1).indices
        return torch.zeros_like(norms).scatter(1, longest, 1)
    ranks = torch.arange(n_tensors, device=observed[0].device)
    last = n_tensors - _LAST.get(indices, n_tensors)
    counts = (ranks < _FIRST.get(indices, n_tensors)) & (ranks >= last)
    return counts.to(observed[0]).repeat(len(observed[0]), 1)
