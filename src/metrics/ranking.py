"""Accuracy of recommendations for users with any number of held-out items.

``users`` (n,) integers, ascending, names the user of each held-out item, and ``ranks`` (n,) integers is
the 0-based position of the item in that user's list, so that no two items of a user share one. Items
outside the held-out ones with an equal score count as better, so that a constant scorer has accuracy 0
(He et al., SIGIR 2018). Every measure returns one value a distinct user, (distinct users,) float64, in
ascending order. The definitions are those of RecBole (Zhao et al., CIKM 2021); with one held-out item a
user, recall is the hit ratio and MAP is MRR.
"""

import numpy as np


def hit_ratio(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    """Return HR@K: 1 if a held-out item is among the first ``k``, else 0."""
    return (_hits(users, ranks, k) > 0).astype(np.float64)


def recall(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    """Return Recall@K: the share of the user's held-out items that are among the first ``k``."""
    return _hits(users, ranks, k) / _counts(users)


def precision(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    """Return Precision@K: the share of the first ``k`` places that hold a held-out item."""
    return _hits(users, ranks, k) / k


def ndcg(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    """Return nDCG@K: the sum of ln 2 / ln(rank + 2) over hits, divided by that of the best list.

    The best list has the min(held-out items, ``k``) hits on its first places.
    """
    ranks = np.asarray(ranks)
    gains = np.where(ranks < k, np.log(2) / np.log(ranks + 2.0), 0.0)
    ideal = np.cumsum(np.log(2) / np.log(np.arange(k) + 2.0))
    return _sums(users, gains) / ideal[np.minimum(_counts(users), k) - 1]


def average_precision(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    """Return AP@K, whose mean is MAP@K: the precision at each hit, over min(held-out items, ``k``)."""
    ranks = np.asarray(ranks)
    precisions = (_better_held_out(users, ranks) + 1.0) / (ranks + 1.0)
    return _sums(users, np.where(ranks < k, precisions, 0.0)) / np.minimum(_counts(users), k)


def reciprocal_rank(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    """Return RR@K, whose mean is MRR@K: 1 / (rank + 1) of the first hit, or 0 without one."""
    ranks = np.asarray(ranks)
    values = np.where(ranks < k, 1.0 / (ranks + 1.0), 0.0)
    return np.maximum.reduceat(values, _first(users)) if len(values) else values


def auc(users: np.ndarray, ranks: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the share of pairs of a held-out item and a negative that are ranked rightly.

    ``negatives`` (n,) counts the candidates of each row's user that are not held out. With one held-out
    item the value is 1 - rank / negatives. A user without negatives has 1, since nothing can be ranked
    wrongly.
    """
    ahead = np.asarray(ranks) - _better_held_out(users, ranks)
    return _sums(users, 1.0 - ahead / np.maximum(negatives, 1)) / _counts(users)


def _first(users: np.ndarray) -> np.ndarray:
    """Return the position of each distinct user's first row."""
    return np.flatnonzero(np.diff(users, prepend=-1))


def _sums(users: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, _first(users)) if len(values) else values


def _counts(users: np.ndarray) -> np.ndarray:
    return np.diff(_first(users), append=len(users))


def _hits(users: np.ndarray, ranks: np.ndarray, k: int) -> np.ndarray:
    return _sums(users, (np.asarray(ranks) < k).astype(np.float64))


def _better_held_out(users: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the number (n,) of held-out items of the same user that have a lower rank."""
    order = np.lexsort((ranks, users))
    better = np.empty(len(order), np.int64)
    better[order] = np.arange(len(order)) - np.repeat(_first(users), _counts(users))
    return better
