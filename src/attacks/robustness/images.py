"""Classes of a network for the images of an evaluation."""

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.image_set import ImageSet
from src.extractors.checkpoints import default_labels
from src.extractors.extractor import Extractor


def network_classes(images: ImageSet, extractor: Extractor) -> np.ndarray:
    """Return the class of ``extractor`` that each image belongs to, (n,) int64.

    Classes are matched by name, or by number if the checkpoint names none. ``UserError`` if the network
    lacks a class of the images.
    """
    numbers = {name: number for number, name in enumerate(extractor.labels)}
    present = [images.labels[number] for number in np.unique(images.classes)]
    missing = [name for name in present if name not in numbers]
    if not missing:
        own = [numbers.get(name, -1) for name in images.labels]
        return np.array(own, np.int64)[images.classes]
    unnamed = extractor.labels == default_labels(extractor.n_classes)
    if unnamed and extractor.n_classes == len(images.labels):
        return images.classes
    raise UserError(
        f"{extractor.weights_file or 'the network'} has no class {missing[0]!r}: its classes are "
        f"{', '.join(extractor.labels[:10])}{', ...' * (extractor.n_classes > 10)}"
    )
