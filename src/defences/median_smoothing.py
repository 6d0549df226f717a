"""Bounds of medians over noisy copies of an image, for any network, within an L2 budget.

Chiang et al., "Detection as regression: certified object detection by median smoothing" (NeurIPS 2020):
with normal noise of deviation sigma, the median of a score of x + noise is, for every image within eps
of x, between the quantiles Phi(-eps / sigma) and Phi(eps / sigma) of the score around x itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binom, norm

from src.defences.smoothing import noisy_features
from src.extractors.extractor import Extractor

CONFIDENCE = 0.999
"""Probability that all bounds of one audit hold, over the draws of the noise."""


@dataclass(frozen=True)
class SmoothedBounds:
    """Medians (...) of samples, and bounds of medians within the budget; infinite if unproven."""

    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def upper_place(n: int, shift: float, alpha: float) -> int | None:
    """Return the place k in ascending order of the sample that bounds the quantile Phi(``shift``).

    The probability that the k-th of ``n`` samples lies below that quantile is at most ``alpha``. None if
    no sample is high enough. By symmetry place n + 1 - k bounds the quantile Phi(-``shift``) from below.
    """
    places = np.arange(1, n + 1)
    is_high = binom.sf(places - 1, n, norm.cdf(shift)) <= alpha
    return int(places[np.argmax(is_high)]) if is_high.any() else None


def smoothed_bounds(
    scores: np.ndarray, eps: float, sigma: float, n_bounds: int = 1
) -> SmoothedBounds:
    """Bound the median of each row of ``scores`` (..., n) of noisy copies within ``eps`` in L2.

    All ``n_bounds`` bounds of an audit hold together with probability ``CONFIDENCE``. ``eps`` and
    ``sigma`` are in one unit.
    """
    n = scores.shape[-1]
    middle = (n - 1) // 2
    place = upper_place(n, eps / sigma, (1 - CONFIDENCE) / n_bounds)
    if place is None:
        endless = np.full(scores.shape[:-1], np.inf)
        return SmoothedBounds(np.partition(scores, middle)[..., middle], -endless, endless)
    ordered = np.partition(scores, sorted({n - place, middle, place - 1}))
    return SmoothedBounds(ordered[..., middle], ordered[..., n - place], ordered[..., place - 1])


def noisy_copies(extractor: Extractor, pictures: np.ndarray, sigma: float, n: int) -> np.ndarray:
    """Return features (m, n, D) of ``n`` noisy copies of each of the ``pictures`` (m, H, W, 3) uint8."""
    images = torch.from_numpy(pictures).to(extractor.device).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        copies = noisy_features(extractor, images, sigma, n)
    return copies.transpose(0, 1).cpu().numpy()
