"""One mini-batch as losses and terms see it: benign and perturbed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from src.extractors.extractor import Prediction
from src.training.miners import Miner, Triplets


@dataclass
class Views:
    """A batch, its perturbed images, and what the network makes of both.

    Every forward happens when somebody asks for it, and once.
    """

    network: Callable[[Tensor], Prediction]
    images: Tensor
    """(m, C, H, W) float in [0, 1], benign."""
    labels: Tensor
    """(m,) int64."""
    metric: str
    """Of embeddings: C, E or N."""
    miner: Miner
    generator: torch.Generator
    trains_on_benign: bool = False
    """Whether the loss reads the benign images, and only terms the perturbed ones."""
    points: Tensor | None = None
    """The perturbed images: of all the batch in its order, or of its triplets, first all anchors, then
    positives, then negatives. None where nothing is perturbed."""
    mined: Triplets | None = None
    """The triplets of ``points``, as positions in the batch; None where these are all the batch."""
    learnt: Mapping[str, Tensor] = field(default_factory=dict)
    """What the loss learns beside the network, by name."""

    @cached_property
    def benign(self) -> Prediction:
        return self.network(self.images)

    @cached_property
    def perturbed(self) -> Prediction:
        return self.benign if self.points is None else self.network(self.points)

    @property
    def trained_on(self) -> Prediction:
        """What the loss reads."""
        return self.benign if self.trains_on_benign else self.perturbed

    @cached_property
    def triplets(self) -> Triplets:
        """Positions in the batch: the adversary's, else mined from what the loss reads."""
        if self.mined is not None:
            return self.mined
        return self.miner(self.trained_on.features.detach(), self.labels, self.generator)

    @property
    def perturbed_triplets(self) -> Triplets:
        """The same triplets as positions in ``perturbed``."""
        if self.mined is None:
            return self.triplets
        n_rows = sum(map(len, self.mined))
        return Triplets(*torch.arange(n_rows, device=self.labels.device).chunk(3))

    @property
    def trained_triplets(self) -> Triplets:
        """The same triplets as positions in ``trained_on``."""
        return self.triplets if self.trains_on_benign else self.perturbed_triplets

    @property
    def trained_labels(self) -> Tensor:
        """Of the rows of ``trained_on``."""
        if self.mined is None or self.trains_on_benign:
            return self.labels
        return self.labels[torch.cat(self.mined)]
