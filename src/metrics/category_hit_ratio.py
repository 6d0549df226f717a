"""How far up the recommendation lists the items of a category stand: CHR@K and nCDCG@K.

CHR counts the items of a category among the first K of a user's list; its normalised form divides by
K (Di Noia et al., TAaMR, 2020). nCDCG discounts each of them by its position and divides by the best
value the category allows (Anelli et al., SIGIR 2021).

A list is a row of ``items`` (users, L): item ids in descending order of score, padded with -1.
"""

from collections.abc import Sequence

import numpy as np

USERS_PER_BLOCK = 256
"""As many users as keep (users, ks, categories) within the processor's caches."""


def discounts(length: int) -> np.ndarray:
    """(length,) float64: ln 2 / ln(position + 2), the gain of a hit at each 0-based position."""
    return np.log(2) / np.log(np.arange(length) + 2.0)


def ideal_dcg(n_members: np.ndarray | int, k: int) -> np.ndarray:
    """DCG@K of a list that begins with the ``n_members`` items of a category (any shape, >= 0).

    All members count, also those that a user has trained on. A category without items gets the
    ideal of one item: its DCG is 0 anyway, and 0 / 1 is 0.
    """
    reachable = np.clip(n_members, 1, k)
    return np.cumsum(discounts(k))[reachable - 1]


def category_hit_ratio(
    items: np.ndarray, members: np.ndarray, ks: Sequence[int], *, normalised: bool = False
) -> np.ndarray:
    """CHR@K of one category for each user and each of ``ks``: (users, len(ks)) float64.

    ``members`` (items,) bool says which items belong to the category. The value is the number of
    hits, 0..K, or with ``normalised`` that number divided by K.
    """
    hits = _first(np.cumsum(_hits(items, members), axis=1, dtype=np.float64), ks)
    return hits / np.asarray(ks) if normalised else hits


def ncdcg(items: np.ndarray, members: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """nCDCG@K of one category for each user and each of ``ks``: (users, len(ks)) in [0, 1]."""
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
    """Gains within the first K, of all categories at once: (n_groups, len(ks), n_categories) float64.

    ``categories`` (items,) in 0..n_categories-1 is the category of every item, ``ks`` ascend,
    ``gains`` (L,) is what a hit at each position is worth (ones for CHR, ``discounts`` for nCDCG), and
    ``groups`` (users,) in 0..n_groups-1 says whose gains are added up together: ``arange(users)``
    keeps every user apart. One pass over the lists, whatever the number of categories and of ks;
    memory is that of the result.
    """
    length = min(items.shape[1], ks[-1])
    interval = np.searchsorted(ks, np.arange(length), side="right")
    known = np.append(categories, n_categories)  # what -1, the padding, points to
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
    """Every user's changes of ``category_sums`` from lists to other lists of the same users.

    Only the changes that are not zero are returned, in two (m,) arrays: ``column``, which is
    ``k_index * n_categories + category``, and ``change``. Users are taken in blocks, so that nothing
    of the size (users, ks, categories) is held.
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
    """The columns of ``cumulative`` after K positions; a shorter list has no more to add."""
    return cumulative[:, np.minimum(ks, cumulative.shape[1]) - 1]
