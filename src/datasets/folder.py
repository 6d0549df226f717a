"""Data set from the user's image folder and tables of interactions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.item_classes import write_item_categories
from src.artifacts.layout import Layout
from src.datasets.feedback_table import read_categories
from src.datasets.image_arrays import read_catalogue_npz
from src.datasets.images import NO_IMAGE, check_images, find_images
from src.datasets.lmdb_images import is_lmdb, unpack_lmdb
from src.datasets.mapping import IdMap
from src.datasets.shards import ImagePath
from src.datasets.tabular import Tables
from src.datasets.writing import write_dataset


def prepare_folder(
    staged: Layout, tables: Tables, images: Path, categories: Path | None = None
) -> None:
    """Write the data set of ``tables`` without the rows of items that have no readable image.

    Every readable image is an item, with or without feedback; with a core, only items of the core are.
    ``images`` is a folder, an LMDB database, or an ``.npz`` whose row i of ``x`` is the image of item i.
    ``categories`` is a table with the category of every such item.
    """
    rows = tables.read()
    category_of = read_categories(categories) if categories else None
    found = find_images(unpacked(images, staged.root / "unpacked"))
    _require_common(rows.present_items, found, tables.paths[0])
    missing = {item: NO_IMAGE for item in rows.present_items if item not in found}
    dropped = missing | check_images(found)
    readable = {item: path for item, path in found.items() if item not in dropped}
    split = tables.split(rows.with_items(readable))
    if tables.core:
        readable = {item: readable[item] for item in split.present_items}
    write_dataset(staged, split, readable, dropped)
    if category_of is not None:
        _write_categories(staged, category_of, categories)


def _require_common(items: Sequence[str], images: Mapping[str, ImagePath], path: Path) -> None:
    """Raise ``UserError`` if none of the ``items`` of the table ``path`` has an image."""
    if items and images.keys().isdisjoint(items):
        image = next(iter(images.values())).name
        raise UserError(
            f"no item of {path} has an image: its first item is {items[0]!r}, and the first image "
            f"{image!r}; images are named <item id>.jpg or .png"
        )


def _write_categories(staged: Layout, category_of: Mapping[str, str], path: Path) -> None:
    """Write the table of items, numbers and names of their categories, which are in alphabetical order.

    Names that are whole numbers get a word in front, since a number stands for a class. Raises
    ``UserError`` for items without a category.
    """
    items = IdMap.read(staged.item_map).originals
    unknown = [item for item in items if item not in category_of]
    if unknown:
        raise UserError(
            f"{path} has no category of {len(unknown)} of the {len(items)} items with images, the first "
            f"is {unknown[0]}"
        )
    names = pd.Series([category_of[item] for item in items])
    if names.str.isdecimal().all():
        names = "category " + names
    numbers, labels = pd.factorize(names, sort=True)
    write_item_categories(staged.item_categories, numbers, labels)
    without_image = sorted(category_of.keys() - set(items))
    left_out = ""
    if without_image:
        left_out = f"; {path} has {len(without_image)} more without an image: {without_image[0]}"
        left_out += ", ..." if len(without_image) > 1 else ""
    print(f"{len(labels)} categories, from {labels[0]} to {labels[-1]}{left_out}")


def unpacked(images: Path, place: Path) -> Path:
    """Return the folder ``images``.

    The images of an ``.npz`` are written to ``place`` as PNG, those of an LMDB database to tar archives.
    """
    if is_lmdb(images):
        place.mkdir()
        unpack_lmdb(images, place)
        return place
    if images.suffix != ".npz":
        return images
    place.mkdir()
    for item, pixels in enumerate(read_catalogue_npz(images)):
        Image.fromarray(pixels).save(place / f"{item}.png")
    return place
