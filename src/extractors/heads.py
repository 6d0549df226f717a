"""Heads of extractors, which compute logits from the features of a network, or none.

``linear`` is a layer of the network itself. ``class_means`` classifies by the nearest class mean of a
catalogue, for networks without classes or for a shop's own ones. ``zero_shot`` compares images with the
names of classes, for networks with a text tower. ``none`` scores nothing.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.item_classes import ItemClasses

LEAD = 10.0
"""Mean lead of the nearest class over the next one, in logits, that a catalogue's images have.

Squared distances have any size: far under 1 between embeddings of length 1, thousands for others. Where
leads are tiny the cross-entropy hardly depends on the competing class; where they are large the softmax
is exactly 1 and its gradient 0. In both cases gradient attacks fail, and an undefended network looks
robust."""


class Linear(nn.Module):
    """Head that is the layer ``layer`` of the network."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor, output: Tensor) -> Tensor:
        """Return the network's ``output`` (N, C) as logits."""
        return output


class NoHead(nn.Module):
    """Head without classes, for features alone."""

    def forward(self, features: Tensor, output: Tensor) -> None:
        """Return no logits."""


class ClassMeans(nn.Module):
    """Head with logits -s |f - m_c|^2 of features f, the mean m_c of class c and a number s > 0."""

    means: Tensor

    def __init__(self, means: Tensor, sharpness: float = 1.0) -> None:
        """Classify by the rows of ``means`` (C, D); ``sharpness`` is s.

        Raises ``ValueError`` unless the means are finite.
        """
        super().__init__()
        if not means.isfinite().all():
            raise ValueError("class means hold NaN or infinite values")
        self.register_buffer("means", means)
        self.sharpness = sharpness

    @classmethod
    def of(cls, features: np.ndarray, item_classes: ItemClasses) -> "ClassMeans":
        """Describe the classes of a catalogue by the ``features`` (items, D) of its images.

        The sharpness makes ``LEAD`` the mean lead of the nearest class.
        """
        read, classes = torch.from_numpy(features), torch.from_numpy(item_classes.classes)
        head = cls(class_means(read, classes, len(item_classes.labels)))
        nearest = head(read, read).topk(min(2, len(head.means)), dim=1).values
        lead = float((nearest[:, 0] - nearest[:, -1]).mean())
        return cls(head.means, LEAD / lead if lead > 0 else 1.0)

    def forward(self, features: Tensor, output: Tensor) -> Tensor:
        """Return logits (N, C) of ``features`` (N, D)."""
        # |f - m|^2 = |f|^2 - 2 f.m + |m|^2 about the centre of the means, where less cancels out.
        centre = self.means.mean(dim=0)
        features, means = features - centre, self.means - centre
        squares = features.square().sum(dim=1, keepdim=True) + means.square().sum(dim=1)
        return self.sharpness * (2 * features @ means.T - squares)


class ZeroShot(nn.Module):
    """Head with logits s cos(f, t_c) of features f, the text embedding t_c of class c and a number s > 0.

    This is the zero-shot classifier of CLIP (Radford et al. 2021); s is the scale of the checkpoint.
    """

    texts: Tensor

    def __init__(self, texts: Tensor, scale: float) -> None:
        """Classify by the rows of ``texts`` (C, D); ``scale`` is s.

        Raises ``ValueError`` unless the texts and s are finite.
        """
        super().__init__()
        if not math.isfinite(scale):
            raise ValueError("the logit scale is NaN or infinite")
        if not texts.isfinite().all():
            raise ValueError("text embeddings hold NaN or infinite values")
        self.register_buffer("texts", functional.normalize(texts))
        self.scale = scale

    def forward(self, features: Tensor, output: Tensor) -> Tensor:
        """Return logits (N, C) of ``features`` (N, D)."""
        return self.scale * functional.normalize(features) @ self.texts.T


Head = Linear | NoHead | ClassMeans | ZeroShot


def class_means(features: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """Return the mean of the ``features`` (n, D) of each class, (n_classes, D).

    ``classes`` are (n,) int64. Raises ``ValueError`` for a class without features.
    """
    counts = classes.bincount(minlength=n_classes)
    if (counts == 0).any():
        raise ValueError(f"class {int(counts.argmin())} has no embedding")
    sums = features.new_zeros(n_classes, features.shape[1]).index_add_(0, classes, features)
    return sums / counts[:, None]
