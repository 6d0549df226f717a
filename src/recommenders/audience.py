"""Scores of the items that an attacker changes, which are all that he knows of a recommender."""

from dataclasses import dataclass

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.data import TrainingData
from src.recommenders.delta import Changed
from src.recommenders.recommender import Recommender
from src.recommenders.weights import unit_length

SAMPLED_USERS = 10_000
"""Larger audiences are sampled: more users change nothing measurable."""


@dataclass(frozen=True)
class Audience:
    """Scores of n items by u users as arrays; an attack needs nothing else of a recommender.

    The score of item i for user v, when its features are f, is
    ``scores[i, v] + slopes[v] . (f - features[i])``; with ``unit``, f is first divided by its length.
    """

    slopes: np.ndarray
    """(u, d) float32: slopes of the scores in features as they are read."""
    features: np.ndarray
    """(n, d) float32: the items' clean features, as they are read."""
    scores: np.ndarray
    """(n, u) float32: scores of the clean items."""
    thresholds: np.ndarray
    """(n, u) float32: the score of each user's k-th best other candidate, -inf where there is none."""
    may_see: np.ndarray
    """(n, u) bool: whether the user has not trained on the item."""
    hook: np.ndarray
    """(d,) float32: clean features of the most popular item that is not one of the n."""
    unit: bool = False
    """Whether the recommender reads features of length 1."""
    rivals: np.ndarray | None = None
    """(u, items) float32, ascending: every user's scores of the clean items, -inf where the user has
    trained on the item; only where places are asked for."""

    def __post_init__(self) -> None:
        if not self.may_see.any(axis=1).all():
            raise UserError("an attacked item has no user who could be shown it")


def audience_of(
    recommender: Recommender,
    data: TrainingData,
    ids: np.ndarray,
    k: int,
    *,
    at_most: int = SAMPLED_USERS,
    seed: int = 0,
    with_rivals: bool = False,
) -> Audience:
    """Return the audience of the items ``ids`` (ascending) of a recommender, read from clean features.

    A larger audience than ``at_most`` users is sampled. ``with_rivals`` costs users x items scores.

    ``UserError`` where scores are not linear in features: there is no attack on lists then.
    """
    if recommender.slopes(np.arange(1)) is None:
        kind = type(recommender).__name__
        why = "gives no slopes of its scores in features"
        if recommender.moves_users:
            why = "reads an image for the users who have its item"
        elif not recommender.reads_images:
            why = "does not look at images"
        raise UserError(f"{kind} {why}: its lists cannot be attacked through images")
    interactions = data.at_test_time
    users, items = recommender.factors(data.features)
    chosen = np.arange(len(users))
    if len(users) > at_most:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, at_most, replace=False))
        users, interactions = users[chosen], interactions.of_users(chosen)
    popularity = data.interactions.popularity.copy()
    popularity[ids] = -1
    changed = Changed(users, items, interactions, ids, k)
    thresholds, may_see = changed.thresholds()
    embedded = recommender.embedded(data.features)
    read = unit_length(embedded[ids]) if recommender.unit else embedded[ids]
    return Audience(
        recommender.slopes(chosen),
        read,
        np.ascontiguousarray((users @ items[ids].T).T),
        np.ascontiguousarray(thresholds.T),
        np.ascontiguousarray(may_see.T),
        embedded[int(np.argmax(popularity))],
        recommender.unit,
        _rivals(users, items, interactions) if with_rivals else None,
    )


def _rivals(users: np.ndarray, items: np.ndarray, interactions: Interactions) -> np.ndarray:
    scores = users @ items.T
    scores[interactions.train[:, 0], interactions.train[:, 1]] = -np.inf
    return np.sort(scores, axis=1)
