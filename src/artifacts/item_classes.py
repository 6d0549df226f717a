"""Classes that a shop gives its items: a CSV table of item and category."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError

COLUMNS = ("item", "category")


@dataclass(frozen=True)
class ItemClasses:
    """Class of each item, ordered by item id."""

    path: Path
    items: np.ndarray
    """Item ids (n,) int64."""
    classes: np.ndarray
    """Class numbers (n,) int64."""
    labels: tuple[str, ...]
    """Names of the classes; class c is ``labels[c]``."""

    def require_items(self, items: np.ndarray) -> None:
        """Raise ``UserError`` unless exactly the ``items`` (m,) of the catalogue have a class."""
        missing = np.setdiff1d(items, self.items)
        if len(missing):
            raise UserError(f"{self.path} has no class of item {missing[0]}")
        unknown = np.setdiff1d(self.items, items)
        if len(unknown):
            raise UserError(f"{self.path}: the catalogue has no image of item {unknown[0]}")

    def class_of(self, text: str, option: str) -> int:
        """Return the class that ``text`` names or numbers; ``UserError`` for neither."""
        if text in self.labels:
            return self.labels.index(text)
        if text.isdecimal() and int(text) < len(self.labels):
            return int(text)
        known = ", ".join(self.labels[:10]) + ", ..." * (len(self.labels) > 10)
        raise UserError(f"--{option} {text}: {self.path} has the classes {known}")


def write_item_categories(path: Path, categories: np.ndarray, labels: Sequence[str]) -> None:
    """Write a CSV table of item, category and label: item i has ``categories[i]``, c is ``labels[c]``."""
    names = [labels[category] for category in categories]
    table = {"item": range(len(categories)), "category": categories, "label": names}
    pd.DataFrame(table).to_csv(path, index=False)


def read_item_classes(path: Path) -> ItemClasses:
    """Read a CSV table of the columns item and category, with or without a header.

    Classes are numbered in the order of their names, which are compared as numbers if all are whole
    numbers. A table with a header may have other columns, and a column ``label`` names the categories.
    Raises ``UserError`` for any other file.
    """
    rows = _read_rows(path)
    item_column, name_column = 0, 1
    if rows and not rows[0][1][0].isdecimal():
        item_column, name_column = _columns_of(rows.pop(0)[1], path)
    if not rows:
        raise UserError(f"{path} has no items")
    names: dict[int, str] = {}
    for line, row in rows:
        if len(row) <= max(item_column, name_column):
            raise UserError(f"{path}, line {line}: expected an item and its category")
        item, name = row[item_column], row[name_column]
        if not item.isdecimal():
            raise UserError(f"{path}, line {line}: item {item!r} is not a whole number")
        if not name:
            raise UserError(f"{path}, line {line}: the category of item {item} has no name")
        if int(item) in names:
            raise UserError(f"{path}, line {line}: item {item} appears twice")
        names[int(item)] = name
    items = np.array(sorted(names), np.int64)
    present = set(names.values())
    labels = sorted(present, key=int if all(map(str.isdecimal, present)) else None)
    number_of = {label: number for number, label in enumerate(labels)}
    classes = np.array([number_of[names[item]] for item in items.tolist()], np.int64)
    return ItemClasses(path, items, classes, tuple(labels))


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty: their number in the file and their cells."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV table: {error}") from error


def _columns_of(header: list[str], path: Path) -> tuple[int, int]:
    """Return the positions of the columns of items and of names."""
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    name = "label" if "label" in header else "category"
    return header.index("item"), header.index(name)
