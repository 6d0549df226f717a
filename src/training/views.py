"""Benign and perturbed views of a mini-batch for losses and terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor

from src.extractors.attention import overlap, top_cells
from src.extractors.extractor import Prediction
from src.training.miners import Miner, Triplets
from src.training.original import Departure

MapReader = Callable[[Callable[[Tensor], Prediction], Prediction, Tensor], Tensor]
"""Function of a watched network, its prediction for images (N, ...), classes (N,) -> maps (N, h, w)."""


@dataclass
class Views:
    """Batch with its perturbed images and the network's predictions for both.

    Every forward runs once, at its first use.
    """

    network: Callable[[Tensor], Prediction]
    images: Tensor
    """Benign images (m, C, H, W), float in [0, 1]."""
    classes: Tensor
    """Class numbers (m,) int64."""
    metric: str
    """Metric of embeddings: C, E or N."""
    miner: Miner
    generator: torch.Generator
    trains_on_benign: bool = False
    """True if the loss reads the benign images, and only terms read the perturbed ones."""
    points: Tensor | None = None
    """Perturbed images: of the whole batch in its order, or of its triplets, first all anchors, then
    positives, then negatives. None without a perturbation."""
    mined: Triplets | None = None
    """Triplets of ``points``, as positions in the batch; None if ``points`` is the whole batch."""
    learnt: Mapping[str, Tensor] = field(default_factory=dict)
    """Parameters of the loss by name."""
    together: bool = False
    """True if benign and equally many perturbed images share one forward and its batch norm."""
    read_map: MapReader | None = None
    """Reader of maps from a watched network; None if the recipe has no attention."""
    teacher: Callable[[Tensor], Prediction] | None = None
    """Network before training, frozen and watched."""
    step: int = 0
    """Number of earlier steps."""
    notes: dict[str, Tensor] = field(default_factory=dict)
    """Scalars by name that the adversary noted."""
    departure: Departure | None = None
    """Differences of features from those before training, which need no classes; None if the recipe
    reads none."""

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
        """Attention maps (m, h, w) of the benign images."""
        return self.read_map(self.network, self.benign, self.classes)

    @cached_property
    def perturbed_map(self) -> Tensor:
        """Attention maps (m, h, w) of the perturbed images."""
        return self.read_map(self.network, self.perturbed, self.classes)

    @cached_property
    def teacher_map(self) -> Tensor:
        """Attention maps (m, h, w) of the benign images before training, without gradient."""
        return self.read_map(self.teacher, self.teacher(self.images), self.classes).detach()

    @torch.no_grad()
    def noted(self) -> dict[str, Tensor]:
        """Return scalars: accuracies and IoU of attended cells, if known, and the adversary's notes."""
        done, notes = vars(self), {}
        if self.departure is not None:
            return notes | self.notes
        if "benign" in done:
            notes["accuracy"] = self._accuracy(self.benign)
        if "perturbed" in done and self.mined is None and self.points is not None:
            notes["accuracy_perturbed"] = self._accuracy(self.perturbed)
        if "benign_map" in done and "perturbed_map" in done:
            cells = [top_cells(maps, 0.125) for maps in (self.benign_map, self.perturbed_map)]
            notes["attention_iou"] = overlap(*cells).mean()
        return notes | self.notes

    def _accuracy(self, prediction: Prediction) -> Tensor:
        return (prediction.logits.argmax(dim=1) == self.classes).float().mean()

    @property
    def trained_on(self) -> Prediction:
        """Prediction that the loss reads."""
        return self.benign if self.trains_on_benign else self.perturbed

    @cached_property
    def triplets(self) -> Triplets:
        """Positions in the batch: the adversary's triplets, or triplets mined from ``trained_on``."""
        if self.mined is not None:
            return self.mined
        return self.miner(self.trained_on.features.detach(), self.classes, self.generator)

    @property
    def perturbed_triplets(self) -> Triplets:
        """Positions of ``triplets`` in ``perturbed``."""
        if self.mined is None:
            return self.triplets
        n_rows = sum(map(len, self.mined))
        return Triplets(*torch.arange(n_rows, device=self.classes.device).chunk(3))

    @property
    def trained_triplets(self) -> Triplets:
        """Positions of ``triplets`` in ``trained_on``."""
        return self.triplets if self.trains_on_benign else self.perturbed_triplets

    @property
    def trained_classes(self) -> Tensor:
        """Labels of the rows of ``trained_on``."""
        if self.mined is None or self.trains_on_benign:
            return self.classes
        return self.classes[torch.cat(self.mined)]
