"""Visual reliance: how much a recommender looks at images at all.

A recommender that does not look at images cannot be attacked through them, so this stands beside
every figure of robustness.
"""

from dataclasses import dataclass

import numpy as np

from src.recommenders.data import TrainingData
from src.recommenders.ranking import test_ranks
from src.recommenders.recommender import Recommender
from src.recommenders.weights import unit_length

PERMUTATIONS = 5
SAMPLED_USERS = 2000
HARDLY = 0.1
"""A recommender that loses less than this share of its hits under permuted features hardly looks."""


@dataclass(frozen=True)
class Reliance:
    """Three views of how much of a recommender's lists comes from images."""

    lost_hits: float
    """Share of HR@K that is lost when features are permuted among items; 0 where images are not read."""
    visual_auc: float
    """AUC of held-out items by the visual part of the scores alone; NaN where there is none."""
    deviation_ratio: float
    """Standard deviation of the visual part of the scores over that of the rest, centred by user; NaN
    where there is no visual part."""

    @property
    def hardly_looks(self) -> bool:
        return not self.lost_hits >= HARDLY

    def __str__(self) -> str:
        flag = " (hardly looks)" if self.hardly_looks else ""
        return (
            f"permuted features lose {self.lost_hits:.0%} of the hits{flag}, the visual part alone has "
            f"AUC {self.visual_auc:.3f}, sd visual/rest {self.deviation_ratio:.2f}"
        )


def visual_reliance(
    recommender: Recommender, data: TrainingData, k: int, seed: int = 0
) -> Reliance:
    """Measure how much ``recommender`` reads from the clean features of ``data``.

    The share of held-out items in the first k is exact over all test users, as the mean of
    ``PERMUTATIONS`` permutations; the other two are over at most ``SAMPLED_USERS`` users and need a
    recommender with ``slopes``.
    """
    rng = np.random.default_rng(seed)
    interactions = data.at_test_time

    def hits(features: np.ndarray | None) -> float:
        ranks = test_ranks(*recommender.factors(features), interactions)
        return float((ranks.ranks < k).mean())

    if not recommender.reads_images:
        return Reliance(0.0, np.nan, np.nan)
    clean = hits(data.features)
    permuted = [hits(rng.permutation(data.features)) for _ in range(PERMUTATIONS)]
    lost = 1 - float(np.mean(permuted)) / clean if clean else np.nan
    test_users = np.unique(interactions.test[:, 0])
    n_sampled = min(SAMPLED_USERS, len(test_users))
    sample = np.sort(rng.choice(test_users, n_sampled, replace=False))
    slopes = recommender.slopes(sample)
    if slopes is None:
        return Reliance(lost, np.nan, np.nan)
    users, items = recommender.factors(data.features)
    read = unit_length(data.features) if recommender.unit else data.features
    visual = slopes @ read.T
    sampled = interactions.of_users(sample)
    ranks = test_ranks(slopes, read, sampled)
    others = len(read) - sampled.degrees[ranks.users] - 1
    return Reliance(
        lost,
        float(1 - (ranks.ranks / others).mean()),
        _deviation(visual) / _deviation(users[sample] @ items.T - visual),
    )


def _deviation(scores: np.ndarray) -> float:
    """Standard deviation of (users, items) scores around each user's mean."""
    return float((scores - scores.mean(axis=1, keepdims=True)).std(dtype=np.float64))
