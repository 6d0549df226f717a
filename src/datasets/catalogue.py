"""Folder of product images, one for each item."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
SQUASHED = 224
"""Side in pixels to which images of unequal sizes are resized, the input size of ImageNet networks."""


@dataclass(frozen=True)
class Catalogue:
    """Images ``<item id>.<suffix>``, read as uint8 RGB arrays; position p is image ``ids[p]``."""

    paths: tuple[Path, ...]
    ids: np.ndarray
    """(n,) int64, ascending."""
    resize: int = 0
    """Side of the square to which every image is resized (bicubic); 0 keeps the native size."""
    sizes: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64), repr=False)
    """(n, 2) int64 native (width, height), from the headers."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> np.ndarray:
        """Return the image at ``position``, (height, width, 3) uint8."""
        return self.read(position)[0]

    def read(self, position: int) -> tuple[np.ndarray, str | None]:
        """Read (height, width, 3) uint8, and a note if the file was truncated or converted."""
        return read_image(self.paths[position], self.resize)

    def positions(self, image_ids: np.ndarray) -> np.ndarray:
        """Return the positions of ``image_ids``; ``UserError`` names the first without an image."""
        where = np.minimum(np.searchsorted(self.ids, image_ids), len(self) - 1)
        if (missing := self.ids[where] != image_ids).any():
            raise UserError(
                f"no image for item {image_ids[np.argmax(missing)]} in {self.paths[0].parent}"
            )
        return where

    def batches(self, positions: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """Split ``positions`` into batches of images of equal size, deterministically."""
        if self.resize:
            groups = [positions]
        else:
            _, group = np.unique(self.sizes[positions], axis=0, return_inverse=True)
            groups = [positions[group.ravel() == g] for g in range(group.max(initial=-1) + 1)]
        for members in groups:
            for start in range(0, len(members), batch_size):
                yield members[start : start + batch_size]


def image_files(folder: Path) -> list[Path]:
    """Return the files of ``folder`` with an image suffix, except hidden ones, in no fixed order."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def count_images(layout: Layout) -> int | None:
    """Return the number of items in the catalogue, or None if it has no image folder."""
    return len(image_files(layout.images)) if layout.images.is_dir() else None


def choose_resize(sizes: np.ndarray, resize: int | None, trained_size: int | None) -> int:
    """Return the side in pixels to which images of ``sizes`` are resized, or 0 for their native sizes.

    ``sizes`` (n, 2) are native widths and heights. ``resize`` is what the user asks for. None is the
    size that the network was trained on (``trained_size``); where that is not recorded it is the
    native size if all images share one, else ``SQUASHED``.
    """
    if resize is not None:
        return resize
    if trained_size is None:
        return 0 if (sizes == sizes[0]).all() else SQUASHED
    return 0 if (sizes == trained_size).all() else trained_size


def describe_reading(sizes: np.ndarray, resize: int, trained_size: int | None) -> str:
    """Say how large the images are natively and as the network reads them: features depend on it."""
    smallest, largest = sizes.min(axis=0), sizes.max(axis=0)
    native = "x".join(map(str, smallest))
    if (smallest != largest).any():
        native += " to " + "x".join(map(str, largest))
    read_at = f"resized to {resize}x{resize}" if resize else "not resized"
    said = f"{len(sizes)} images of {native} pixels, {read_at}"
    as_trained = (
        trained_size is None or (np.array(resize if resize else sizes) == trained_size).all()
    )
    return said if as_trained else f"{said}; {_trained_on(trained_size)}"


def describe_side(side: int, trained_size: int | None) -> str:
    """Say at which size the images of a labelled set are read, and what the network was trained on."""
    said = f"images are read at {side}x{side} pixels"
    return said if trained_size in (None, side) else f"{said}; {_trained_on(trained_size)}"


def _trained_on(size: int) -> str:
    return f"the network was trained on {size}x{size}"


def require_images(folder: Path) -> list[Path]:
    """The images of ``folder``, in no order; ``UserError`` where it is missing or empty."""
    if not folder.is_dir():
        raise UserError(f"no image folder at {folder}")
    paths = image_files(folder)
    if not paths:
        raise UserError(f"no images in {folder}")
    return paths


def image_ids(folder: Path) -> np.ndarray:
    """Return the item ids (n,) int64 of the images of ``folder``, ascending."""
    return np.array(sorted(map(_item_id, require_images(folder))), np.int64)


def open_catalogue(
    folder: Path, resize: int | None = None, trained_size: int | None = None
) -> Catalogue:
    """List the images of ``folder`` in the order of their integer names.

    ``choose_resize`` says what ``resize`` and ``trained_size`` mean; the returned ``resize`` is what
    was chosen. Raises ``UserError`` when the folder is missing or empty, a name is not an integer, an
    id is there twice, or a file's header is not that of an image.
    """
    paths = sorted(require_images(folder), key=_item_id)
    ids = np.array([_item_id(path) for path in paths], np.int64)
    if len(repeated := np.flatnonzero(np.diff(ids) == 0)):
        raise UserError(f"{folder} has two images of item {ids[repeated[0]]}")
    sizes = np.array([image_size(path) for path in paths], np.int64)
    return Catalogue(tuple(paths), ids, choose_resize(sizes, resize, trained_size), sizes)


def open_whole_catalogue(
    folder: Path, resize: int | None = None, trained_size: int | None = None
) -> Catalogue:
    """Open a catalogue whose ids must run 0..n-1, since row i of the features is item i."""
    catalogue = open_catalogue(folder, resize, trained_size)
    if len(gap := np.flatnonzero(catalogue.ids != np.arange(len(catalogue)))):
        raise UserError(f"{folder} has no image of item {gap[0]}: ids must run 0..n-1 without gaps")
    return catalogue


def read_image(path: Path, resize: int = 0) -> tuple[np.ndarray, str | None]:
    """Read (height, width, 3) uint8 RGB, and a note if the file was truncated or converted.

    The decodable part of a truncated file is kept; palette, grey, CMYK and alpha images are converted.
    Raises ``UserError`` if nothing can be decoded.
    """
    notes = []
    try:
        image = Image.open(path)
        if image.mode != "RGB":
            notes.append(f"converted from {image.mode}")
        try:
            image.load()
        except OSError:
            notes.append("truncated")
            image = _load_truncated(path)
        image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a readable image: {error}") from error
    if resize:
        image = image.resize((resize, resize), Image.Resampling.BICUBIC)
    return np.asarray(image), ", ".join(notes) or None


def _load_truncated(path: Path) -> Image.Image:
    """Decode the existing part of a file that ends too early."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image = Image.open(path)
        image.load()
        return image
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _item_id(path: Path) -> int:
    if not path.stem.isdecimal():
        raise UserError(f"{path}: image names must be item ids, like 17.jpg")
    return int(path.stem)


def image_size(path: Path) -> tuple[int, int]:
    """Read (width, height) from the header of a file; ``UserError`` if it is no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise UserError(f"{path} is not a readable image: {error}") from error
