"""One mini-batch as losses and terms see it: benign and perturbed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor

from src.extractors.attention import overlap, top_cells
from src.extractors.extractor import Prediction
from src.training.miners import Miner, Triplets

MapReader = Callable[[Callable[[Tensor], Prediction], Prediction, Tensor], Tensor]
"""Of a watched network, what it made of images (N, ...) and their labels (N,): maps (N, h, w)."""


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
    together: bool = False
    """Whether benign and perturbed images, as many of each, share one forward and its batch norm."""
    read_map: MapReader | None = None
    """How maps are read from a network that is watched; None where the recipe has no attention."""
    teacher: Callable[[Tensor], Prediction] | None = None
    """The network before training, frozen and watched."""
    step: int = 0
    """How many were taken before."""
    notes: dict[str, Tensor] = field(default_factory=dict)
    """What the adversary noted, by name, as scalars."""

    @cached_property
    def _both(self) -> tuple[Prediction, Prediction]:
        joined = self.network(torch.cat([self.images, self.points]))
        halves = [getattr(joined, part.name).chunk(2) for part in fields(joined)]
        return tuple(type(joined)(*half) for half in zip(*halves, strict=True))

    @cached_property
    def benign(self) -> Prediction:
        return self._both[0] if self.together else self.network(self.images)

    @cached_property
    def perturbed(self) -> Prediction:
        if self.points is None:
            return self.benign
        return self._both[1] if self.together else self.network(self.points)

    @cached_property
    def benign_map(self) -> Tensor:
        """Attention (m, h, w) to the benign images."""
        return self.read_map(self.network, self.benign, self.labels)

    @cached_property
    def perturbed_map(self) -> Tensor:
        """Attention (m, h, w) to the perturbed images."""
        return self.read_map(self.network, self.perturbed, self.labels)

    @cached_property
    def teacher_map(self) -> Tensor:
        """Attention (m, h, w) to the benign images before training, without gradient."""
        return self.read_map(self.teacher, self.teacher(self.images), self.labels).detach()

    @torch.no_grad()
    def noted(self) -> dict[str, Tensor]:
        """Scalars: accuracies and IoU of the attended cells, where forwarded, and the adversary's."""
        done, notes = vars(self), {}
        if "benign" in done:
            notes["accuracy"] = self._accuracy(self.benign)
        if "perturbed" in done and self.mined is None and self.points is not None:
            notes["accuracy_perturbed"] = self._accuracy(self.perturbed)
        if "benign_map" in done and "perturbed_map" in done:
            cells = [top_cells(maps, 0.125) for maps in (self.benign_map, self.perturbed_map)]
            notes["attention_iou"] = overlap(*cells).mean()
        return notes | self.notes

    def _accuracy(self, prediction: Prediction) -> Tensor:
        return (prediction.logits.argmax(dim=1) == self.labels).float().mean()

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
