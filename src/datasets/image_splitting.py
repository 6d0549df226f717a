"""Division of an image set without published parts into training and test images."""

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.image_set import ImageSet


def random_halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Divide the images of each class at random into halves, to train and to test on.

    The choice is the same in every call. At least one image of each class is for training, and not all
    of them if there are two. ``UserError`` if there would be no test image or only one class.
    """
    classes, counts = images.classes, np.bincount(images.classes, minlength=len(images.labels))
    if len(counts) < 2 or counts.max() < 2:
        raise UserError(
            f"{len(images)} images of {len(counts)} classes cannot be divided: at least two classes "
            "and two images of a class are necessary"
        )
    n_training = np.round(counts / 2).clip(1, np.maximum(counts - 1, 1))
    # In an order by class and then at random, the first images of each class are for training.
    chance = np.random.default_rng(0).random(len(classes))
    order = np.lexsort((chance, classes))
    first_of_class = np.cumsum(counts) - counts
    place = np.empty(len(classes), np.int64)
    place[order] = np.arange(len(classes)) - first_of_class[classes[order]]
    training = place < n_training[classes]
    return images.take(training), images.take(~training)
