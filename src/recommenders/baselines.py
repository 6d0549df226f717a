"""Baselines: popularity and random recommendations."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from src.recommenders.data import TrainingData
from src.recommenders.recommender import Factors, Recommender

RANDOM_FACTORS = 64


@dataclass(frozen=True)
class Popularity(Recommender):
    """Recommender by the number of training interactions of each item, equal for all users."""

    users: np.ndarray
    """Ones (users, 1)."""
    items: np.ndarray
    """Numbers of interactions (items, 1)."""

    @classmethod
    def fit(cls, data: TrainingData, seed: int) -> Self:
        del seed  # popularity draws no random numbers
        interactions = data.interactions
        return cls(
            np.ones((interactions.n_users, 1), np.float32),
            interactions.popularity[:, None].astype(np.float32),
        )

    def factors(self, features: np.ndarray | None) -> Factors:
        return self.users, self.items


@dataclass(frozen=True)
class RandomFactors(Recommender):
    """Recommender by products of Gaussian rows, in a different order of items for every user."""

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def fit(cls, data: TrainingData, seed: int) -> Self:
        rng = np.random.default_rng(seed)
        users, items = (
            rng.standard_normal((rows, RANDOM_FACTORS), np.float32)
            for rows in (data.interactions.n_users, data.interactions.n_items)
        )
        return cls(users, items)

    def factors(self, features: np.ndarray | None) -> Factors:
        return self.users, self.items
