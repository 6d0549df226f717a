"""Simulated users who choose products by kind and by visible attributes."""

from collections.abc import Mapping, Sequence

import numpy as np

from src.datasets.demo.canvas import Look
from src.datasets.demo.products import LABELS

POPULARITY: Mapping[str, float] = {
    "sandal": -1.8,
    "running shoe": 1.5,
    "T-shirt": 0.7,
    "jeans": 0.4,
    "handbag": 0.1,
    "watch": -0.3,
    "dress": -0.1,
    "hat": -0.6,
}
"""Utility of a kind of product for all users, the logarithm of its relative frequency of choice."""

# Standard deviations over users of the utilities that personal taste adds.
CATEGORY_TASTE = 1.0
HUE_TASTE = 1.0
DARKNESS_TASTE = 0.8
PATTERN_TASTE = 0.7
# Standard deviation over items of a utility that no picture explains (price, brand).
HIDDEN_APPEAL = 0.3
FEWEST, MOST = 8, 20
"""Bounds of the number of interactions of a user."""


def visible_attributes(looks: Sequence[Look]) -> np.ndarray:
    """Return (items, 4) float64 of mean 0 and deviation 1: two hue coordinates, darkness, pattern.

    The hue coordinates are scaled by the saturation, so that grey has none.
    """
    hue = np.array([2 * np.pi * look.colour[0] for look in looks])
    saturation = np.array([look.colour[1] for look in looks])
    darkness = np.array([look.darkness for look in looks])
    patterned = np.array([look.patterned for look in looks], np.float64)
    columns = (saturation * np.cos(hue), saturation * np.sin(hue), darkness, patterned)
    attributes = np.stack(columns, axis=1)
    attributes -= attributes.mean(axis=0)
    return attributes / np.maximum(attributes.std(axis=0), 1e-9)


def utilities(
    categories: np.ndarray, looks: Sequence[Look], n_users: int, random: np.random.Generator
) -> np.ndarray:
    """Draw the utility of each item for each user: (users, items) float64."""
    popularity = np.array([POPULARITY[label] for label in LABELS])
    by_category = popularity + random.normal(0, CATEGORY_TASTE, (n_users, len(LABELS)))
    spreads = np.array([HUE_TASTE, HUE_TASTE, DARKNESS_TASTE, PATTERN_TASTE])
    by_attribute = random.normal(0, spreads, (n_users, len(spreads)))
    hidden = random.normal(0, HIDDEN_APPEAL, len(looks))
    return by_category[:, categories] + by_attribute @ visible_attributes(looks).T + hidden


def choose(utility: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``FEWEST`` to ``MOST`` different items for every user, and hold one of them out.

    Items are drawn one after the other without replacement, with probability proportional to
    exp(utility). Sorting by utility plus Gumbel noise draws exactly this (Yellott 1977). Returns (user,
    item) pairs of the training rows (n, 2) and of the test rows (users, 2), int64.
    """
    n_users, n_items = utility.shape
    fewest, most = min(FEWEST, n_items), min(MOST, n_items)
    counts = random.integers(fewest, most + 1, n_users)
    order = np.argsort(-(utility + random.gumbel(size=utility.shape)), axis=1)[:, :most]
    taken = np.arange(most) < counts[:, None]
    held_out = np.zeros_like(taken)
    held_out[np.arange(n_users), random.integers(0, counts)] = True
    users = np.broadcast_to(np.arange(n_users)[:, None], order.shape)
    pairs = np.stack([users, order], axis=-1)
    return pairs[taken & ~held_out], pairs[held_out]
