"""Folder of pictures whose categories a table lists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.tables import read_labelled
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageSet

COLUMNS = ("item", "category", "label")


def open_labelled_folder(
    folder: Path, table: Path, size: int | None = 0, trained_size: int | None = None
) -> ImageSet:
    """Open the pictures of ``folder`` that ``table`` (CSV: item, category, label) lists, in its order.

    ``catalogue.choose_resize`` says what ``size`` and ``trained_size`` mean; native sizes must be
    equal. Raises ``UserError`` for a wrong table, a category without a picture or with
    two labels, and items without a picture.
    """
    rows = _read_table(table)
    catalogue = open_catalogue(folder, size, trained_size)
    pictures = catalogue.take(catalogue.positions(rows["item"].to_numpy(np.int64)))
    if len(pictures.store.of_one_size(np.arange(len(pictures)))) > 1:
        raise UserError(f"the pictures of {folder} differ in size: give --size")
    names = rows.drop_duplicates("category").set_index("category")["label"].sort_index()
    return replace(
        pictures,
        classes=np.array(rows["category"], np.int64),
        labels=tuple(names.astype(str)),
        inputs=(folder, table),
    )


def _read_table(path: Path) -> pd.DataFrame:
    table = read_labelled(path)
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    for column in ("item", "category"):
        if not pd.api.types.is_integer_dtype(table[column]):
            raise UserError(f"{path}: column {column} holds something that is not an integer")
    if (repeated := table["item"].duplicated()).any():
        raise UserError(f"{path}: item {table['item'][repeated].iloc[0]} appears twice")
    present = np.unique(table["category"])
    if len(present) < 2 or (present != np.arange(len(present))).any():
        raise UserError(f"{path}: categories must be 0, 1, ... without gaps, at least two")
    labels_of = table.groupby("category")["label"].nunique(dropna=False)
    if (labels_of > 1).any():
        raise UserError(f"{path}: category {labels_of.idxmax()} has several labels")
    return table
