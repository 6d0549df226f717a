"""Folder of product images, one for each item, and the size at which images are read."""

from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.datasets.image_files import image_size, images_of, require_images
from src.datasets.image_set import ImageFiles, ImageSet
from src.datasets.mapping import IdMap
from src.datasets.shards import ImagePath

SQUASHED = 224
"""Side in pixels to which images of unequal sizes are resized, the input size of ImageNet networks."""


def count_items(layout: Layout) -> int | None:
    """Return the number of items: the images or, without an image folder, the rows of ``item_ids.tsv``.

    None stands for a data set with neither.
    """
    if layout.images.is_dir():
        return len(images_of(layout.images))
    return len(IdMap.read(layout.item_map)) if layout.item_map.is_file() else None


def require_catalogue(layout: Layout) -> None:
    """Raise ``UserError`` if the data set has no images, for example because its features came ready."""
    if not layout.images.is_dir() and layout.features(Experiment()).is_file():
        raise UserError(
            f"{layout.data} has no images, its features came ready: stages 1 and 3 do not apply"
        )
    require_images(layout.images)


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


def image_ids(folder: Path) -> np.ndarray:
    """Return the item ids (n,) int64 of the images of ``folder``, ascending."""
    return np.array(sorted(map(_item_id, require_images(folder))), np.int64)


def open_catalogue(
    folder: Path, resize: int | None = None, trained_size: int | None = None
) -> ImageSet:
    """List the images of ``folder``, in files or tar archives, in the order of their integer names.

    ``choose_resize`` says what ``resize`` and ``trained_size`` mean; the returned ``resize`` is what
    was chosen. Raises ``UserError`` when the folder is missing or empty, a name is not an integer, an
    id is there twice, or a file's header is not that of an image.
    """
    paths = sorted(require_images(folder), key=_item_id)
    ids = np.array([_item_id(path) for path in paths], np.int64)
    if len(repeated := np.flatnonzero(np.diff(ids) == 0)):
        raise UserError(f"{folder} has two images of item {ids[repeated[0]]}")
    sizes = np.array([image_size(path) for path in paths], np.int64)
    resize = choose_resize(sizes, resize, trained_size)
    return ImageSet.of(ImageFiles(tuple(paths), resize, sizes=sizes), ids=ids, inputs=[folder])


def open_whole_catalogue(
    folder: Path, resize: int | None = None, trained_size: int | None = None
) -> ImageSet:
    """Open a catalogue whose ids must run 0..n-1, since row i of the features is item i."""
    catalogue = open_catalogue(folder, resize, trained_size)
    if len(gap := np.flatnonzero(catalogue.ids != np.arange(len(catalogue)))):
        raise UserError(f"{folder} has no image of item {gap[0]}: ids must run 0..n-1 without gaps")
    return catalogue


def _item_id(path: ImagePath) -> int:
    if not path.stem.isdecimal():
        raise UserError(f"{path}: image names must be item ids, like 17.jpg")
    return int(path.stem)
