"""The images that are ranked, as their clean embeddings, and distances to them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.extractors.extractor import Extractor

Embed = Callable[[Tensor], Tensor]
"""Images (N, channels, H, W) in [0, 1] -> embeddings (N, d) of length 1, differentiably."""

_TINY = 1e-8
"""Smallest squared distance: below it float32 holds only the rounding of 1 - cosine, and the square root
has no finite slope at 0."""


@dataclass(frozen=True)
class Gallery:
    """``embeddings`` (G, d) float32 of length 1 and ``labels`` (G,) int64, of clean images."""

    embeddings: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def distances(self, embeddings: Tensor) -> Tensor:
        """(..., d) of length 1 -> (..., G): distances to all images."""
        return (2 - 2 * embeddings @ self.embeddings.T).clamp_min(_TINY).sqrt()

    def distances_from_others(self, own: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """(N, G): distances of ``embeddings`` (N, d), by default their clean ones, of the images ``own``.

        ``own`` (N,) are positions in the gallery; an image is infinitely far from itself.
        """
        if embeddings is None:
            embeddings = self.embeddings[own]
        return self.distances(embeddings).scatter(1, own[:, None], torch.inf)

    def matches(self, own: Tensor) -> Tensor:
        """(N, G) bool: which images have the class of the images ``own`` (N,), themselves included."""
        return self.labels[own][:, None] == self.labels


def paired_distance(a: Tensor, b: Tensor) -> Tensor:
    """(..., d), (..., d) -> (...): Euclidean; its gradient is 0 where both are the same."""
    return torch.linalg.vector_norm(a - b, dim=-1)


def embed_with(extractor: Extractor) -> Embed:
    """The L2-normalised features of an extractor."""
    return lambda images: functional.normalize(extractor(images).features)
