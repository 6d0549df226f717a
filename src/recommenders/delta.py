"""Delta ranking: what a few changed items do to the lists of all users, exactly.

At test time only the attacked items change. An item that is not among a user's K best others has K
others before it, so the K best others and the changed items hold the whole list: users x changed items
scores replace users x items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.tables import TopK
from src.datasets.interactions import Interactions
from src.recommenders.ranking import SCORES_AT_ONCE, best_of_rows, top_k

_PLACES_AT_ONCE = 2**24


@dataclass(frozen=True)
class Changed:
    """The items of one catalogue that an attacker changes, one at a time or all at once."""

    users: np.ndarray
    """(users, d) float32: how the clean recommender sees users."""
    items: np.ndarray
    """(items, d) float32: how it sees the clean items."""
    interactions: Interactions
    ids: np.ndarray
    """(n,) int64, ascending: the items that change."""
    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"K is {self.k}: a list has at least one place")
        beyond = self.ids[(self.ids < 0) | (self.ids >= len(self.items))]
        if len(beyond):
            raise UserError(f"item {beyond[0]} is not in the catalogue of {len(self.items)}")
        if not (np.diff(self.ids) > 0).all():
            raise UserError("an item stands more than once among the changed ones")
        if len(shown_to_none := self.ids[self.audience == 0]):
            raise UserError(f"all users have item {shown_to_none[0]}: nobody can be shown it")

    @cached_property
    def audience(self) -> np.ndarray:
        """(n,) int64: how many users have not trained on each item, and may be shown it."""
        return self.interactions.n_users - self.interactions.popularity[self.ids]

    def best(self) -> TopK:
        """Return the k + 1 best candidates of every user on the clean features, for ``users_shown``."""
        return _padded(top_k(self.users, self.items, self.interactions, self.k + 1), self.k + 1)

    def thresholds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (users, n) float32 that each item has to beat alone, and who may see it (bool).

        A score is that of the user's k-th best other candidate, -inf where there are fewer.
        """
        best = self.best()
        thresholds = np.repeat(best.scores[:, self.k - 1, None], len(self.ids), axis=1)
        user, column = self._columns_of(best.items[:, : self.k])
        thresholds[user, column] = best.scores[user, self.k]
        may_see = np.ones(thresholds.shape, bool)
        may_see[self._trained] = False
        return thresholds, may_see

    def others(self) -> TopK:
        """Return every user's k best candidates among the items that do not change, for ``lists``."""
        best = top_k(self.users, self.items, self.interactions, self.k, without=self.ids)
        return _padded(best, self.k)

    def users_shown(self, rows: np.ndarray, best: TopK) -> np.ndarray:
        """Count the users who are shown each item when it alone changes to its row: (n,) int64.

        ``rows``: (n, d). An item is shown where fewer than k others stand before it, by score and then
        by id; the other changed items keep their clean rows.
        """
        counts = np.zeros(len(self.ids), np.int64)
        for block, scores in self._scores(rows):
            last, last_id = best.scores[block, self.k - 1], best.items[block, self.k - 1]
            shown = _precedes(scores, self.ids, last[:, None], last_id[:, None])
            # An item that stands in the clean list has its k-th other one place further down.
            user, column = self._columns_of(best.items[block, : self.k])
            shown[user, column] = _precedes(
                scores[user, column],
                self.ids[column],
                best.scores[block, self.k][user],
                best.items[block, self.k][user],
            )
            counts += np.count_nonzero(shown & ~np.isneginf(scores), axis=0)
        return counts

    def lists(self, rows: np.ndarray, others: TopK) -> TopK:
        """Return every user's k best candidates when all items change to their ``rows`` (n, d)."""
        merged = TopK(others.items.copy(), others.scores.copy())
        for block, scores in self._scores(rows):
            mine = TopK(merged.items[block], merged.scores[block])
            user = np.flatnonzero((scores >= mine.scores[:, -1:]).any(axis=1))
            column, score = best_of_rows(scores[user], min(self.k, len(self.ids)))
            both = np.hstack([mine.scores[user], score])
            ids = np.hstack([mine.items[user], self.ids[column]])
            ids[np.isneginf(both)] = -1
            order = np.lexsort((ids, -both), axis=1)[:, : self.k]
            mine.scores[user] = np.take_along_axis(both, order, 1)
            mine.items[user] = np.take_along_axis(ids, order, 1)
        return merged

    def mean_scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean score (n,) float64 of each item over its audience, at its row of ``rows``."""
        user, column = self._trained
        of_all = self.users.sum(axis=0, dtype=np.float64) @ rows.T.astype(np.float64)
        of_trained = np.einsum("nd,nd->n", self.users[user], rows[column])
        trained = np.bincount(column, of_trained, minlength=len(self.ids))
        return (of_all - trained) / self.audience

    def places(self, rows: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """Return the place (1 is the first) of each item for each user of ``sample``: (users, n).

        float64; each item changes alone; NaN where the user has trained on the item. Equal scores count
        against it.
        """
        places = np.empty((len(sample), len(self.ids)))
        size = max(1, _PLACES_AT_ONCE // (len(self.items) + len(self.ids)))
        for start in range(0, len(sample), size):
            users = sample[start : start + size]
            block = slice(start, start + len(users))
            clean = self.users[users] @ self.items.T
            clean[self.interactions.items_of(users)] = -np.inf
            now = self.users[users] @ rows.T
            before = clean[:, self.ids] >= now  # the clean image of the item is no rival of it
            places[block] = 1 + _not_below(clean, now) - before
            places[block][np.isneginf(clean[:, self.ids])] = np.nan
        return places

    @cached_property
    def _trained(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and columns of the training pairs that a changed item is in."""
        train = self.interactions.train
        column = self._column_of_item[train[:, 1]]
        return train[column >= 0, 0], column[column >= 0]

    @cached_property
    def _column_of_item(self) -> np.ndarray:
        """(items + 1,): the column of each changed item, -1 for others and for padding."""
        columns = np.full(len(self.items) + 1, -1)
        columns[self.ids] = np.arange(len(self.ids))
        return columns

    def _columns_of(self, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of ``lists`` in which changed items stand, and the columns of these items."""
        columns = self._column_of_item[lists]
        user, _ = np.nonzero(columns >= 0)
        return user, columns[columns >= 0]

    def _scores(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks of users and their scores (users, n) of changed items, training pairs at -inf."""
        size = max(1, SCORES_AT_ONCE // len(self.ids))
        users, columns = self._trained
        bounds = np.searchsorted(users, np.arange(0, len(self.users) + size, size))
        for number, start in enumerate(range(0, len(self.users), size)):
            block = slice(start, min(start + size, len(self.users)))
            scores = self.users[block] @ rows.T
            pairs = slice(bounds[number], bounds[number + 1])
            scores[users[pairs] - start, columns[pairs]] = -np.inf
            yield block, scores


def _precedes(
    scores: np.ndarray, ids: np.ndarray, other_scores: np.ndarray, other_ids: np.ndarray
) -> np.ndarray:
    """Return whether items stand before others: by score, and by id where scores are equal."""
    return (scores > other_scores) | ((scores == other_scores) & (ids < other_ids))


def _not_below(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Count the ``scores`` (users, items) of each row that reach each of its ``values`` (users, n)."""
    n_values = values.shape[1]
    order = np.argsort(-np.hstack([scores, values]), axis=1, kind="stable")
    positions = np.empty_like(order)
    np.put_along_axis(positions, order, np.arange(order.shape[1])[None], 1)
    among_all = positions[:, -n_values:]
    among_values = np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1)
    return among_all - among_values


def _padded(best: TopK, k: int) -> TopK:
    """Return ``best`` with k columns, of which a short catalogue has fewer."""
    missing = ((0, 0), (0, k - best.items.shape[1]))
    return TopK(
        np.pad(best.items, missing, constant_values=-1),
        np.pad(best.scores, missing, constant_values=-np.inf),
    )
