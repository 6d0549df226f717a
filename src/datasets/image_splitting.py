"""Division of an image set into training and test images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.image_set import ImageSet


def part_by_class(images: ImageSet, n_training: int) -> tuple[ImageSet, ImageSet]:
    """Return the first ``n_training`` classes and the others, each renumbered from 0."""
    first = images.classes < n_training
    return images.take(first).renumbered(), images.take(~first).renumbered()


@dataclass(frozen=True)
class Splitting:
    """Rule that divides images into training and test images if the source does not."""

    by: Literal["images", "classes"] = "images"
    """images: each class is in both parts. classes: the first classes are for training and the others
    for the test, as in the published sets with unseen classes."""
    train_share: float = 0.5
    """Training share of the images of each class, or of the classes."""
    seed: int = 0
    """Seed of the random choice of images."""

    def __post_init__(self) -> None:
        if not 0 < self.train_share < 1:
            raise UserError(f"the training share {self.train_share:g} is not between 0 and 1")
        if self.seed < 0:
            raise UserError("the seed must be at least 0")

    def part(self, images: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Return training and test images; ``UserError`` if one of them would be empty."""
        counts = np.bincount(images.classes, minlength=len(images.labels))
        if len(counts) < 2 or counts.max() < 2:
            raise UserError(
                f"{len(images)} images of {len(counts)} classes cannot be divided: at least two classes "
                "and two images of a class are necessary"
            )
        if self.by == "classes":
            n_training = round(self.train_share * len(counts))
            return part_by_class(images, min(max(n_training, 1), len(counts) - 1))
        training = self._training_images(images.classes, counts)
        return images.take(training), images.take(~training)

    def _training_images(self, classes: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Mark the training images, (n,) bool: at least one of each class, and not all if it has two."""
        n_training = np.round(self.train_share * counts).clip(1, np.maximum(counts - 1, 1))
        # In an order by class and then at random, the first images of each class are for training.
        chance = np.random.default_rng(self.seed).random(len(classes))
        order = np.lexsort((chance, classes))
        first_of_class = np.cumsum(counts) - counts
        place = np.empty(len(classes), np.int64)
        place[order] = np.arange(len(classes)) - first_of_class[classes[order]]
        return place < n_training[classes]
