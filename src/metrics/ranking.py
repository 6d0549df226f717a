"""Accuracy of recommendations if every user has one held-out item.

``ranks`` (users,) integers holds the 0-based position of the held-out item. Items with an equal score
count as better, so that a constant scorer has accuracy 0 (He et al., SIGIR 2018). Every measure
returns (users,) float64.
"""

import numpy as np


def hit_ratio(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return HR@K: 1 if the held-out item is among the first ``k``, else 0."""
    return (np.asarray(ranks) < k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return nDCG@K for one relevant item (ideal 1): ln 2 / ln(rank + 2) if rank < ``k``, else 0."""
    ranks = np.asarray(ranks)
    return np.where(ranks < k, np.log(2) / np.log(ranks + 2.0), 0.0)


def auc(ranks: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the share of other candidates that score lower than the held-out item.

    This is 1 - rank / negatives, where ``negatives`` (users,) counts the other candidates. A user
    without other candidates has 1, since nothing can be ranked wrongly.
    """
    return 1.0 - np.asarray(ranks, np.float64) / np.maximum(negatives, 1)
