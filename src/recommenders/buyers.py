"""How the images of items that users have move another item in the lists of these users.

In ACF a user's row is low + alpha (high - low), where alpha is the weight of one of the user's items and
the only part that reads this item's image: a sigmoid of the item's logit minus ``rest``. So an image that
alone is changed moves every score of its buyers along a line.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.acf import ACF
from src.recommenders.data import TrainingData
from src.recommenders.delta import Changed
from src.recommenders.ranking import test_ranks
from src.recommenders.weights import scaled

SAMPLED_BUYERS = 1000
"""Buyers that are drawn of an item with more of them, for an attack."""
KNOTS = np.linspace(0, 1, 33, dtype=np.float32)
"""Weights of an attacked item at which the scores to beat are exact."""
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class Buyers:
    """Pairs of n items and users who have them in training and lack the ``target``, as arrays.

    Pairs are sorted by item and then user; p is their number.
    """

    recommender: ACF
    features: np.ndarray
    """(n, D) float32: the items' clean features."""
    row: np.ndarray
    """(p,) int64: position of the pair's item among the n items."""
    hidden: np.ndarray
    """(p, H) float32: hidden layer of the attention on the item before its relu, at features of 0."""
    rest: np.ndarray
    """(p,) float32: log of the sum of exp(logit) over the user's other items; -inf without others."""
    low: np.ndarray
    """(p, K) float32: row of the user if the item had weight 0."""
    high: np.ndarray
    """(p, K) float32: row of the user if the item had weight 1."""
    known: Interactions
    """Known items of the user of each pair j, as those of user j; every user holds out the target."""
    target: int
    k: int

    @property
    def n(self) -> int:
        return len(self.features)

    def weights(self, features: np.ndarray) -> np.ndarray:
        """Return alpha (p,) float32 where each item alone has its row of ``features`` (n, D)."""
        weights = self.recommender.weights
        read = scaled(features, weights.scale, weights.unit)
        of_image = (read @ weights.tables["A_features"])[self.row]
        logit = np.maximum(self.hidden + of_image, 0) @ weights.tables["A_out"]
        return 1 / (1 + np.exp(np.clip(self.rest - logit, None, 80)))

    def users(self, alpha: np.ndarray | float) -> np.ndarray:
        """Return the users' rows (p, K) float32 where the items have the weights ``alpha`` (p,)."""
        alpha = np.broadcast_to(np.float32(alpha), len(self.row))[:, None]
        return self.low + alpha * (self.high - self.low)

    def places(self, features: np.ndarray) -> np.ndarray:
        """Return the place (p,) of the target in each list where each item alone has its ``features``.

        1 is the first. Equal scores count against the target.
        """
        rows = self.users(self.weights(features))
        return 1 + test_ranks(rows, self.recommender.weights.tables["Q"], self.known).ranks

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the target's scores (p,) where each item alone has its ``features`` (n, D)."""
        return (
            self.users(self.weights(features)) @ self.recommender.weights.tables["Q"][self.target]
        )

    @property
    def ends(self) -> np.ndarray:
        """Scores (p, 2) of the target where alpha is 0 and 1."""
        target = self.recommender.weights.tables["Q"][self.target]
        return np.stack([self.low @ target, self.high @ target], axis=1)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean (n,) float64 of ``values`` (p,) over the buyers of each item."""
        return np.bincount(self.row, values, self.n) / np.bincount(self.row, minlength=self.n)

    @cached_property
    def thresholds(self) -> np.ndarray:
        """Scores (p, knots) float32 that the target has to beat where alpha is 0, ..., 1.

        The score of the K-th best other candidate is the K-th largest of lines in alpha, so that it is
        linear between few points. Knots have equal distances.
        """
        items, target = self.recommender.weights.tables["Q"], np.array([self.target])
        found = [
            Changed(self.users(alpha), items, self.known, target, self.k).thresholds()[0][:, 0]
            for alpha in KNOTS
        ]
        return np.stack(found, axis=1)

    @property
    def reach(self) -> np.ndarray:
        """Return the share (n,) of the buyers to whom some image of each item could show the target.

        No attack does more, whatever its budget, since an image changes only alpha. Exact at the knots.
        """
        scores = self.ends @ np.stack([1 - KNOTS, KNOTS])
        return self.means((scores > self.thresholds).any(axis=1))


def buyers_of(
    recommender: ACF,
    data: TrainingData,
    ids: np.ndarray,
    k: int,
    target: int,
    *,
    at_most: int | None = None,
) -> Buyers:
    """Return the buyers of the items ``ids`` (n,), ascending, who lack the item ``target``.

    Of an item with more than ``at_most`` buyers as many are drawn. Raises ``UserError`` for a target that
    is no other item of the catalogue, and for an item that has no such buyer.
    """
    n_items = data.interactions.n_items
    if not 0 <= target < n_items:
        raise UserError(f"--target_item {target}: there are items 0 to {n_items - 1}")
    if target in ids:
        raise UserError(f"--target_item {target} is one of the attacked items")
    known = data.at_test_time
    lacks = np.ones(known.n_users, bool)
    lacks[known.train[known.train[:, 1] == target, 0]] = False
    train = recommender.train
    bought = train[np.isin(train[:, 1], ids) & lacks[train[:, 0]]]
    bought = bought[np.lexsort((bought[:, 0], bought[:, 1]))]
    row = np.searchsorted(ids, bought[:, 1])
    counts = np.bincount(row, minlength=len(ids))
    if len(without := ids[counts == 0]):
        raise UserError(
            f"item {without[0]}: no buyer of it lacks item {target}, so its image cannot show that item "
            "to anybody: attack items with buyers, such as those of --popularity high"
        )
    if at_most is not None:
        kept = _drawn(row, counts, at_most)
        bought, row = bought[kept], row[kept]
    return Buyers(
        recommender,
        data.features[ids],
        row,
        *_attention_of(recommender, data.features, bought),
        _repeated(known, bought[:, 0], target),
        target,
        k,
    )


def _drawn(row: np.ndarray, counts: np.ndarray, at_most: int) -> np.ndarray:
    """Return positions, ascending, of at most so many random pairs of each row."""
    order = np.lexsort((np.random.default_rng(0).random(len(row)), row))
    return np.sort(order[numbers_in_groups(counts) < at_most])


def numbers_in_groups(counts: np.ndarray) -> np.ndarray:
    """Return 0, 1, ... for the members of each group, one group after the other; ``counts`` are sizes."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _attention_of(
    recommender: ACF, features: np.ndarray, bought: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ``hidden``, ``rest``, ``low`` and ``high`` of pairs (p, 2) of user and item."""
    import torch

    from src.recommenders.item_attention import split_rows

    tables, read = recommender.in_torch(features)
    users, items = torch.from_numpy(bought).T.contiguous()
    hidden = tables["P"][users] @ tables["A_user"] + tables["A_bias"]
    hidden += tables["Q"][items] @ tables["A_item"] + tables["Y"][items] @ tables["A_own"]
    parts = [
        split_rows(tables, read, recommender.lists(users[some]), items[some])
        for some in torch.arange(len(users)).split(_PAIRS_AT_ONCE)
    ]
    rest, low = (torch.cat(of) for of in zip(*parts, strict=True))
    high = tables["P"][users] + tables["Y"][items]
    return tuple(of.numpy() for of in (hidden, rest, low, high))


def _repeated(known: Interactions, users: np.ndarray, target: int) -> Interactions:
    """Return the known items of ``users`` (p,), repeated or not, as users 0 to p - 1."""
    train = np.stack(known.items_of(users), axis=1)
    test = np.stack([np.arange(len(users)), np.full(len(users), target)], axis=1)
    return Interactions(train, test, len(users), known.n_items)
