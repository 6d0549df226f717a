"""What a network saw in clean and attacked images, as arrays: what is measured and drawn afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import softmax


@dataclass(frozen=True)
class Seen:
    """What a network makes of n images."""

    logits: np.ndarray
    """(n, C) float32."""
    maps: Mapping[str, np.ndarray]
    """Signed attention (n, h, w) float32 by read-out."""

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, C) float64."""
        return softmax(self.logits.astype(np.float64), axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(n,) int64 classes."""
        return self.logits.argmax(axis=1)


@dataclass(frozen=True)
class Explained:
    """LIME's masks (m, height, width) int8 of some images, for the class that each is taken for."""

    rows: np.ndarray
    """(m,) int64: which of the observed images they are."""
    clean: np.ndarray
    attacked: np.ndarray


@dataclass(frozen=True)
class Observed:
    """Images of one class before and after an attack, in ascending order of their ids."""

    image_ids: np.ndarray
    """(n,) int64."""
    success: np.ndarray
    """(n,) bool, of the stored files."""
    origin: int
    target: int | None
    """None for an untargeted attack."""
    share: float
    """Of a map's cells, the top ones, that count as attended."""
    clean: Seen
    attacked: Seen
    erased: Mapping[str, np.ndarray]
    """By read-out: probability (n,) of the origin class where the attended cells of the clean image are
    erased."""
    minimal_eps: np.ndarray | None = None
    """(n,) float64 in grey levels: the smallest budget that was found to do; infinite where none was."""
    explained: Explained | None = None
    """A sample of them, where explanations were asked for."""

    @cached_property
    def margin(self) -> np.ndarray:
        """(n,) float64: by how much the origin class leads the next one in the clean image's logits."""
        own = self.clean.logits[:, self.origin].astype(np.float64)
        others = np.delete(self.clean.logits, self.origin, axis=1)
        return own - others.max(axis=1)
