"""Data set from the user's image folder and tables of interactions."""

from pathlib import Path

from src.artifacts.layout import Layout
from src.datasets.images import NO_IMAGE, check_images, find_images
from src.datasets.tabular import Tables
from src.datasets.writing import write_dataset


def prepare_folder(staged: Layout, tables: Tables, images: Path) -> None:
    """Write the data set of ``tables`` without the rows of items that have no readable image.

    Every readable image is an item, with or without feedback; with a core, only items of the core are.
    """
    rows = tables.read()
    found = find_images(images)
    missing = {item: NO_IMAGE for item in rows.present_items if item not in found}
    dropped = missing | check_images(found)
    readable = {item: path for item, path in found.items() if item not in dropped}
    split = tables.split(rows.with_items(readable))
    if tables.core:
        readable = {item: readable[item] for item in split.present_items}
    write_dataset(staged, split, readable, dropped)
