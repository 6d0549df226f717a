"""Data set from the user's image folder and tables of interactions."""

from pathlib import Path

from PIL import Image

from src.artifacts.layout import Layout
from src.datasets.image_arrays import read_catalogue_npz
from src.datasets.images import NO_IMAGE, check_images, find_images
from src.datasets.tabular import Tables
from src.datasets.writing import write_dataset


def prepare_folder(staged: Layout, tables: Tables, images: Path) -> None:
    """Write the data set of ``tables`` without the rows of items that have no readable image.

    Every readable image is an item, with or without feedback; with a core, only items of the core are.
    ``images`` is a folder, or an ``.npz`` whose row i of ``x`` is the image of item i.
    """
    rows = tables.read()
    found = find_images(unpacked(images, staged.root / "unpacked"))
    missing = {item: NO_IMAGE for item in rows.present_items if item not in found}
    dropped = missing | check_images(found)
    readable = {item: path for item, path in found.items() if item not in dropped}
    split = tables.split(rows.with_items(readable))
    if tables.core:
        readable = {item: readable[item] for item in split.present_items}
    write_dataset(staged, split, readable, dropped)


def unpacked(images: Path, place: Path) -> Path:
    """Return the folder ``images``; the images of an ``.npz`` are written to ``place`` as PNG."""
    if images.suffix != ".npz":
        return images
    place.mkdir()
    for item, pixels in enumerate(read_catalogue_npz(images)):
        Image.fromarray(pixels).save(place / f"{item}.png")
    return place
