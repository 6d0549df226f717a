"""Networks with features on the unit sphere, classified by the nearest class mean."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.extractors.extractor import Extractor

SHARPNESS = 20.0
"""Factor of the logits. Squared distances on the sphere differ by a few units at most. The
cross-entropy of such close logits hardly depends on the competing class, so that gradient attacks fail
and an undefended network looks robust."""


class Embedder(nn.Module):
    """Backbone with output of length 1, and a nearest-class-mean classifier as the head.

    |e - c|^2 = |e|^2 - 2 e.c + |c|^2 with |e| = 1, so the class of the nearest mean c has the largest
    2 e.c - |c|^2, which is a linear layer. The features of an ``Extractor`` with this network are the
    embedding; the logits are minus the squared distances to the means, up to a constant and times
    ``SHARPNESS``.
    """

    def __init__(self, backbone: nn.Module, dim: int, n_classes: int) -> None:
        """Use ``backbone``, which maps images (N, channels, H, W) to (N, ``dim``), and means of 0."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(dim, n_classes)
        set_means(self.head, torch.zeros(n_classes, dim))

    def forward(self, images: Tensor) -> Tensor:
        # Under autocast the backbone's output has lower precision; the length must be 1 in float32.
        return self.head(functional.normalize(self.backbone(images).float()))


def set_class_means(extractor: Extractor, means: Tensor) -> None:
    """Make ``extractor``, an embedder, predict the class with the nearest row of ``means`` (C, dim).

    Raises ``ValueError`` for another shape and for means that are not finite.
    """
    head = extractor.network.get_submodule(extractor.head_name)
    if means.shape != head.weight.shape:
        raise ValueError(f"class means are {tuple(means.shape)}, not {tuple(head.weight.shape)}")
    if not means.isfinite().all():
        raise ValueError("class means hold NaN or infinite values")
    set_means(head, means)


def set_means(head: nn.Linear, means: Tensor) -> None:
    """Set weight 2c and bias -|c|^2 for each row c of ``means``, times ``SHARPNESS``."""
    with torch.no_grad():
        head.weight.copy_(2 * SHARPNESS * means)
        head.bias.copy_(-SHARPNESS * means.square().sum(dim=1))
