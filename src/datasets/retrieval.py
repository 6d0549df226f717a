"""Sets for training and testing embeddings, by the name of their layout."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from src.artifacts.errors import UserError, choose_from
from src.datasets.class_folders import read_catalogue, read_class_folders
from src.datasets.image_arrays import CLOTHES, DIGITS, read_cifar10, read_cifar100, read_mnist
from src.datasets.image_set import ImageSet, joined
from src.datasets.unseen_classes import read_cars, read_cub, read_sop


@dataclass(frozen=True)
class RetrievalSet:
    """Images to train a network on and to test it on.

    The two parts have the same classes if their ``labels`` agree, else disjoint ones.
    """

    train: ImageSet
    test: ImageSet

    def all(self) -> ImageSet:
        """Return both parts as one set; ``UserError`` if they differ in classes or size."""
        first, second = self.train, self.test
        if (first.labels, first.side) != (second.labels, second.side):
            raise UserError("the parts of this set differ in classes or size: use one of them")
        return joined(first, second)


@dataclass(frozen=True)
class SetLayout:
    """Files of a kind of set, and the function that reads them."""

    read: Callable[..., tuple[ImageSet, ImageSet]]
    """Function of a path and the choices that returns the images to train on and to test on."""
    choices: Mapping[str, Any]
    """Choices that a caller has, with their defaults."""
    published: tuple[int, int] | None = None
    """Numbers of training and test images of the complete set."""


_CROPPED: Mapping[str, Any] = {"size": 224}
_SQUASHED: Mapping[str, Any] = {"size": None, "trained_size": None}

LAYOUTS: dict[str, SetLayout] = {
    "mnist": SetLayout(partial(read_mnist, name="MNIST", labels=DIGITS), {}, (60_000, 10_000)),
    "fashion": SetLayout(
        partial(read_mnist, name="FashionMNIST", labels=CLOTHES), {}, (60_000, 10_000)
    ),
    "cifar10": SetLayout(read_cifar10, {}, (50_000, 10_000)),
    "cifar100": SetLayout(read_cifar100, {}, (50_000, 10_000)),
    "cub": SetLayout(read_cub, _CROPPED, (5_864, 5_924)),
    "cars": SetLayout(read_cars, _CROPPED, (8_054, 8_131)),
    "sop": SetLayout(read_sop, _CROPPED, (59_551, 60_502)),
    "folder": SetLayout(read_class_folders, _SQUASHED),
    "catalogue": SetLayout(read_catalogue, _SQUASHED),
}


def check_set(name: str, path: Path) -> None:
    """Raise ``UserError`` for an unknown layout, and if there is nothing at ``path``."""
    if name not in LAYOUTS:
        raise UserError(f"no data set layout {name!r}: {choose_from(name, LAYOUTS)}")
    if not path.exists():
        raise UserError(f"no data at {path}")


def check_pictures(images: Path, labels: Path) -> None:
    """Raise ``UserError`` if the folder of pictures or the table of their categories is missing."""
    if not images.is_dir():
        raise UserError(f"no image folder at {images}")
    if not labels.is_file():
        raise UserError(f"missing file: {labels}")


def open_retrieval_set(
    name: str,
    path: Path,
    *,
    size: int | None = None,
    trained_size: int | None = None,
) -> RetrievalSet:
    """Open the set at ``path``, which has the layout ``name`` (see ``LAYOUTS``).

    Choices left None are the layout's own. ``size``: side in pixels of what networks read, for sets of
    image files; 0 is the native size. ``trained_size``: side that the network was trained on, which is
    read where no ``size`` is given. Small sets are read at once, those of files whenever images are
    asked for. Prints a warning if a published set is not complete. Raises ``UserError`` for an unknown
    layout, a choice that it does not leave, and files that are missing or damaged.
    """
    check_set(name, path)
    layout = LAYOUTS[name]
    if size is not None and size < 0:
        raise UserError(f"images of {size} pixels cannot be read")
    if "trained_size" not in layout.choices:
        # Images in files are cropped to one size, those in arrays have one.
        in_files = "size" in layout.choices
        if size == 0 and in_files:
            raise UserError(f"the images of {name} have no size in common: give a side in pixels")
        size = trained_size if size is None and in_files else size or None
        trained_size = None
    given = {"size": size, "trained_size": trained_size}
    chosen = {choice: value for choice, value in given.items() if value is not None}
    if fixed := chosen.keys() - layout.choices.keys():
        raise UserError(f"the {min(fixed)} of {name} cannot be chosen")
    train, test = layout.read(path, **{**layout.choices, **chosen})
    found = (len(train), len(test))
    if layout.published not in (None, found):
        print(
            f"warning: {path} has {found[0]} training and {found[1]} test images; {name} as published "
            f"has {layout.published[0]} and {layout.published[1]}",
            file=sys.stderr,
        )
    inputs = train.inputs or (path,)
    return RetrievalSet(replace(train, inputs=inputs), replace(test, inputs=inputs))
