"""Networks whose features are points of the unit sphere, classified by the nearest class mean."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.extractors.extractor import Extractor

SHARPNESS = 20.0
"""Factor of the logits. Squared distances on the sphere span a few units at most, and of logits as close
as that cross-entropy hardly sees which class competes: gradient attacks fail, and a network without any
defence looks robust."""


class Embedder(nn.Module):
    """A backbone, its output brought to length 1, and a nearest-class-mean classifier as the head.

    |e - c|^2 = |e|^2 - 2 e.c + |c|^2 with |e| = 1, so the class of the nearest mean c has the largest
    2 e.c - |c|^2: a linear layer. An ``Extractor`` of it therefore has the embedding as features and
    minus the squared distance to each mean, up to a constant and times ``SHARPNESS``, as logits.
    """

    def __init__(self, backbone: nn.Module, dim: int, n_classes: int) -> None:
        """``backbone`` maps images (N, channels, H, W) to (N, ``dim``). The means are 0 at first."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(dim, n_classes)
        set_means(self.head, torch.zeros(n_classes, dim))

    def forward(self, images: Tensor) -> Tensor:
        # Under autocast the backbone's output is of lower precision; a length of 1 is worth float32.
        return self.head(functional.normalize(self.backbone(images).float()))


def set_class_means(extractor: Extractor, means: Tensor) -> None:
    """Let ``extractor``, an embedder, predict the class whose row of ``means`` (C, dim) is nearest.

    Raises ``ValueError`` for another shape and for means that are not finite.
    """
    head = extractor.network.get_submodule(extractor.head_name)
    if means.shape != head.weight.shape:
        raise ValueError(f"class means are {tuple(means.shape)}, not {tuple(head.weight.shape)}")
    if not means.isfinite().all():
        raise ValueError("class means hold NaN or infinite values")
    set_means(head, means)


def set_means(head: nn.Linear, means: Tensor) -> None:
    """Weight 2c and bias -|c|^2 for each row c of ``means``, times ``SHARPNESS``."""
    with torch.no_grad():
        head.weight.copy_(2 * SHARPNESS * means)
        head.bias.copy_(-SHARPNESS * means.square().sum(dim=1))


def class_means(embeddings: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Mean of the ``embeddings`` (n, dim) of each of the ``labels`` (n,) int64; (n_classes, dim).

    Raises ``ValueError`` for a class without an embedding: it has no mean.
    """
    counts = labels.bincount(minlength=n_classes)
    if (counts == 0).any():
        raise ValueError(f"class {int(counts.argmin())} has no embedding")
    sums = embeddings.new_zeros(n_classes, embeddings.shape[1]).index_add_(0, labels, embeddings)
    return sums / counts[:, None]
