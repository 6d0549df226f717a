"""Empirical Robustness Score: one number for ten attacks on rankings.

Zhou et al., "Adversarial Attack and Defense in Deep Ranking", 2021; Zhou and Patel, "Enhancing
Adversarial Robustness for Deep Metric Learning", CVPR 2022.
"""

from collections.abc import Callable, Mapping

import numpy as np

from src.metrics.significance import mean_interval

TERMS: Mapping[str, Callable[[float], float]] = {
    "ca+": lambda percentile: 2 * percentile,
    "ca-": lambda percentile: 100 - percentile,
    "qa+": lambda percentile: 2 * percentile,
    "qa-": lambda percentile: 100 - percentile,
    "tma": lambda cosine: 100 * (1 - cosine),
    "es:d": lambda distance: 50 * (2 - distance),
    "es:r": lambda recall: recall,
    "ltm": lambda recall: recall,
    "gtm": lambda recall: recall,
    "gtt": lambda retained: retained,
}
"""Conversion of each attack's result to a score out of 100; 0 if the attack reaches its aim fully.

Percentiles, recalls (R@1) and the share of retained top candidates are percentages; ES:D is a distance
on the unit sphere, in [0, 2]. ``term_score`` keeps the scores in [0, 100].
"""

SMALLEST_SPREAD = 0.1
CHANCES = 2.0


def term_score(term: str, measured: float) -> float:
    """Return the score of one term, in [0, 100].

    Without the bounds TMA could have more, where the target is on the other side of the sphere, and so
    could CA+ and QA+, where the drawn images stand below the middle of the ranking: such a term would
    make up for others in which the attack succeeds. No published term is out of bounds.
    """
    return float(np.clip(TERMS[term](measured), 0, 100))


def terms_scored(measured: Mapping[str, float]) -> dict[str, float]:
    """Return the score of every term of ``TERMS``; ``KeyError`` if ``measured`` lacks one."""
    return {term: term_score(term, measured[term]) for term in TERMS}


def empirical_robustness_score(measured: Mapping[str, float]) -> float:
    """Return the ERS, the mean of the ten scores: 0 without robustness, 100 if no attack has an effect.

    It is defined for bounded distances, those on the unit sphere. It must be read beside R@1: an
    embedder that maps all images to one point gets about 30 (see ``collapsed``).
    """
    return float(np.mean(list(terms_scored(measured).values())))


def score_interval(scores: np.ndarray) -> tuple[float, float, float]:
    """Return (mean, low, high) of ``scores`` (repeats,): Student's t, 95 %; NaN bounds for one repeat."""
    scores = np.asarray(scores, np.float64)
    low, high = mean_interval(scores)
    return float(scores.mean()), float(low), float(high)


def collapsed(r1: float, chance: float, spread: float) -> bool:
    """Return True if the clean embeddings carry too little information for the ERS to mean anything.

    That is so if R@1 (percent) is below ``CHANCES`` times ``chance``, the R@1 of a random ranking, or if
    the ``spread`` of the embeddings on the unit sphere (root mean squared distance, at most about 1.41)
    is below ``SMALLEST_SPREAD``: then no attack can move an image far, and none needs to.
    """
    return r1 < CHANCES * chance or spread < SMALLEST_SPREAD
