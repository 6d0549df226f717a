"""Folders of reconstructed images and their originals, in the published naming.

A condition (a network, its training, an attack) has three folders side by side. The name of a file
holds the position and class of its image::

    ResNet20-4_200_inversed_crop_auglist__rlabel_False/12_3_rec.png
    ResNet20-4_200_inversed_crop_auglist__rlabel_False_ori/12_3_ori.png
    ResNet20-4_200_inversed_crop_auglist__rlabel_False_untransformed/12_3_ori.png

``_ori`` holds the images that were attacked, transformed as in training, and ``_untransformed`` the
images before the transformation. A reconstruction belongs to the original of its position and class,
independently of the order of files (Sun et al., "Privacy Assessment on Reconstructed Images: Are Existing
Evaluation Metrics Faithful to Human Perception?", NeurIPS 2023).
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from src.artifacts.atomic import PARTIAL_PREFIX, staging_folder
from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.locks import sole_maker

ORIGINALS = "_ori"
UNTRANSFORMED = "_untransformed"
METRICS_FILE = "metric.tsv"
"""Table in the folder of reconstructions, with a row for each image."""

_IMAGE_NAME = re.compile(r"(?P<id>\d+)_(?P<label>\d+)_[^/]+\.png")


class Pair(NamedTuple):
    """Reconstruction and its original."""

    id: int
    label: int
    original: Path
    reconstruction: Path


def originals_folder(folder: Path, *, untransformed: bool = False) -> Path:
    """Return the folder, beside ``folder`` of the reconstructions, that holds their originals."""
    return folder.with_name(folder.name + (UNTRANSFORMED if untransformed else ORIGINALS))


def parse_image_name(name: str) -> tuple[int, int]:
    """Return position and class, (12, 3) for ``12_3_rec.png``; ``UserError`` for other names."""
    match = _IMAGE_NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name!r} does not name an image: expected <id>_<label>_<anything>.png")
    return int(match["id"]), int(match["label"])


def read_images_by_name(folder: Path) -> dict[tuple[int, int], Path]:
    """Return the PNG files ``{id}_{label}_*.png`` of ``folder`` by (id, label), in ascending order.

    Raises ``UserError`` if the folder is missing or has no PNG, a name has another form, or two files
    have the same id and label.
    """
    if not folder.is_dir():
        raise UserError(f"no folder of images at {folder}")
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(_pictures(folder)):
        try:
            place = parse_image_name(path.name)
        except UserError as error:
            raise UserError(f"{folder}: {error}") from error
        if place in found:
            raise UserError(f"{folder}: {found[place].name} and {path.name} are the same image")
        found[place] = path
    if not found:
        raise UserError(f"no images <id>_<label>_<anything>.png in {folder}")
    return dict(sorted(found.items()))


def _pictures(folder: Path) -> Iterator[Path]:
    """Return the PNG files, without those that are being written."""
    return (path for path in folder.glob("*.png") if not path.name.startswith(PARTIAL_PREFIX))


def read_images(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read images with classes ``{id}_{label}_*.png`` of one size, in ascending order of id.

    Returns ids (n,) int64, classes (n,) int64 and pixels (n, height, width, 3) uint8. Raises
    ``UserError`` as ``read_images_by_name`` does, and for sizes that differ and unreadable files.
    """
    files = read_images_by_name(folder)
    images = [_pixels(path) for path in files.values()]
    for path, image in zip(files.values(), images, strict=True):
        if image.shape != images[0].shape:
            raise UserError(f"{path} is not of the size of the other images of {folder}")
    ids, classes = np.array(list(files), np.int64).T
    return ids, classes, np.stack(images)


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not a readable image") from error


def read_pairs(folder: Path, *, untransformed: bool = False) -> list[Pair]:
    """Return the reconstructions of ``folder`` with their originals, in ascending order of id.

    Originals are the transformed images, or with ``untransformed`` the images before. There may be more
    originals than reconstructions: the published study shares one folder among many conditions. Raises
    ``UserError`` for a reconstruction without an original, for sizes that differ, for names of another
    form and for missing or empty folders.
    """
    reconstructions = read_images_by_name(folder)
    originals = read_images_by_name(originals_folder(folder, untransformed=untransformed))
    pairs = []
    for (number, label), path in reconstructions.items():
        original = originals.get((number, label))
        if original is None:
            raise UserError(f"{path} has no original {number}_{label}_*.png among the originals")
        pairs.append(Pair(number, label, original, path))
    for pair in pairs:
        sizes = _size(pair.original), _size(pair.reconstruction)
        if sizes[0] != sizes[1]:
            shown = ["x".join(map(str, size)) for size in sizes]
            raise UserError(f"{pair.reconstruction} has {shown[1]} pixels, its original {shown[0]}")
    return pairs


def diverged_images(folder: Path) -> set[tuple[int, int]]:
    """Return (id, label) of the images for which every restart diverged, by the table ``METRICS_FILE``.

    Their files show the mean colour and no reconstruction. The set is empty if ``folder`` has no such
    table or the table has no column ``restart``; raises ``UserError`` for a file that is no table.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        return set()
    table = read_results(path, ())
    if not {"id", "label", "restart"} <= set(table):
        return set()
    lost = table[table["restart"] == -1]
    return set(zip(lost["id"], lost["label"], strict=True))


def _size(path: Path) -> tuple[int, int]:
    """Read (width, height) from the header of the file."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not a readable image") from error


def write_reconstructions(
    folder: Path,
    ids: Sequence[int],
    classes: Sequence[int],
    reconstructions: np.ndarray,
    originals: np.ndarray,
    untransformed: np.ndarray,
) -> tuple[Path, Path, Path]:
    """Write the three folders of a condition; each replaces an existing folder as a whole.

    Images are (n, height, width, 3) uint8. Returns the folders of reconstructions, transformed originals
    and untransformed originals.
    """
    places = (
        (folder, "rec", reconstructions),
        (originals_folder(folder), "ori", originals),
        (originals_folder(folder, untransformed=True), "ori", untransformed),
    )
    for place, kind, images in places:
        with sole_maker(place), staging_folder(place) as staging:
            for image_id, number, image in zip(ids, classes, images, strict=True):
                Image.fromarray(image).save(staging / f"{image_id}_{number}_{kind}.png")
            shutil.rmtree(place, ignore_errors=True)
            staging.replace(place)
    return places[0][0], places[1][0], places[2][0]
