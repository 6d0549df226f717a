"""Clean embeddings of the images that are ranked, and distances to them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.extractors.extractor import Extractor

Embed = Callable[[Tensor], Tensor]
"""Differentiable function of images (N, channels, H, W) in [0, 1] -> embeddings (N, d) of length 1."""

_TINY = 1e-8
"""Smallest squared distance. Below it float32 holds only the rounding error of 1 - cosine, and the square
root has no finite slope at 0."""


@dataclass(frozen=True)
class Gallery:
    """Clean images as ``embeddings`` (G, d) float32 of length 1 and ``classes`` (G,) int64."""

    embeddings: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def distances(self, embeddings: Tensor) -> Tensor:
        """Return distances (..., G) of ``embeddings`` (..., d) of length 1 to all images."""
        return (2 - 2 * embeddings @ self.embeddings.T).clamp_min(_TINY).sqrt()

    def distances_from_others(self, own: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Return distances (N, G) of the images ``own`` (N,) to all images, infinite to themselves.

        ``own`` holds positions in the gallery; ``embeddings`` (N, d) are by default the clean ones.
        """
        if embeddings is None:
            embeddings = self.embeddings[own]
        return self.distances(embeddings).scatter(1, own[:, None], torch.inf)

    def matches(self, own: Tensor) -> Tensor:
        """Mark the images with the class of the images ``own`` (N,), which are included: (N, G) bool."""
        return self.classes[own][:, None] == self.classes


def paired_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances (...) of (..., d) and (..., d); gradients are 0 for equal vectors."""
    return torch.linalg.vector_norm(a - b, dim=-1)


def embed_with(extractor: Extractor) -> Embed:
    """Return a function that computes the L2-normalised features of ``extractor``."""
    return lambda images: functional.normalize(extractor(images).features)
