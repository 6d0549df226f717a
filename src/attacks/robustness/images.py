"""The labelled images of an evaluation, and which class of a network each belongs to."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.labelled_images import LabelledImages
from src.datasets.retrieval import RetrievalSet
from src.extractors.checkpoints import default_labels
from src.extractors.extractor import Extractor


@dataclass(frozen=True)
class JoinedImages:
    """The images of ``first`` and then those of ``second``, which have the same classes."""

    first: LabelledImages
    second: LabelledImages

    @property
    def labels(self) -> np.ndarray:
        return np.concatenate([self.first.labels, self.second.labels])

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.first.class_names

    @property
    def side(self) -> int:
        return self.first.side

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, positions: np.ndarray) -> np.ndarray:
        in_first = positions < len(self.first)
        found = (
            self.first.read(positions[in_first]),
            self.second.read(positions[~in_first] - len(self.first)),
        )
        order = np.argsort(~in_first, kind="stable")
        return np.concatenate(found)[np.argsort(order)]


def part_of(images: RetrievalSet, part: Literal["test", "all"]) -> LabelledImages:
    """The test images, or all; ``UserError`` where the parts have not the same classes and size."""
    if part == "test":
        return images.test
    train, test = images.train, images.test
    if (train.class_names, train.side) != (test.class_names, test.side):
        raise UserError("the parts of this set differ in classes or size: evaluate --part test")
    return JoinedImages(train, test)


def network_classes(images: LabelledImages, extractor: Extractor) -> np.ndarray:
    """The class of ``extractor`` that each image belongs to, (n,) int64.

    Classes are matched by name; where the checkpoint names none, by number. ``UserError`` where the
    network has not the classes of the images.
    """
    numbers = {name: number for number, name in enumerate(extractor.labels)}
    present = [images.class_names[label] for label in np.unique(images.labels)]
    missing = [name for name in present if name not in numbers]
    if not missing:
        of_label = [numbers.get(name, -1) for name in images.class_names]
        return np.array(of_label, np.int64)[images.labels]
    unnamed = extractor.labels == default_labels(extractor.n_classes)
    if unnamed and extractor.n_classes == len(images.class_names):
        return images.labels
    raise UserError(
        f"{extractor.weights_file or 'the network'} has no class {missing[0]!r}: its classes are "
        f"{', '.join(extractor.labels[:10])}{', ...' * (extractor.n_classes > 10)}"
    )
