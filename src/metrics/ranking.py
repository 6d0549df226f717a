"""Accuracy of recommendations when every user has one held-out item.

``ranks`` is (users,) integers, the 0-based position of the held-out item; items that score the same
count as better than it, so that a constant scorer has accuracy 0 (He et al., SIGIR 2018). Every
measure returns (users,) float64.
"""

import numpy as np


def hit_ratio(ranks: np.ndarray, k: int) -> np.ndarray:
    """HR@K: 1 where the held-out item is among the first ``k``, else 0."""
    return (np.asarray(ranks) < k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """nDCG@K with one relevant item (its ideal is 1): ln 2 / ln(rank + 2) where rank < ``k``."""
    ranks = np.asarray(ranks)
    return np.where(ranks < k, np.log(2) / np.log(ranks + 2.0), 0.0)


def auc(ranks: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Share of the other candidates that score lower than the held-out item: 1 - rank / negatives.

    ``negatives`` (users,) counts those other candidates. Where there are none nothing can be ranked
    wrongly, and the value is 1.
    """
    return 1.0 - np.asarray(ranks, np.float64) / np.maximum(negatives, 1)
