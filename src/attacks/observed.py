"""Arrays of a network's predictions and attention for clean and attacked images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import softmax


@dataclass(frozen=True)
class Seen:
    """Predictions and attention of a network for n images."""

    logits: np.ndarray
    """Logits (n, C) float32."""
    maps: Mapping[str, np.ndarray]
    """Signed attention (n, h, w) float32 by read-out."""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax (n, C) float64."""
        return softmax(self.logits.astype(np.float64), axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Predicted classes (n,) int64."""
        return self.logits.argmax(axis=1)


@dataclass(frozen=True)
class Explained:
    """LIME's masks (m, height, width) int8 of some images, for the class that each is taken for."""

    rows: np.ndarray
    """Positions (m,) int64 among the observed images."""
    clean: np.ndarray
    attacked: np.ndarray


@dataclass(frozen=True)
class Observed:
    """Images of one class before and after an attack, in ascending order of their ids."""

    image_ids: np.ndarray
    """Ids (n,) int64."""
    success: np.ndarray
    """True for each stored file that reaches the goal, (n,) bool."""
    origin: int
    target: int | None
    """Class to reach; None for an untargeted attack."""
    share: float
    """Share of a map's cells, the largest ones, that count as attended."""
    clean: Seen
    attacked: Seen
    erased: Mapping[str, np.ndarray]
    """Probability (n,) of the origin class without the attended cells of the clean image, by read-out."""
    minimal_eps: np.ndarray | None = None
    """Smallest successful budget found, (n,) float64 in grey levels; infinite if there is none."""
    explained: Explained | None = None
    """LIME of a sample of the images; None without explanations."""

    @cached_property
    def margin(self) -> np.ndarray:
        """Lead (n,) float64 of the origin class over the next one in the clean image's logits."""
        own = self.clean.logits[:, self.origin].astype(np.float64)
        others = np.delete(self.clean.logits, self.origin, axis=1)
        return own - others.max(axis=1)
