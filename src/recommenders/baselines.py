"""Recommenders that nothing trains: two matrices whose product is the scores, straight from the data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from src.recommenders.data import TrainingData

RANDOM_FACTORS = 64

Scorer = Callable[[TrainingData, int], tuple[np.ndarray, np.ndarray]]
"""Of the data and a seed: float32 matrices (users, d) and (items, d)."""


@dataclass(frozen=True)
class Baseline:
    """How it scores, and whether it looks at the images' features."""

    score: Scorer
    visual: bool = False


def popularity(data: TrainingData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often an item was chosen in training, the same for everyone."""
    del seed  # nothing is drawn
    interactions = data.interactions
    return (
        np.ones((interactions.n_users, 1), np.float32),
        interactions.popularity[:, None].astype(np.float32),
    )


def random(data: TrainingData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Products of Gaussian rows, which rank the items in another order for every user."""
    rng = np.random.default_rng(seed)
    users, items = (
        rng.standard_normal((rows, RANDOM_FACTORS), np.float32)
        for rows in (data.interactions.n_users, data.interactions.n_items)
    )
    return users, items


BASELINES: dict[str, Baseline] = {"Pop": Baseline(popularity), "Random": Baseline(random)}
"""By the name that runs show."""
