"""Which items an attack changes: a class, some of it, a random part of the catalogue, or a list."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.tables import read_ids

Popularity = Literal["any", "low", "middle", "high", "cold"]
POPULARITIES: tuple[Popularity, ...] = ("low", "middle", "high", "cold")
"""The groups of ``popularity_thirds``."""


@dataclass(frozen=True)
class Items:
    """A choice of items; the default is the whole origin class."""

    source: Literal["class", "random", "file"] = "class"
    n: int | None = None
    """How many are drawn; None takes all."""
    file: str = ""
    """A file of item ids, one a line, in place of a draw."""
    popularity: Popularity = "any"
    """A third of the catalogue by training interactions, or the items without any (cold)."""

    @property
    def name(self) -> str:
        """Text in place of the origin class in names of experiments; empty for items of that class."""
        if self.source == "random":
            return f"random{self.n}"
        return f"ids-{_plain(Path(self.file).stem)}" if self.source == "file" else ""

    @property
    def suffix(self) -> str:
        """Text that names of experiments append: ``n64_low``; empty for a whole class."""
        drawn = f"n{self.n}" if self.source == "class" and self.n else ""
        popularity = "" if self.popularity == "any" else self.popularity
        return "_".join(part for part in (drawn, popularity) if part)

    def choose(self, of_class: np.ndarray, interactions: np.ndarray) -> np.ndarray:
        """Return the ids (n,) int64 of the attacked items, ascending.

        ``of_class`` are the items of the origin class, ``interactions`` (items,) the number of training
        rows of every item. The same choice is made for all attacks. Raises ``UserError`` if it is empty,
        too small, or not in the catalogue.
        """
        n_items = len(interactions)
        if self.source == "file":
            ids = np.unique(read_ids(Path(self.file)))
            if len(ids) and ids[-1] >= n_items:
                raise UserError(
                    f"{self.file}: item {ids[-1]} is not in the catalogue of {n_items} items"
                )
        else:
            ids = np.sort(of_class) if self.source == "class" else np.arange(n_items)
        ids = ids[self._in_group(interactions)[ids]]
        if len(ids) < (self.n or 1):
            raise UserError(
                f"{len(ids)} items fit --items and --popularity: {self.n or 1} are wanted"
            )
        if self.n:
            ids = np.sort(np.random.default_rng(0).choice(ids, self.n, replace=False))
        return ids

    def _in_group(self, interactions: np.ndarray) -> np.ndarray:
        """Return whether each item is in the wanted group of popularity, (items,) bool."""
        if self.popularity == "any":
            return np.ones(len(interactions), bool)
        return popularity_thirds(interactions) == self.popularity


def popularity_thirds(interactions: np.ndarray) -> np.ndarray:
    """Return the group (items,) of each item by its number of ``interactions`` (items,).

    Items with interactions are low, middle or high, a third each; those without are cold. Equal counts
    are divided by id, so that thirds have equal sizes.
    """
    groups = np.full(len(interactions), "cold", dtype="<U6")
    warm = np.flatnonzero(interactions)
    order = warm[np.argsort(interactions[warm], kind="stable")]
    for name, part in zip(POPULARITIES[:3], np.array_split(order, 3), strict=True):
        groups[part] = name
    return groups


def add_items_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--items",
        default="class",
        metavar="WHICH",
        help="attacked items: class (all items of the origin class), class:N (N random ones of them), "
        "random:N (N random ones of the catalogue), or a file of ids, one a line",
    )
    group.add_argument(
        "--popularity",
        choices=("any", *POPULARITIES),
        default="any",
        help="take --items from a third of the catalogue by training interactions, or from the items "
        "without any",
    )


def items_of(options: argparse.Namespace) -> Items:
    """Return the choice of items that options describe; ``UserError`` for one that cannot be read."""
    text, popularity = options.items, options.popularity
    if match := re.fullmatch(r"(class|random)(?::(\d+))?", text):
        n = int(match[2]) if match[2] else None
        if n == 0 or (match[1] == "random" and n is None):
            raise UserError(f"--items {text}: say how many, for example {match[1]}:64")
        return Items(match[1], n, popularity=popularity)
    if not Path(text).is_file():
        raise UserError(f"--items {text}: it is neither class, class:N, random:N nor a file")
    return Items("file", file=text, popularity=popularity)


def _plain(name: str) -> str:
    """Return ``name`` with a dash for everything but letters, digits, points and dashes."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)
