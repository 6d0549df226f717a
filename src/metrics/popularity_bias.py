"""Popularity bias of recommendation lists: ARP, APLT, coverage and Gini index.

A list is a row of ``items`` (users, L): item ids, best first, padded with -1; every list holds at
least one item. ``popularity`` (items,) counts the training interactions of every item of the
catalogue. ``ks`` ascends, and a list shorter than K is used as it is.

ARP (Yin et al., "Challenging the Long Tail Recommendation", VLDB 2012) and APLT (Abdollahpouri et al.,
"Managing Popularity Bias in Recommender Systems with Personalized Re-ranking", FLAIRS 2019) have a
value for each user. Coverage and Gini index (Shani and Gunawardana, "Evaluating Recommendation
Systems", 2011) have one value for all lists together.
"""

from collections.abc import Sequence

import numpy as np

from src.metrics.category_hit_ratio import category_sums

HEAD_PERCENT = 80
"""Percentage of the training interactions that the short head holds."""


def long_tail(popularity: np.ndarray) -> np.ndarray:
    """Mark the items outside the short head: (items,) bool.

    The head is the smallest set of most popular items that holds ``HEAD_PERCENT`` of the
    interactions; of equally popular items, lower ids enter it first. Items without an interaction
    belong to the tail.
    """
    order = np.argsort(-popularity, kind="stable")
    held = np.cumsum(np.append(0, popularity[order]))
    head_size = np.searchsorted(100 * held, HEAD_PERCENT * held[-1])  # whole numbers are exact
    tail = np.ones(len(popularity), bool)
    tail[order[:head_size]] = False
    return tail


def average_recommendation_popularity(
    items: np.ndarray, popularity: np.ndarray, ks: Sequence[int]
) -> np.ndarray:
    """Return ARP@K, the mean popularity of the first K items: (users, len(ks)) float64 interactions."""
    return _mean_over_lists(items, popularity, ks)


def long_tail_share(items: np.ndarray, tail: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Return APLT@K, the share of ``tail`` (items,) bool in the first K: (users, len(ks)) in [0, 1]."""
    return _mean_over_lists(items, tail, ks)


def exposure(items: np.ndarray, n_items: int, ks: Sequence[int]) -> np.ndarray:
    """Count the lists that show each item in their first K: (len(ks), n_items) float64."""
    every_item, one_group = np.arange(n_items), np.zeros(len(items), np.int64)
    return category_sums(items, every_item, n_items, ks, np.ones(ks[-1]), one_group, 1)[0]


def coverage(exposure: np.ndarray) -> np.ndarray:
    """Return the share of items that some list shows: (...) in [0, 1] for ``exposure`` (..., items)."""
    return (exposure > 0).mean(axis=-1)


def gini_index(exposure: np.ndarray) -> np.ndarray:
    """Return the Gini index of ``exposure`` (..., items), not all zero: (...) in [0, 1 - 1 / items].

    0: all items are shown equally often; 1 - 1 / items: one item has every place. For exposures
    x_1 <= ... <= x_n it is sum_j (2 j - n - 1) x_j / (n sum_j x_j). Some libraries reverse it:
    Elliot's ``Gini`` is 1 - n / (n - 1) times this value, so that 1 means equal exposure.
    """
    n_items = exposure.shape[-1]
    ranks = np.arange(1, n_items + 1)
    weighted = np.sort(exposure, axis=-1) @ (2.0 * ranks - n_items - 1)
    return weighted / (n_items * exposure.sum(axis=-1))


def _mean_over_lists(items: np.ndarray, of_item: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Average a value of items over the first K of each list: (users, len(ks)) float64."""
    lengths = np.minimum(ks, items.shape[1])
    known = np.append(of_item, 0)  # the padding, -1, points to the appended 0
    sums = np.cumsum(known[items[:, : lengths[-1]]], axis=1, dtype=np.float64)
    shown = np.minimum(ks, (items >= 0).sum(axis=1, keepdims=True))
    return sums[:, lengths - 1] / shown
