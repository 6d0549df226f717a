"""Positions of a category's items in recommendation lists: CHR@K and nCDCG@K.

CHR counts the items of a category among the first K of a user's list; its normalised form divides by
K (Di Noia et al., TAaMR, 2020). nCDCG discounts each of these items by its position and divides by
the best value that the category allows (Anelli et al., SIGIR 2021).

A list is a row of ``items`` (users, L): item ids in descending order of score, padded with -1.
"""

from collections.abc import Sequence

import numpy as np

USERS_PER_BLOCK = 256
"""Number of users whose (users, ks, categories) array fits into the processor's caches."""


def discounts(length: int) -> np.ndarray:
    """Return the gain of a hit at each 0-based position, ln 2 / ln(position + 2): (length,) float64."""
    return np.log(2) / np.log(np.arange(length) + 2.0)


def ideal_dcg(n_members: np.ndarray | int, k: int) -> np.ndarray:
    """Return DCG@K of a list that begins with the ``n_members`` items of a category.

    ``n_members`` has any shape and is >= 0. All members count, including the user's training items.
    A category without items gets the ideal of one item: its DCG is 0, and 0 / 1 is 0.
    """
    reachable = np.clip(n_members, 1, k)
    return np.cumsum(discounts(k))[reachable - 1]


def category_hit_ratio(
    items: np.ndarray, members: np.ndarray, ks: Sequence[int], *, normalised: bool = False
) -> np.ndarray:
    """Return CHR@K of one category for each user and each of ``ks``: (users, len(ks)) float64.

    ``members`` (items,) bool says which items belong to the category. The value is the number of
    hits, 0..K; ``normalised`` divides it by K.
    """
    hits = _first(np.cumsum(_hits(items, members), axis=1, dtype=np.float64), ks)
    return hits / np.asarray(ks) if normalised else hits


def ncdcg(items: np.ndarray, members: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Return nCDCG@K of one category for each user and each of ``ks``: (users, len(ks)) in [0, 1]."""
    gains = _hits(items, members) * discounts(items.shape[1])
    ideal = [ideal_dcg(int(members.sum()), k) for k in ks]
    return _first(np.cumsum(gains, axis=1), ks) / ideal


def category_sums(
    items: np.ndarray,
    categories: np.ndarray,
    n_categories: int,
    ks: Sequence[int],
    gains: np.ndarray,
    groups: np.ndarray,
    n_groups: int,
) -> np.ndarray:
    """Sum the gains within the first K for all categories: (n_groups, len(ks), n_categories) float64.

    ``categories`` (items,) in 0..n_categories-1 is the category of every item. ``ks`` ascends.
    ``gains`` (L,) is the gain of a hit at each position (ones for CHR, ``discounts`` for nCDCG).
    ``groups`` (users,) in 0..n_groups-1 is the group in which a user's gains are summed;
    ``arange(users)`` keeps all users apart. The lists are read once, whatever the number of categories
    and ks, and memory holds little more than the result.
    """
    length = min(items.shape[1], ks[-1])
    interval = np.searchsorted(ks, np.arange(length), side="right")
    known = np.append(categories, n_categories)  # the padding, -1, points to the appended entry
    bins = (groups[:, None] * len(ks) + interval) * (n_categories + 1) + known[items[:, :length]]
    weights = np.broadcast_to(gains[:length], bins.shape)
    shape = (n_groups, len(ks), n_categories + 1)
    sums = np.bincount(bins.ravel(), weights.ravel(), minlength=np.prod(shape)).reshape(shape)
    for i in range(1, len(ks)):  # np.cumsum along an inner axis takes seven times as long
        sums[:, i] += sums[:, i - 1]
    return sums[..., :n_categories]


def category_changes(
    before: np.ndarray,
    after: np.ndarray,
    categories: np.ndarray,
    n_categories: int,
    ks: Sequence[int],
    gains: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return every user's changes of ``category_sums`` between the lists ``before`` and ``after``.

    Only changes that are not zero are returned, in two (m,) arrays: ``column``, which is
    ``k_index * n_categories + category``, and ``change``. Users are read in blocks, so that no array of
    the size (users, ks, categories) is held.
    """
    columns, changes = [], []
    for start in range(0, len(before), USERS_PER_BLOCK):
        block = slice(start, start + USERS_PER_BLOCK)
        n_users = len(before[block])
        difference, subtrahend = (
            category_sums(
                items[block], categories, n_categories, ks, gains, np.arange(n_users), n_users
            ).reshape(-1)
            for items in (after, before)
        )
        difference -= subtrahend
        changed = np.flatnonzero(difference)
        columns.append((changed % (len(ks) * n_categories)).astype(np.int32))
        changes.append(difference[changed])
    return np.concatenate(columns), np.concatenate(changes)


def _hits(items: np.ndarray, members: np.ndarray) -> np.ndarray:
    return np.append(members, False)[items]  # the padding, -1, points to the appended False


def _first(cumulative: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Return the column of ``cumulative`` after K positions, or the last column of a shorter list."""
    return cumulative[:, np.minimum(ks, cumulative.shape[1]) - 1]
