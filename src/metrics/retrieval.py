"""How well embeddings rank images of the same class first: R@K, mAP, mAP@R, mAP@10, NMI.

Every image is a query against all the others; itself is left out by its index, not by its position
in the ranking, where ties could put another image. Images that are equally far stand in the worst
order for the query, those of other classes first, so that an embedder which maps all images to one
point finds nothing. Distances are Euclidean: on L2-normalised embeddings the order of the cosine.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ENTRIES_AT_ONCE = 2**24
"""Distances in memory at a time: 64 MiB of them, and a few arrays of their size."""


@dataclass(frozen=True)
class Retrieval:
    """What n queries find; all arrays are (n,) float64, NaN for a query that nothing matches."""

    first_rank: np.ndarray
    """Where the first image of the query's class stands; 1 is the best."""
    average_precision: np.ndarray
    """Mean of the precision at every match of the whole ranking."""
    at_r: np.ndarray
    """AP@R of Musgrave et al. 2020: precisions at the matches among the first R, divided by R, where
    R is how many images match."""
    at_10: np.ndarray
    """Precisions at the matches among the first 10, divided by min(R, 10)."""

    def recall(self, k: int) -> np.ndarray:
        """R@K: 1 where one of the first ``k`` images matches, else 0."""
        found = np.less_equal(self.first_rank, k)
        return np.where(np.isnan(self.first_rank), np.nan, found)

    def means(self) -> dict[str, float]:
        """Over the queries that something matches: r1, r2, map, map_r, map_10 in percent; first_rank."""
        percent = {
            "r1": self.recall(1),
            "r2": self.recall(2),
            "map": self.average_precision,
            "map_r": self.at_r,
            "map_10": self.at_10,
        }
        means = {name: 100 * _mean_known(values) for name, values in percent.items()}
        return means | {"first_rank": _mean_known(self.first_rank)}


def retrieval(embeddings: np.ndarray, labels: np.ndarray) -> Retrieval:
    """Query every row of ``embeddings`` (n, d) against the other rows; ``labels`` (n,) integers.

    Works on blocks of queries, so that memory holds ``_ENTRIES_AT_ONCE`` distances and not n * n.
    """
    blocks = [_measure(matches) for matches in _ranked_matches(embeddings, labels)]
    return Retrieval(*np.concatenate(blocks, axis=1))


def _ranked_matches(embeddings: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks (queries, n - 1) bool: whether the image at each place of a query's ranking matches.

    A distance that is not negative keeps its order as the integer of its bits, and leaves the highest
    bit free. So the match fits below the distance into one integer, and a plain sort, by far faster
    than an argsort, ranks by distance and puts matches last among equals.
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
        keys |= labels[own, None] == labels
        keys[np.arange(len(own)), own] = np.iinfo(np.uint32).max
        keys.sort(axis=1)
        yield (keys[:, :-1] & 1).astype(bool)


def _measure(matches: np.ndarray) -> np.ndarray:
    """(4, queries): the fields of ``Retrieval``, from ranked matches (queries, n - 1)."""
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


def nmi(embeddings: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """Normalised mutual information, in percent, of ``labels`` and k-means with as many clusters.

    The mutual information is divided by the mean of the two entropies. k-means starts once, by
    k-means++ under ``seed``.
    """
    # Loading it takes a second, which nobody else should wait for.
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    n_classes = len(np.unique(labels))
    clusters = KMeans(n_classes, n_init=1, random_state=seed).fit_predict(embeddings)
    return 100 * float(normalized_mutual_info_score(labels, clusters))


def spread(embeddings: np.ndarray) -> float:
    """Root of the mean squared distance of two different rows of ``embeddings`` (n, d).

    Of unit vectors it lies in [0, sqrt(2 n / (n - 1))]; about 1.41 where they point everywhere.
    """
    n = len(embeddings)
    deviations = np.square(embeddings - embeddings.mean(axis=0, dtype=np.float64)).sum()
    return float(np.sqrt(2 * deviations / max(n - 1, 1)))


def chance(labels: np.ndarray) -> float:
    """R@1, in percent, of a ranking by chance: how often another image has the query's class.

    As in ``Retrieval.means``, over queries that something matches.
    """
    _, counts = np.unique(labels, return_counts=True)
    counts = counts[counts > 1]
    if not len(counts):
        return np.nan
    return 100 * float(np.average((counts - 1) / (len(labels) - 1), weights=counts))
