"""Top-K lists and ranks of held-out items, from two matrices whose product is the scores.

Every recommender folds its weights to ``users`` (n_users, d) and ``items`` (n_items, d). Users are
handled in blocks, which bounds memory.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from src.artifacts.tables import TestRanks, TopK
from src.datasets.interactions import Interactions

SCORES_AT_ONCE = 2**22
"""16 MB of float32: blocks that stay near the processor and still make large matrix products."""
USERS_IN_PART = 8192
"""Fewest users of a part: a kill costs at most the part in work."""
_GROUPS = 6
"""Groups of columns for each of the k best: more make the bound of the best higher, fewer are faster."""
_CROWDED = 2
"""Columns for each of the k best beyond which a row is partitioned as a whole."""

Ranker = Callable[[np.ndarray, np.ndarray, Interactions, int], tuple[TopK, TestRanks]]
"""Function like ``lists_and_ranks``."""


def top_k(
    users: np.ndarray,
    items: np.ndarray,
    interactions: Interactions,
    k: int,
    without: np.ndarray | None = None,
) -> TopK:
    """Return the k best items of every user outside the user's training set; equal scores by item id.

    A user with fewer than k such items is padded as ``TopK`` says, and k is at most n_items. The items
    ``without`` (ids) are left out.
    """
    k = min(k, len(items))
    best = TopK(np.empty((len(users), k), np.int64), np.empty((len(users), k), np.float32))
    for block, scores in _score_blocks(users, items, interactions):
        if without is not None:
            scores[:, without] = -np.inf
        best.items[block], best.scores[block] = best_of_rows(scores, k)
    best.items[np.isneginf(best.scores)] = -1
    return best


def best_of_rows(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and scores (n, k) of the k best of each row; ties go to the smaller column.

    The k-th largest of the maxima of groups of columns is reached by at least k columns, so by all of the
    k best, and by few others. These are sorted. Only rows in which many columns reach it, since they tie,
    are partitioned as a whole.
    """
    n_rows, n_items = scores.shape
    chosen = scores >= _kth_of_groups(scores, k)
    counts = np.count_nonzero(chosen, axis=1)
    crowded = np.flatnonzero(counts > _CROWDED * k)
    chosen[crowded], counts[crowded] = _k_best(scores[crowded], k), k
    rows, columns = np.divmod(np.flatnonzero(chosen), n_items)
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    candidates = np.zeros((n_rows, counts.max(initial=0)), np.int64)
    values = np.full(candidates.shape, -np.inf, scores.dtype)
    candidates[rows, places], values[rows, places] = columns, scores[rows, columns]
    # candidates ascend within a row, and stable sorting keeps this order in ties
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates, order, 1), np.take_along_axis(values, order, 1)


def _kth_of_groups(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the k-th largest of the maxima of ``_GROUPS`` * k groups of columns, (n, 1)."""
    size = max(1, scores.shape[1] // (_GROUPS * k))
    n_groups = scores.shape[1] // size
    maxima = scores[:, : size * n_groups].reshape(len(scores), size, n_groups).max(axis=1)
    return np.partition(maxima, n_groups - k, axis=1)[:, n_groups - k, None]


def _k_best(scores: np.ndarray, k: int) -> np.ndarray:
    """Mark the k best of each row, (n, n_items) bool; ties go to the smaller column."""
    place = scores.shape[1] - k
    threshold = np.partition(scores, place, axis=1)[:, place, None]
    better, tied = scores > threshold, scores == threshold
    free = k - np.count_nonzero(better, axis=1)
    return better | (tied & (np.cumsum(tied, axis=1) <= free[:, None]))


def lists_and_ranks(
    users: np.ndarray, items: np.ndarray, interactions: Interactions, k: int
) -> tuple[TopK, TestRanks]:
    """Return ``top_k`` and ``test_ranks`` in one pass over the scores; k = 0 makes empty lists.

    No sorting for ranks: a rank is the number of other candidates that score at least as high, except
    that held-out items of a user with equal scores take the last of their places in the order of their
    ids.
    """
    k = min(k, len(items))
    best = TopK(np.empty((len(users), k), np.int64), np.empty((len(users), k), np.float32))
    test_users, test_items = interactions.test.T
    ranks = np.empty(len(test_users), np.int64)
    for block, scores in _score_blocks(users, items, interactions):
        start, stop = np.searchsorted(test_users, (block.start, block.stop))
        for first in range(start, stop, len(scores)):
            tests = slice(first, min(first + len(scores), stop))
            of_tests = scores[test_users[tests] - block.start]
            own = np.take_along_axis(of_tests, test_items[tests, None], 1)
            ranks[tests] = np.count_nonzero(of_tests >= own, axis=1) - 1
        if k:
            best.items[block], best.scores[block] = best_of_rows(scores, k)
    best.items[np.isneginf(best.scores)] = -1
    return best, placed(ranks, interactions, len(users), len(items))


def placed(ranks: np.ndarray, interactions: Interactions, n_users: int, n_items: int) -> TestRanks:
    """Return the test ranks of held-out items from the ``ranks`` (n,) that count all ties before them."""
    test_users, test_items = interactions.test.T
    held_out = np.bincount(test_users, minlength=n_users)
    negatives = n_items - (interactions.degrees + held_out)[test_users]
    return TestRanks(test_users, test_items, ranks - _tied_after(test_users, ranks), negatives)


def test_ranks(users: np.ndarray, items: np.ndarray, interactions: Interactions) -> TestRanks:
    """Return the rank of each held-out item among the items outside its user's training set."""
    return lists_and_ranks(users, items, interactions, 0)[1]


def _tied_after(users: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the number (n,) of later rows with the same user and rank."""
    order = np.lexsort((ranks, users))
    is_last = np.diff(users[order], append=-1) != 0
    is_last |= np.diff(ranks[order], append=-1) != 0
    last = np.flatnonzero(is_last)
    after = np.empty(len(order), np.int64)
    position = np.arange(len(order))
    after[order] = last[np.searchsorted(last, position)] - position
    return after


test_ranks.__test__ = False  # pytest would collect a function whose name begins with test


def ranker(gpu: int) -> Ranker:
    """Return the function that ranks on CUDA device ``gpu``: ``lists_and_ranks`` if there is none.

    Both give the same lists, up to the rounding of the products that are scores.
    """
    if gpu < 0:
        return lists_and_ranks
    from src.extractors.device import select_device  # loads torch

    device = select_device(gpu)
    if device.type == "cpu":
        return lists_and_ranks
    from src.recommenders.gpu_ranking import lists_and_ranks_on

    return partial(lists_and_ranks_on, device)


def user_parts(n_users: int, n_items: int) -> list[slice]:
    """Return the users of each part of a ranking that is shared, whatever shares it.

    A part ends where a block of users ends, so that scores round as those of an undivided ranking.
    """
    block = _block_size(n_items)
    size = block * -(-USERS_IN_PART // block)
    return [slice(start, min(start + size, n_users)) for start in range(0, n_users, size)]


def _block_size(n_items: int) -> int:
    """Return the number of users whose scores are in memory together."""
    return max(1, SCORES_AT_ONCE // n_items)


def _score_blocks(
    users: np.ndarray, items: np.ndarray, interactions: Interactions
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of users and their (users, n_items) scores, training items at -inf.

    The array is used again for the next block.
    """
    size = _block_size(len(items))
    buffer = np.empty((min(size, len(users)), len(items)), np.float32)
    for start in range(0, len(users), size):
        block = slice(start, min(start + size, len(users)))
        scores = np.matmul(users[block], items.T, out=buffer[: block.stop - start])
        pairs = interactions.train[interactions.first[start] : interactions.first[block.stop]]
        scores[pairs[:, 0] - start, pairs[:, 1]] = -np.inf
        yield block, scores
