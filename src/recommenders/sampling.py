"""Training triples (user, positive item, negative item), drawn for a whole epoch at once."""

from dataclasses import dataclass

import numpy as np

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions


@dataclass(frozen=True)
class TripleSampler:
    """Sampler of uniform negatives for every training pair, exact and without rejection.

    Candidates of a user are the ``candidate_items`` that the user does not have. Number these items
    0..W-1. If a user's own items are p_0 < p_1 < ..., then the number of them before the r-th
    candidate is #{k: p_k - k <= r}, and that candidate is item r + #{k: p_k - k <= r}. All users are
    counted in one binary search, over the keys user * (W + 1) + p_k - k.
    """

    pairs: np.ndarray
    """Training pairs (n, 2) int64, sorted by user and then item."""
    candidate_items: np.ndarray
    """Ascending item ids (W,) int64, which include every item in training."""
    first: np.ndarray
    """Position (n,) int64 of the first pair of each pair's user."""
    n_candidates: np.ndarray
    """Number (n,) int64 of candidates of each pair's user."""
    keys: np.ndarray
    """Keys (n,) int64: user * (W + 1) + p_k - k, ascending."""

    @classmethod
    def of(cls, interactions: Interactions, cold_items: bool = False) -> "TripleSampler":
        """Sample among all items, or only among the items in training.

        The published visual recommenders leave cold items out, the published BPR-MF does not. Raises
        ``UserError`` if a user has every candidate, and so no negative.
        """
        users, items = interactions.train.T
        candidates = np.arange(interactions.n_items)
        if not cold_items:
            candidates = np.flatnonzero(interactions.popularity)
        n_candidates = len(candidates) - interactions.degrees[users]
        if (n_candidates == 0).any():
            raise UserError(
                f"user {users[np.argmin(n_candidates)]} has every item in training that could be a "
                "negative, so none can be drawn: leave the user out"
            )
        first = interactions.first[users]
        shifted = np.searchsorted(candidates, items) - (np.arange(len(users)) - first)
        return cls(
            interactions.train,
            candidates,
            first,
            n_candidates,
            users * (len(candidates) + 1) + shifted,
        )

    def epoch(self, seed: int, epoch: int, drop_below: int = 1, n_negatives: int = 1) -> np.ndarray:
        """Return all training pairs in random order, each with new negatives.

        The result is (2 + n_negatives, n) int32 with the rows user, positive, negatives, and depends
        only on (seed, epoch). The number of triples is rounded down to a multiple of ``drop_below``,
        the batch size, if an incomplete last batch is left out.
        """
        rng = np.random.default_rng((seed, epoch))
        negatives = self._negatives(rng, n_negatives)
        n_kept = len(self.pairs) - len(self.pairs) % drop_below
        order = rng.permutation(len(self.pairs))[:n_kept]
        triples = np.empty((2 + n_negatives, n_kept), np.int32)
        triples[:2] = self.pairs[order].T
        triples[2:] = negatives[:, order]
        return triples

    def _negatives(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw ``n`` negatives for each pair: (n, pairs) int32.

        The order is that of the pairs, since neighbouring searches share cache lines.
        """
        r = rng.integers(0, self.n_candidates, (n, len(self.pairs)))
        queries = self.keys - (self.keys % (len(self.candidate_items) + 1)) + r
        r += np.searchsorted(self.keys, queries, side="right") - self.first
        return self.candidate_items.astype(np.int32)[r]
