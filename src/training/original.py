"""Network before training, from whose features a defence by fine-tuning departs as little as it can."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from src.extractors.extractor import Extractor

Departure = Callable[[Tensor], Tensor]
"""Function of features (m, D) of a batch's images that returns the differences (m, k) from those that the
network before training has for the benign images."""


@dataclass(frozen=True)
class Reading:
    """Differences of features as a recommender reads them, in arrays."""

    directions: np.ndarray
    """Matrix M (D, k) float32: |d M|^2 is the mean squared change of users' scores for a difference d."""
    unit: bool = False
    """True if features are read at length 1."""


@dataclass(frozen=True)
class Original:
    """Frozen network before training, without a denoiser in front of it."""

    extractor: Extractor
    directions: Tensor | None = None
    """Matrix of a ``Reading``; None for the differences themselves."""
    unit: bool = False

    @classmethod
    def of(cls, extractor: Extractor, reading: Reading | None = None) -> "Original":
        """Copy ``extractor`` as it is now."""
        first = copy.deepcopy(extractor).eval().requires_grad_(False)
        first.preprocess = None
        if reading is None:
            return cls(first)
        directions = torch.from_numpy(reading.directions).to(extractor.device)
        return cls(first, directions, reading.unit)

    def departure(self, images: Tensor) -> Departure:
        """Run the network once on benign ``images`` (m, C, H, W); the rest is a subtraction."""
        with torch.no_grad():
            features = self._read(self.extractor(images).features)

        def difference(points: Tensor) -> Tensor:
            apart = self._read(points) - features
            return apart if self.directions is None else apart @ self.directions

        return difference

    def _read(self, features: Tensor) -> Tensor:
        return functional.normalize(features, dim=1) if self.unit else features
