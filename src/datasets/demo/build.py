"""Demo set: catalogue, users, and labelled pictures for the training of an extractor."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.images import write_image
from src.artifacts.item_classes import write_item_categories
from src.artifacts.layout import Layout
from src.artifacts.progress import progress_bar
from src.artifacts.tables import write_pairs
from src.datasets.demo.products import LABELS, draw_product
from src.datasets.demo.taste import choose, utilities

SHARES: Mapping[str, float] = {
    "sandal": 0.13,
    "running shoe": 0.17,
    "T-shirt": 0.16,
    "jeans": 0.12,
    "handbag": 0.12,
    "watch": 0.09,
    "dress": 0.13,
    "hat": 0.08,
}
"""Share of each kind of product in the catalogue."""
_CATALOGUE, _TRAINING, _USERS = range(3)
"""Separate streams of random numbers, so that a change in one part leaves the others unchanged."""


@dataclass(frozen=True)
class Demo:
    """Sizes and seed of the demo set."""

    items: int = 400
    users: int = 500
    size: int = 64
    """Side of a picture in pixels."""
    per_class: int = 150
    """Number of training pictures of each class; none of them is in the catalogue."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("items", 2 * len(LABELS)),
            ("users", 1),
            ("size", 16),
            ("per_class", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(f"--{name} must be at least {least}")
        if self.seed < 0:
            raise UserError("--seed must be at least 0")


def demo_outputs(layout: Layout) -> list[Path]:
    """Return the outputs of ``write_demo``."""
    return [
        layout.training_set,
        layout.test_set,
        layout.images,
        layout.item_categories,
        layout.extractor_set,
    ]


def write_demo(layout: Layout, demo: Demo) -> None:
    """Draw the pictures and simulate the users' choices; equal ``demo`` values give equal bytes."""
    layout.images.mkdir(parents=True, exist_ok=True)
    categories = item_categories(demo)
    looks = []
    for item, category in enumerate(progress_bar(categories, "drawing", unit="image")):
        random = np.random.default_rng([demo.seed, _CATALOGUE, item])
        picture, look = draw_product(int(category), demo.size, random)
        path = layout.images / f"{item}.jpg"
        write_image(path, picture, "jpeg", quality=95, subsampling=0)
        looks.append(look)
    write_item_categories(layout.item_categories, categories, LABELS)
    random = np.random.default_rng([demo.seed, _USERS])
    train, test = choose(utilities(categories, looks, demo.users, random), random)
    write_pairs(layout.training_set, train)
    write_pairs(layout.test_set, test)
    _write_training_pictures(layout.extractor_set, demo)


def item_categories(demo: Demo) -> np.ndarray:
    """Return the category of each item, (items,) int64, in random order with the given ``SHARES``.

    Every category has at least one item.
    """
    share = np.array([SHARES[label] for label in LABELS])
    bounds = np.rint(np.cumsum(share / share.sum()) * demo.items).astype(np.int64)
    counts = np.diff(bounds, prepend=0)
    random = np.random.default_rng([demo.seed, _CATALOGUE])
    return random.permutation(np.repeat(np.arange(len(LABELS)), counts))


def _write_training_pictures(folder: Path, demo: Demo) -> None:
    (folder / "images").mkdir(parents=True)
    categories = np.tile(np.arange(len(LABELS)), demo.per_class)
    for picture_id, category in enumerate(progress_bar(categories, "drawing more", unit="image")):
        random = np.random.default_rng([demo.seed, _TRAINING, picture_id])
        picture, _ = draw_product(int(category), demo.size, random)
        picture.save(folder / "images" / f"{picture_id}.png")
    write_item_categories(folder / "labels.csv", categories, LABELS)
