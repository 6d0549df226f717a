"""Who interacted with what: training positives and one held-out item for each user."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.tables import read_pairs


@dataclass(frozen=True)
class Interactions:
    """Implicit feedback over users 0..n_users-1 and items 0..n_items-1.

    ``train`` (n, 2) and ``test`` (m, 2) hold (user, item) pairs, int64, sorted by user and then item.
    """

    train: np.ndarray
    test: np.ndarray
    n_users: int
    n_items: int

    @cached_property
    def first(self) -> np.ndarray:
        """(n_users + 1,) int64: user u's training pairs are ``train[first[u]:first[u + 1]]``."""
        return np.searchsorted(self.train[:, 0], np.arange(self.n_users + 1))

    @cached_property
    def degrees(self) -> np.ndarray:
        """(n_users,) int64: how many training items each user has."""
        return np.diff(self.first)

    @cached_property
    def popularity(self) -> np.ndarray:
        """(n_items,) int64: how many users have each item in training."""
        return np.bincount(self.train[:, 1], minlength=self.n_items)


def load_interactions(layout: Layout, n_items: int) -> Interactions:
    """Read and check ``trainingset.tsv`` and ``testset.tsv`` against a catalogue of ``n_items``.

    Raises ``UserError`` for ids beyond the catalogue, repeated rows, test rows that are also training
    rows, more than one test row of a user, and test users without training rows.
    """
    train = _sorted(read_pairs(layout.training_set), layout.training_set)
    test = _sorted(read_pairs(layout.test_set), layout.test_set)
    n_users = int(train[-1, 0]) + 1
    for path, pairs in ((layout.training_set, train), (layout.test_set, test)):
        if (beyond := pairs[:, 1] >= n_items).any():
            user, item = pairs[np.argmax(beyond)]
            raise UserError(
                f"{path}: user {user} has item {item}, but the catalogue ends at {n_items - 1}"
            )
    if len(repeated := np.flatnonzero(np.diff(test[:, 0]) == 0)):
        raise UserError(f"{layout.test_set}: user {test[repeated[0], 0]} has several test items")
    known = np.isin(test[:, 0], train[:, 0])
    if not known.all():
        raise UserError(
            f"{layout.test_set}: user {test[np.argmin(known), 0]} has no row in trainingset.tsv"
        )
    overlapping = np.isin(_keys(test, n_items), _keys(train, n_items))
    if overlapping.any():
        user, item = test[np.argmax(overlapping)]
        raise UserError(f"{layout.test_set}: user {user}, item {item} is also a training row")
    return Interactions(train, test, n_users, n_items)


def _sorted(pairs: np.ndarray, path: Path) -> np.ndarray:
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    if (repeated := (np.diff(pairs, axis=0) == 0).all(axis=1)).any():
        user, item = pairs[np.argmax(repeated)]
        raise UserError(f"{path}: user {user}, item {item} stands there twice")
    return pairs


def _keys(pairs: np.ndarray, n_items: int) -> np.ndarray:
    return pairs[:, 0] * n_items + pairs[:, 1]
