"""BPR loss of a trained recommender and its gradient in closed form.

Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009. With the scores
s = users @ items.T of two folded matrices (``src.recommenders.scores.fold``), whatever the model,

    L = sum over (u, i, j) of softplus(-(s_ui - s_uj)),

where user u has item i in training and not the negative j. With c = -sigmoid(s_uj - s_ui),

    dL/d users_u = sum of c (items_i - items_j),   dL/d items_i = sum of c users_u,
    dL/d items_j = sum of -c users_u.

With the sparse matrix W that holds c at (u, i) and -c at (u, j) these are W @ items and W.T @ users.
The losses differ in their negatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.sampling import TripleSampler

TRIPLES_AT_ONCE = 2**12
"""1 MB in each gathered array at 64 factors: twice as fast as 2**13, whose memory goes back to the
system every time, and three times as fast as all triples of an epoch."""
MARGINS_AT_ONCE = 2**21
"""Entries of (training pairs, candidates), 8 MB of float32: fewer make small matrix products."""

Gradients = tuple[np.ndarray, np.ndarray]
"""With respect to ``users`` (n_users, d) and ``items`` (n_items, d), float32."""


class PairwiseLoss(Protocol):
    """BPR loss as a function of the folded matrices."""

    def gradient(self, users: np.ndarray, items: np.ndarray, draw: int = 0) -> Gradients:
        """Return the gradient at float32 ``users`` (n_users, d) and ``items`` (n_items, d).

        ``draw`` numbers the negatives of a loss that samples them: equal numbers give equal negatives.
        The other losses ignore it.
        """
        ...

    def restricted_to(self, users: np.ndarray) -> Self:
        """Return the part of the loss for the training pairs of the user ids ``users``."""
        ...


@dataclass(frozen=True)
class FixedNegatives:
    """Loss over fixed triples, which are one draw for all models at all times."""

    triples: np.ndarray
    """Triples (3, n): rows user, positive, negative."""

    def gradient(self, users: np.ndarray, items: np.ndarray, draw: int = 0) -> Gradients:
        margins = np.empty(self.triples.shape[1], np.float32)
        for start in range(0, len(margins), TRIPLES_AT_ONCE):
            block = slice(start, start + TRIPLES_AT_ONCE)
            user, positive, negative = self.triples[:, block]
            margins[block] = _row_dot(users[user], items[positive] - items[negative])
        c = -expit(-margins)
        at = (np.tile(self.triples[0], 2), self.triples[1:].ravel())
        weights = csr_array((np.concatenate([c, -c]), at), shape=(len(users), len(items)))
        return weights @ items, weights.T @ users

    def restricted_to(self, users: np.ndarray) -> Self:
        return replace(self, triples=self.triples[:, np.isin(self.triples[0], users)])


@dataclass(frozen=True)
class SampledNegatives:
    """Loss with a new negative for every training pair in each draw, which depends on the seed."""

    sampler: TripleSampler
    seed: int
    attacked_users: np.ndarray | None = None
    """User ids whose pairs count; None is all. The draw does not depend on it."""

    def gradient(self, users: np.ndarray, items: np.ndarray, draw: int = 0) -> Gradients:
        drawn = FixedNegatives(self.sampler.epoch(self.seed, draw))
        if self.attacked_users is not None:
            drawn = drawn.restricted_to(self.attacked_users)
        return drawn.gradient(users, items)

    def restricted_to(self, users: np.ndarray) -> Self:
        if self.attacked_users is not None:
            users = np.intersect1d(self.attacked_users, users)
        return replace(self, attacked_users=users)


@dataclass(frozen=True)
class ExpectedNegatives:
    """Exact expectation of ``SampledNegatives``.

    Every training pair counts with the mean over all candidates of its user: the candidate items that
    the user does not have in training.
    """

    interactions: Interactions
    candidate_items: np.ndarray
    """Distinct item ids (c,) from which negatives are drawn, as in the sampler."""

    def __post_init__(self) -> None:
        full = self._n_candidates[self.interactions.train[:, 0]] == 0
        if full.any():
            raise UserError(
                f"user {self.interactions.train[np.argmax(full), 0]} has every candidate item, "
                "so there is no negative: leave the user out"
            )

    @cached_property
    def _columns(self) -> np.ndarray:
        """Positions (n,) int64 of each pair's item among the candidates; -1 if it is none."""
        columns = np.full(self.interactions.n_items, -1)
        columns[self.candidate_items] = np.arange(len(self.candidate_items))
        return columns[self.interactions.train[:, 1]]

    @cached_property
    def _n_candidates(self) -> np.ndarray:
        """Numbers (n_users,) int64 of each user's candidates."""
        own = self.interactions.train[self._columns >= 0, 0]
        return len(self.candidate_items) - np.bincount(own, minlength=self.interactions.n_users)

    def gradient(self, users: np.ndarray, items: np.ndarray, draw: int = 0) -> Gradients:
        others = items[self.candidate_items]
        of_users, of_others = np.zeros_like(users), np.zeros_like(others)
        c = np.empty(len(self.interactions.train), np.float32)
        for block in self._blocks():
            rows, weights, c[block] = self._block(users, items, others, block)
            of_users[rows] += weights @ others
            of_others += weights.T @ users[rows]
        positives = self.interactions.train[:, 1]
        shape = (len(users), len(items))
        weights = csr_array((c, positives, self.interactions.first), shape=shape)
        of_items = weights.T @ users
        of_items[self.candidate_items] += of_others
        return of_users + weights @ items, of_items

    def restricted_to(self, users: np.ndarray) -> Self:
        train = self.interactions.train
        kept = train[np.isin(train[:, 0], users)]
        return replace(self, interactions=replace(self.interactions, train=kept))

    def _blocks(self) -> Iterator[slice]:
        """Yield blocks of training pairs; a user's pairs may lie in several."""
        n_pairs = len(self.interactions.train)
        size = max(1, MARGINS_AT_ONCE // len(self.candidate_items))
        return (slice(start, min(start + size, n_pairs)) for start in range(0, n_pairs, size))

    def _block(
        self, users: np.ndarray, items: np.ndarray, others: np.ndarray, block: slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute a block of b pairs: its users, their entries of W at all candidates, c of the pairs.

        Returns (m,) ascending user ids, (m, candidates) float32 and (b,) float32.
        """
        user, positive = self.interactions.train[block].T
        rows, row = np.unique(user, return_inverse=True)
        scores = users[rows] @ others.T
        self._hide_own_items(rows, scores)
        own = _row_dot(users[user], items[positive])
        # sigmoid(s_uj - s_ui) = 1 / (1 + exp(s_ui - s_uj)), in place. If exp overflows this is 0,
        # as it should be, and so it is for the user's own items.
        chance = scores[row]
        with np.errstate(over="ignore"):
            np.subtract(own[:, None], chance, out=chance)
            np.exp(chance, out=chance)
        chance += 1
        np.reciprocal(chance, out=chance)
        share = 1 / self._n_candidates[user].astype(np.float32)
        c = -share * (chance @ np.ones(len(others), np.float32))
        begins = np.searchsorted(row, np.arange(len(rows) + 1))
        by_user = csr_array((share, np.arange(len(user)), begins), shape=(len(rows), len(user)))
        return rows, by_user @ chance, c

    def _hide_own_items(self, rows: np.ndarray, scores: np.ndarray) -> None:
        """Set the scores (m, candidates) of what the users ``rows`` (m,) have to -inf."""
        first = self.interactions.first
        pairs = slice(first[rows[0]], first[rows[-1] + 1])
        column = self._columns[pairs]
        row = np.searchsorted(rows, self.interactions.train[pairs, 0])
        scores[row[column >= 0], column[column >= 0]] = -np.inf


def _row_dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", a, b)
