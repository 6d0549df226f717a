"""Sets of images in files or in an array, with the classes of the images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.image_files import read_image
from src.datasets.read_ahead import read_ahead
from src.datasets.shards import ImagePath

NO_CLASS = -1
"""Class number of an image without a class."""
_DECODED_AT_ONCE = 64


@dataclass(frozen=True)
class ImageFiles:
    """Images in files, which are decoded as RGB at each use."""

    paths: tuple[ImagePath, ...] = field(repr=False)
    resize: int = 0
    """Side of the square to which every image is resized (bicubic); 0 keeps the native size."""
    crop: int = 0
    """Side of the central crop of that square; 0 keeps the whole image."""
    sizes: np.ndarray | None = field(default=None, repr=False)
    """Native (width, height) from the headers, (n, 2) int64; None if they were not read, which is
    enough where ``resize`` is given."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def side(self) -> int:
        """Height and width of all images, or 0 for native sizes."""
        return self.crop or self.resize

    def read(self, position: int) -> tuple[np.ndarray, str | None]:
        """Read (height, width, 3) uint8, and a note if the file was truncated or converted."""
        pixels, note = read_image(self.paths[position], self.resize)
        if self.crop:
            first = (self.resize - self.crop) // 2
            pixels = pixels[first : first + self.crop, first : first + self.crop]
        return pixels, note

    def batch(self, positions: np.ndarray) -> np.ndarray:
        images = [self.read(position)[0] for position in positions]
        return np.stack(images) if images else np.empty((0, self.side, self.side, 3), np.uint8)

    def take(self, positions: np.ndarray) -> "ImageFiles":
        paths = tuple(self.paths[position] for position in positions)
        sizes = None if self.sizes is None else self.sizes[positions]
        return replace(self, paths=paths, sizes=sizes)

    def followed_by(self, other: "ImageFiles") -> "ImageFiles":
        return ImageFiles(self.paths + other.paths, self.resize, self.crop)

    def of_one_size(self, positions: np.ndarray) -> list[np.ndarray]:
        """Split ``positions`` into groups of images of equal size."""
        if self.resize:
            return [positions]
        _, group = np.unique(self.sizes[positions], axis=0, return_inverse=True)
        return [positions[group.ravel() == g] for g in range(group.max(initial=-1) + 1)]


@dataclass(frozen=True)
class ImageArray:
    """Images in memory."""

    pixels: np.ndarray = field(repr=False)
    """Pixels (n, height, width, 3 or 1) uint8."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def side(self) -> int:
        """Height of all images, which is their width if they are square."""
        return self.pixels.shape[1]

    def read(self, position: int) -> tuple[np.ndarray, None]:
        return self.pixels[position], None

    def batch(self, positions: np.ndarray) -> np.ndarray:
        return self.pixels[positions]

    def take(self, positions: np.ndarray) -> "ImageArray":
        return ImageArray(self.pixels[positions])

    def followed_by(self, other: "ImageArray") -> "ImageArray":
        return ImageArray(np.concatenate([self.pixels, other.pixels]))

    def of_one_size(self, positions: np.ndarray) -> list[np.ndarray]:
        return [positions]


@dataclass(frozen=True)
class ImageSet:
    """N images; position p is the image ``ids[p]`` of the class ``labels[classes[p]]``."""

    store: ImageFiles | ImageArray
    """Place of the pixels, which also says at which size they are read."""
    ids: np.ndarray = field(repr=False)
    """Ids (N,) int64: item ids of a catalogue, else numbers 0, 1, ..."""
    classes: np.ndarray = field(repr=False)
    """Class numbers (N,) int64, all ``NO_CLASS`` in a set without classes."""
    labels: tuple[str, ...] = field(default=(), repr=False)
    """Names of the classes, empty in a set without classes."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that determine the images and their classes."""

    @classmethod
    def of(
        cls,
        store: ImageFiles | ImageArray,
        classes: np.ndarray | None = None,
        labels: Sequence[str] = (),
        *,
        ids: np.ndarray | None = None,
        inputs: Sequence[Path] = (),
    ) -> "ImageSet":
        """Return the images of ``store``; without ``ids`` they are numbered from 0."""
        return cls(
            store,
            np.arange(len(store)) if ids is None else ids,
            np.full(len(store), NO_CLASS) if classes is None else classes.astype(np.int64),
            tuple(labels),
            tuple(inputs),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def side(self) -> int:
        """Height and width in pixels of the images as they are read; 0 for native sizes of files."""
        return self.store.side

    def image(self, position: int) -> np.ndarray:
        """Return the image at ``position``, (height, width, 3 or 1) uint8."""
        return self.read(position)[0]

    def read(self, position: int) -> tuple[np.ndarray, str | None]:
        """Return the image at ``position`` and a note if its file was truncated or converted.

        ``UserError`` names a file that is no image.
        """
        return self.store.read(position)

    def batch(self, positions: np.ndarray) -> np.ndarray:
        """Return the images at ``positions`` (m,), which have one size: (m, height, width, 3 or 1)."""
        return self.store.batch(positions)

    def batches(self, positions: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """Split ``positions`` into batches of images of equal size, deterministically."""
        for group in self.store.of_one_size(positions):
            for start in range(0, len(group), batch_size):
                yield group[start : start + batch_size]

    def positions(self, image_ids: np.ndarray) -> np.ndarray:
        """Return the positions of ``image_ids``; ``UserError`` names the first without an image."""
        order = np.argsort(self.ids)
        where = np.searchsorted(self.ids, image_ids, sorter=order)
        found = order[np.minimum(where, len(self) - 1)]
        if (missing := self.ids[found] != image_ids).any():
            place = ", ".join(map(str, self.inputs))
            raise UserError(f"no image for item {image_ids[np.argmax(missing)]} in {place}")
        return found

    def take(self, chosen: np.ndarray) -> "ImageSet":
        """Return the images at the positions or in the mask ``chosen``; classes keep their numbers."""
        positions = np.arange(len(self))[chosen]
        return replace(
            self,
            store=self.store.take(positions),
            ids=self.ids[positions],
            classes=self.classes[positions],
        )

    def resized(self, resize: int) -> "ImageSet":
        """Read images in files at another side, or at their native sizes if ``resize`` is 0."""
        return replace(self, store=replace(self.store, resize=resize))

    def renumbered(self) -> "ImageSet":
        """Number the classes that have an image from 0, in their order, and forget the others."""
        classes, present = number_classes(self.classes)
        return replace(self, classes=classes, labels=tuple(self.labels[c] for c in present))

    def pixels(self) -> np.ndarray:
        """Return all images, which must have one size: (N, height, width, 3 or 1) uint8."""
        if not len(self):
            return self.batch(np.arange(0))
        batches = self.batches(np.arange(len(self)), _DECODED_AT_ONCE)
        return np.concatenate([pixels for _, pixels in read_ahead(self.batch, batches)])

    def in_memory(self) -> "ImageSet":
        """Decode all images, which must have one size, into an array."""
        return self.with_pixels(self.pixels())

    def with_pixels(self, pixels: np.ndarray) -> "ImageSet":
        """Return the images with the content ``pixels`` (N, height, width, 3 or 1) uint8."""
        return replace(self, store=ImageArray(pixels))


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of ``first``, then those of ``second``, numbered anew.

    Both must be read from the same kind of store at one size, and have the same classes.
    """
    return ImageSet.of(
        first.store.followed_by(second.store),
        np.concatenate([first.classes, second.classes]),
        first.labels,
        inputs=first.inputs,
    )


def number_classes(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number ``classes`` (n,) from 0: the numbers (n,) int64, and the distinct classes in order."""
    present, numbers = np.unique(classes, return_inverse=True)
    return numbers.astype(np.int64), present
