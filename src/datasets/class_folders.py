"""Labelled images from a folder for each class, or from a catalogue with categories.

Whole images are squashed to the given size, as in the stages that read a catalogue.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.tables import read_labelled
from src.datasets.catalogue import SQUASHED, choose_resize, open_catalogue
from src.datasets.image_files import image_files, image_size
from src.datasets.image_set import ImageFiles, ImageSet, number_classes
from src.datasets.image_splitting import random_halves

Parts = tuple[ImageSet, ImageSet]


def read_class_folders(path: Path, size: int | None, trained_size: int | None) -> Parts:
    """Read ``<class>/<image>`` below ``path``; classes stand in the order of their names."""
    if not path.is_dir():
        raise UserError(f"no folder at {path}")
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    files = [image for folder in folders for image in sorted(image_files(folder))]
    if not files:
        raise UserError(
            f"no images in the folders of {path}: expected <class>/<image>.jpg, .png, ..."
        )
    classes, labels = number_classes(np.array([file.parent.name for file in files]))
    sizes = np.array([image_size(file) for file in files], np.int64)
    store = ImageFiles(tuple(files), _side(path, sizes, size, trained_size), sizes=sizes)
    return random_halves(ImageSet.of(store, classes, labels.tolist(), inputs=[path]))


def read_catalogue(path: Path, size: int | None, trained_size: int | None) -> Parts:
    """Read the catalogue of the data set in the folder ``data/<dataset>``, its categories as classes.

    The categories come from the data set's ``items.csv`` (item, category and optionally label), else
    from the undefended extractor's ``classes.csv``.
    """
    layout = _layout_of(path)
    items, categories, names = _read_categories(layout)
    catalogue = open_catalogue(layout.images, 0)
    store = catalogue.store.take(catalogue.positions(items))
    side = _side(layout.images, store.sizes, size, trained_size)
    classes, present = number_classes(categories)
    images = ImageSet.of(
        replace(store, resize=side),
        classes,
        [names[category] for category in present],
        ids=items,
        inputs=_inputs(layout),
    )
    return random_halves(images)


def _side(folder: Path, sizes: np.ndarray, size: int | None, trained_size: int | None) -> int:
    """Choose the side to which images of ``sizes`` are squashed.

    Raises ``UserError`` where native sizes are asked for and the images are not squares of one size.
    """
    resize = choose_resize(sizes, size, trained_size)
    if not resize and (sizes != sizes[0, 0]).any():
        if size == 0:
            raise UserError(f"the images of {folder} are not squares of one size: give their side")
        resize = SQUASHED
    return resize or int(sizes[0, 0])


def _inputs(layout: Layout) -> list[Path]:
    """Return the image folder of a data set, and the file that its categories come from."""
    known = layout.item_categories.is_file()
    return [layout.images, layout.item_categories if known else layout.classes(Experiment())]


def _layout_of(path: Path) -> Layout:
    path = path.resolve()
    if path.parent.name != "data":
        raise UserError(f"{path} is no data set: expected data/<dataset>")
    return Layout(path.name, path.parent.parent)


def _read_categories(layout: Layout) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Return items (n,), their categories (n,) and the name of each category."""
    classes = layout.classes(Experiment())
    if not layout.item_categories.is_file():
        if not classes.is_file():
            raise UserError(
                f"no categories in {layout.data}: neither {layout.item_categories.name} (columns item, "
                f"category) nor {classes.relative_to(layout.data)} (run classify_extract.py first)"
            )
        seen = read_classes(classes)
        return seen.image_ids, seen.classes, dict(zip(seen.classes, seen.labels, strict=True))
    table = _read_category_table(layout.item_categories)
    names = table["label"] if "label" in table else "category " + table["category"].astype(str)
    return (
        table["item"].to_numpy(),
        table["category"].to_numpy(),
        dict(zip(table["category"], names, strict=True)),
    )


def _read_category_table(path: Path) -> pd.DataFrame:
    table = read_labelled(path)
    for column in ("item", "category"):
        if column not in table or not pd.api.types.is_integer_dtype(table[column]):
            raise UserError(f"{path} has no column {column} of whole numbers")
    if (repeated := table["item"].duplicated()).any():
        raise UserError(f"{path}: item {table['item'][repeated].iloc[0]} appears twice")
    return table
