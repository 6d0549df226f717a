"""Retrieval quality of embeddings: R@K, mAP, mAP@R, mAP@10, NMI.

Every image is a query against all others. The query itself is left out by its index and not by its
position in the ranking, which a tie could give to another image. Equally distant images are ranked in
the worst order for the query, other classes first, so that an embedder that maps all images to one
point finds nothing. Distances are Euclidean; on L2-normalised embeddings they order like the cosine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ENTRIES_AT_ONCE = 2**24
"""Number of distances in memory at a time: 64 MiB, besides a few arrays of the same size."""


@dataclass(frozen=True)
class Retrieval:
    """Results of n queries; all arrays are (n,) float64, NaN for a query without a match."""

    first_rank: np.ndarray
    """Rank of the first image of the query's class; 1 is the best."""
    average_precision: np.ndarray
    """Mean of the precisions at all matches of the whole ranking."""
    at_r: np.ndarray
    """AP@R of Musgrave et al. 2020: sum of the precisions at the matches among the first R, divided by
    R, the number of matching images."""
    at_10: np.ndarray
    """Sum of the precisions at the matches among the first 10, divided by min(R, 10)."""

    def recall(self, k: int) -> np.ndarray:
        """Return R@K: 1 if one of the first ``k`` images matches, else 0."""
        found = np.less_equal(self.first_rank, k)
        return np.where(np.isnan(self.first_rank), np.nan, found)

    def means(self) -> dict[str, float]:
        """Return means over queries with a match: r1, r2, map, map_r, map_10 in percent; first_rank."""
        percent = {
            "r1": self.recall(1),
            "r2": self.recall(2),
            "map": self.average_precision,
            "map_r": self.at_r,
            "map_10": self.at_10,
        }
        means = {name: 100 * _mean_known(values) for name, values in percent.items()}
        return means | {"first_rank": _mean_known(self.first_rank)}


def retrieval(embeddings: np.ndarray, classes: np.ndarray) -> Retrieval:
    """Query every row of ``embeddings`` (n, d) against the other rows; ``classes`` (n,) integers.

    Works on blocks of queries, so that memory holds ``_ENTRIES_AT_ONCE`` distances and not n * n.
    """
    blocks = [_measure(matches) for matches in _ranked_matches(embeddings, classes)]
    return Retrieval(*np.concatenate(blocks, axis=1))


def _ranked_matches(embeddings: np.ndarray, classes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks (queries, n - 1) bool that say which places of a query's ranking match.

    The bits of a non-negative distance, read as an integer, keep its order and leave the highest bit
    free. So the match fits below the distance in one integer. A plain sort, much faster than an
    argsort, then ranks by distance and puts matches last among equal distances.
    """
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    squares = np.square(embeddings).sum(axis=1)
    n = len(embeddings)
    rows_at_once = max(1, _ENTRIES_AT_ONCE // n)
    for first in range(0, n, rows_at_once):
        own = np.arange(first, min(first + rows_at_once, n))
        distances = squares - 2 * (embeddings[own] @ embeddings.T)
        distances += squares[own, None]
        np.maximum(distances, 0, out=distances)
        keys = distances.view(np.uint32)
        keys <<= 1
        keys |= classes[own, None] == classes
        keys[np.arange(len(own)), own] = np.iinfo(np.uint32).max
        keys.sort(axis=1)
        yield (keys[:, :-1] & 1).astype(bool)


def _measure(matches: np.ndarray) -> np.ndarray:
    """Compute the fields of ``Retrieval``, (4, queries), from ranked matches (queries, n - 1)."""
    found = np.cumsum(matches, axis=1, dtype=np.int32)
    n_matches = found[:, -1]
    query, place = np.nonzero(matches)
    precision = found[query, place] / (place + 1.0)

    def total(among: np.ndarray) -> np.ndarray:
        return np.bincount(query[among], precision[among], len(matches))

    first_rank = matches.argmax(axis=1) + 1.0
    with np.errstate(invalid="ignore"):
        average = np.bincount(query, precision, len(matches)) / n_matches
        at_r = total(place < n_matches[query]) / n_matches
        at_10 = total(place < 10) / np.minimum(n_matches, 10)
    return np.stack([np.where(n_matches > 0, first_rank, np.nan), average, at_r, at_10])


def _mean_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def nmi(embeddings: np.ndarray, classes: np.ndarray, seed: int) -> float:
    """Return the normalised mutual information, in percent, of ``classes`` and as many clusters.

    The mutual information is divided by the mean of the two entropies. k-means runs once, from a
    k-means++ start under ``seed``.
    """
    # The import takes a second and only this measure needs it.
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    n_classes = len(np.unique(classes))
    clusters = KMeans(n_classes, n_init=1, random_state=seed).fit_predict(embeddings)
    return 100 * float(normalized_mutual_info_score(classes, clusters))


def spread(embeddings: np.ndarray) -> float:
    """Return the root of the mean squared distance of two different rows of ``embeddings`` (n, d).

    For unit vectors it lies in [0, sqrt(2 n / (n - 1))]; uniformly spread ones have about 1.41.
    """
    n = len(embeddings)
    deviations = np.square(embeddings - embeddings.mean(axis=0, dtype=np.float64)).sum()
    return float(np.sqrt(2 * deviations / max(n - 1, 1)))


def chance(classes: np.ndarray) -> float:
    """Return R@1, in percent, of a random ranking: the share of other images of the query's class.

    The mean is over queries with a match, as in ``Retrieval.means``.
    """
    _, counts = np.unique(classes, return_counts=True)
    counts = counts[counts > 1]
    if not len(counts):
        return np.nan
    return 100 * float(np.average((counts - 1) / (len(classes) - 1), weights=counts))
