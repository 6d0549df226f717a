"""Visual reliance: how much a recommender looks at images at all.

A recommender that does not look at images cannot be attacked through them, so this stands beside
every figure of robustness.
"""

from dataclasses import dataclass

import numpy as np

from src.metrics.ranking import auc, hit_ratio
from src.recommenders.data import TrainingData
from src.recommenders.ranking import test_ranks
from src.recommenders.recommender import Recommender
from src.recommenders.weights import unit_length

PERMUTATIONS = 5
SAMPLED_USERS = 2000
SWAPS = 10
NO_CHANGE = 1e-5
"""Change of a score, in standard deviations, that rounding alone makes."""
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
    where there is no visual part, infinite where there is no other."""

    @property
    def hardly_looks(self) -> bool:
        return not self.lost_hits >= HARDLY

    def __str__(self) -> str:
        flag = " (hardly looks)" if self.hardly_looks else ""
        return (
            f"permuted features lose {self.lost_hits:.0%} of the hits{flag}, the visual part alone has "
            f"AUC {self.visual_auc:.3f}, sd visual/rest {self.deviation_ratio:.2f}"
        )


@dataclass(frozen=True)
class Swapped:
    """Changes of scores where pairs of items have swapped their features.

    They are roots of mean squares, in standard deviations of the scores around each user's mean.
    """

    own: float
    """Change of the scores of the swapped items, over the users who have neither."""
    others: float
    """Change of the scores of all other items, over the users who have one of the pair."""

    @property
    def reads(self) -> str:
        """Way in which the recommender reads images: ``directly``, ``through a graph``, ``not at all``.

        A graph is any path from one item's image to another item's score, such as the items of a user.
        """
        ways = ("directly", self.own), ("through a graph", self.others)
        return " and ".join(way for way, change in ways if change > NO_CHANGE) or "not at all"


def swapped_features(recommender: Recommender, data: TrainingData, seed: int = 0) -> Swapped:
    """Swap the clean features of ``SWAPS`` random pairs of items, one pair at a time.

    Pairs are of items that somebody has in training. Both changes are 0 if no images are read.
    """
    if not recommender.reads_images:
        return Swapped(0.0, 0.0)
    rng = np.random.default_rng(seed)
    train = data.interactions.train
    users, items = recommender.factors(data.features)
    sample = np.arange(len(users))
    if len(sample) > SAMPLED_USERS:
        sample = np.sort(rng.choice(sample, SAMPLED_USERS, replace=False))
    clean = users[sample] @ items.T
    own, others = [], []
    for _ in range(SWAPS):
        pair = rng.choice(np.unique(train[:, 1]), 2, replace=False)
        features = data.features.copy()
        features[pair] = features[pair[::-1]]
        moved_users, moved_items = recommender.factors(features)
        squares = np.square(moved_users[sample] @ moved_items.T - clean, dtype=np.float64)
        has = np.isin(sample, train[np.isin(train[:, 1], pair), 0])
        own.append(squares[~has][:, pair].ravel())
        others.append(np.delete(squares[has], pair, axis=1).ravel())
    deviation = _deviation(clean)
    changes = (np.sqrt(np.concatenate(of).mean()) / deviation for of in (own, others))
    return Swapped(*map(float, changes))


def visual_reliance(
    recommender: Recommender, data: TrainingData, k: int, seed: int = 0
) -> Reliance:
    """Measure how much ``recommender`` reads from the clean features of ``data``.

    The loss of HR@K is exact over all test users, as the mean of ``PERMUTATIONS`` permutations; the
    other two are over at most ``SAMPLED_USERS`` users and need a recommender with ``slopes``.
    """
    rng = np.random.default_rng(seed)
    interactions = data.at_test_time

    def hits(features: np.ndarray | None) -> float:
        ranks = test_ranks(*recommender.factors(features), interactions)
        return float(hit_ratio(ranks.users, ranks.ranks, k).mean())

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
    embedded = recommender.embedded(data.features)
    read = unit_length(embedded) if recommender.unit else embedded
    visual = slopes @ read.T
    rest = users[sample] @ items.T - visual
    ranks = test_ranks(slopes, read, interactions.of_users(sample))
    return Reliance(
        lost,
        float(auc(ranks.users, ranks.ranks, ranks.negatives).mean()),
        np.inf if recommender.reads_pixels else _deviation(visual) / _deviation(rest),
    )


def _deviation(scores: np.ndarray) -> float:
    """Standard deviation of (users, items) scores around each user's mean."""
    return float((scores - scores.mean(axis=1, keepdims=True)).std(dtype=np.float64))
