"""Boxes around the objects of images: a CSV table with the columns item, x0, y0, x1, y1."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.tables import read_labelled
from src.metrics.attention import cells_of_boxes

COLUMNS = ("item", "x0", "y0", "x1", "y1")


def read_object_cells(
    path: Path, image_ids: np.ndarray, sizes: np.ndarray, grid: tuple[int, int]
) -> np.ndarray:
    """Return the cells (n, h, w) bool of a ``grid`` over each image that its object covers.

    The table has one or more boxes for each item, in pixels of its stored image, x1 and y1
    excluded. ``sizes`` (n, 2) are the images' (width, height); the grid (h, w) covers the whole
    image, at any size that a network reads. An image without a box has no cells. Raises
    ``UserError`` for a table without boxes, and for a box outside its image.
    """
    table = _read(path)
    rows = pd.Series(np.arange(len(image_ids)), index=image_ids)
    table = table[table["item"].isin(image_ids)]
    row = rows.loc[table["item"]].to_numpy()
    width, height = sizes[row].T
    beyond = (table["x1"] > width) | (table["y1"] > height)
    if beyond.any():
        item = int(table["item"][beyond].iloc[0])
        raise UserError(f"{path}: the box of item {item} reaches out of its image")
    corners = table[list(COLUMNS[1:])].to_numpy(np.float64)
    cells = np.zeros((len(image_ids), *grid), bool)
    np.logical_or.at(cells, row, cells_of_boxes(corners, sizes[row][:, ::-1], grid))
    return cells


def _read(path: Path) -> pd.DataFrame:
    table = read_labelled(path)
    if missing := [name for name in COLUMNS if name not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    table = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce")
    boxed = (table["x0"] < table["x1"]) & (table["y0"] < table["y1"])
    boxed &= (table[["x0", "y0"]] >= 0).all(axis=1) & table["item"].notna()
    if not boxed.all():
        raise UserError(
            f"{path}, line {int(np.argmin(boxed)) + 2}: no box (0 <= x0 < x1 and 0 <= y0 < y1)"
        )
    return table
