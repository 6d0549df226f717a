"""Labelled images in memory or in files, and their division into training and test images."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.catalogue import read_image


class LabelledImages(Protocol):
    """Set of n images of one size; image p has the class ``class_names[labels[p]]``."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class numbers."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def side(self) -> int:
        """Height and width in pixels of the images that ``read`` returns."""
        ...

    def __len__(self) -> int: ...

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Read the images at ``positions``: (len(positions), side, side, 3 or 1) uint8."""
        ...


@dataclass(frozen=True)
class PixelImages:
    """Images in memory."""

    pixels: np.ndarray = field(repr=False)
    """(n, side, side, 3 or 1) uint8."""
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: np.ndarray) -> "PixelImages":
        """Return the images of ``rows``, an index or a mask. Classes keep their numbers."""
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])

    @property
    def side(self) -> int:
        return self.pixels.shape[1]

    def read(self, positions: np.ndarray) -> np.ndarray:
        return self.pixels[positions]


@dataclass(frozen=True)
class FileImages:
    """Images that are read from their files at each use, in RGB."""

    folder: Path
    files: np.ndarray = field(repr=False)
    """(n,) str paths below ``folder``."""
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...]
    resize: int
    """Side of the square to which images of any shape are resized."""
    crop: int | None = None
    """Side of the central crop of that square; None keeps the whole square."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: np.ndarray) -> "FileImages":
        """Return the images of ``rows``, an index or a mask. Classes keep their numbers."""
        return replace(self, files=self.files[rows], labels=self.labels[rows])

    @property
    def side(self) -> int:
        return self.crop or self.resize

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Read the images at ``positions``, (len(positions), side, side, 3) uint8.

        ``UserError`` names a file that is no image.
        """
        first = (self.resize - self.side) // 2
        kept = slice(first, first + self.side)
        images = np.empty((len(positions), self.side, self.side, 3), np.uint8)
        for image, file in zip(images, self.files[positions], strict=True):
            image[:] = read_image(self.folder / file, self.resize)[0][kept, kept]
        return images

    def require_files(self) -> "FileImages":
        """Return ``self`` if every file exists; ``UserError`` names the first missing one."""
        for file in self.files:
            if not (self.folder / file).is_file():
                raise UserError(f"missing file: {self.folder / file}")
        return self


def folder_with(path: Path, markers: Sequence[str], inside: Sequence[str], advice: str) -> Path:
    """Return the folder of a published set: one of ``inside`` below ``path``, or ``path`` itself.

    The folder must hold a file with a name from ``markers``. The message of ``UserError`` ends with
    ``advice``.
    """
    for folder in (*(path / name for name in inside), path):
        if any((folder / marker).is_file() for marker in markers):
            return folder
    raise UserError(f"no {markers[0]} in {path / inside[0]} nor in {path}: {advice}")


Images = TypeVar("Images", PixelImages, FileImages)


def number_classes(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels 0, 1, ... (n,) int64 of ``classes`` (n,), and the distinct classes in order."""
    present, labels = np.unique(classes, return_inverse=True)
    return labels.astype(np.int64), present


def part_by_class(images: Images, n_training: int) -> tuple[Images, Images]:
    """Return the first ``n_training`` classes and the others, each renumbered from 0."""
    first = images.labels < n_training
    return _with_own_classes(images[first]), _with_own_classes(images[~first])


def _with_own_classes(images: Images) -> Images:
    labels, present = number_classes(images.labels)
    return replace(
        images, labels=labels, class_names=tuple(images.class_names[number] for number in present)
    )


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

    def part(self, images: Images) -> tuple[Images, Images]:
        """Return training and test images; ``UserError`` if one of them would be empty."""
        counts = np.bincount(images.labels, minlength=len(images.class_names))
        if len(counts) < 2 or counts.max() < 2:
            raise UserError(
                f"{len(images)} images of {len(counts)} classes cannot be divided: at least two classes "
                "and two images of a class are necessary"
            )
        if self.by == "classes":
            n_training = round(self.train_share * len(counts))
            return part_by_class(images, min(max(n_training, 1), len(counts) - 1))
        training = self._training_images(images.labels, counts)
        return images[training], images[~training]

    def _training_images(self, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Mark the training images, (n,) bool: at least one of each class, and not all if it has two."""
        n_training = np.round(self.train_share * counts).clip(1, np.maximum(counts - 1, 1))
        # In an order by class and then at random, the first images of each class are for training.
        chance = np.random.default_rng(self.seed).random(len(labels))
        order = np.lexsort((chance, labels))
        first_of_class = np.cumsum(counts) - counts
        place = np.empty(len(labels), np.int64)
        place[order] = np.arange(len(labels)) - first_of_class[labels[order]]
        return place < n_training[labels]


@dataclass(frozen=True)
class JoinedImages:
    """Images of ``first`` followed by the images of ``second``, which has the same classes."""

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
