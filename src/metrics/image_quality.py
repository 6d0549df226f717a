"""Pixel distances between changed images and their originals.

Images are float arrays (n, height, width, channels) in [0, 1]; every metric returns (n,) float64, one
value for each pair.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy.ndimage import correlate1d

_C1, _C2 = 0.01**2, 0.03**2
"""Published constants of SSIM for a peak of 1."""


@dataclass(frozen=True)
class ImageMetric:
    """Metric of pairs of images; ``name`` is its column in tables."""

    name: str
    higher_is_closer: bool
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Return the input of ``compare``: the images here, features in metrics with a network."""
        return images

    def __call__(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Return (n,) float64; ``ValueError`` if shapes differ or the metric cannot read the size."""
        return self.compare(original, changed)


def mse(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Return the mean squared error."""
    return np.square(_difference(original, changed)).mean(axis=(1, 2, 3))


def psnr(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB, 10 log10(1 / MSE); infinite for equal images."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(1 / mse(original, changed))


def lp_norm(original: np.ndarray, changed: np.ndarray, p: float = 2) -> np.ndarray:
    """Return the Lp norm of the change of an image; p = 0 counts the values that differ."""
    change = _difference(original, changed)
    return np.linalg.norm(change.reshape(len(change), -1), p, axis=1)


def ssim(
    original: np.ndarray,
    changed: np.ndarray,
    window: Literal["gaussian", "uniform"] = "gaussian",
) -> np.ndarray:
    """Return the structural similarity, the mean over windows and channels; 1 for equal images.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    Transactions on Image Processing 2004, use Gaussian windows of 11 pixels with sigma 1.5. ``uniform``
    uses windows of 7 pixels and sample covariances. Gaussian windows surround every pixel of an image
    that is mirrored at its border, as in torchmetrics; uniform windows lie inside the image, as in
    scikit-image. Raises ``ValueError`` for images smaller than a window.
    """
    _difference(original, changed)
    kind = WINDOWS[window]
    x, y = (np.asarray(images, np.float64) for images in (original, changed))
    mean_x, mean_y = kind.means(x), kind.means(y)
    product, squares = mean_x * mean_y, np.square(mean_x) + np.square(mean_y)
    variances = kind.correction * (kind.means(np.square(x) + np.square(y)) - squares)
    covariance = kind.correction * (kind.means(x * y) - product)
    similarity = (2 * product + _C1) * (2 * covariance + _C2)
    similarity /= (squares + _C1) * (variances + _C2)
    return similarity.mean(axis=(1, 2, 3))


@dataclass(frozen=True)
class Window:
    """Square window of SSIM."""

    weights: np.ndarray
    """Weights (width,) of the pixels along each side; they sum to 1."""
    correction: float
    """Factor of variances and covariances, 1 or Bessel's n / (n - 1)."""
    mirrored: bool
    """True for a window around every pixel of an image that is mirrored at its border.

    False for windows inside the image only.
    """

    def means(self, images: np.ndarray) -> np.ndarray:
        """Return the weighted means of all windows."""
        beyond = len(self.weights) // 2
        if min(images.shape[1:3]) < len(self.weights):
            width, height = images.shape[2], images.shape[1]
            raise ValueError(f"images of {width}x{height} pixels are smaller than a window of SSIM")
        kept = slice(None) if self.mirrored else slice(beyond, -beyond)
        rows = correlate1d(images, self.weights, axis=1, mode="mirror")[:, kept]
        return correlate1d(rows, self.weights, axis=2, mode="mirror")[:, :, kept]


def _gaussian(width: int, sigma: float) -> np.ndarray:
    weights = np.exp(-np.square((np.arange(width) - width // 2) / sigma) / 2)
    return weights / weights.sum()


WINDOWS = {
    "gaussian": Window(_gaussian(11, sigma=1.5), correction=1, mirrored=True),
    "uniform": Window(np.full(7, 1 / 7), correction=7**2 / (7**2 - 1), mirrored=False),
}


def total_variation(images: np.ndarray) -> np.ndarray:
    """Return the roughness of each image: mean |horizontal difference| + mean |vertical difference|.

    This is the anisotropic total variation of Rudin, Osher and Fatemi, Physica D 1992.
    """
    images = np.asarray(images, np.float64)
    return sum(np.abs(np.diff(images, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))


def roughness_change(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Return the absolute difference of total variation between an image and its original."""
    return np.abs(total_variation(changed) - total_variation(original))


def _difference(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Return changed minus original, float64; ``ValueError`` unless both are images of equal shape."""
    if original.shape != changed.shape or original.ndim != 4:
        raise ValueError(f"images of {original.shape} and {changed.shape} cannot be compared")
    return np.asarray(changed, np.float64) - np.asarray(original, np.float64)


IMAGE_METRICS: dict[str, ImageMetric] = {
    metric.name: metric
    for metric in (
        ImageMetric("mse", False, mse),
        ImageMetric("psnr", True, psnr),
        ImageMetric("ssim", True, ssim),
        ImageMetric("ssim_uniform", True, partial(ssim, window="uniform")),
        ImageMetric("l0", False, partial(lp_norm, p=0)),
        ImageMetric("l1", False, partial(lp_norm, p=1)),
        ImageMetric("l2", False, partial(lp_norm, p=2)),
        ImageMetric("linf", False, partial(lp_norm, p=math.inf)),
        ImageMetric("tv", False, roughness_change),
    )
}
"""Metrics by the names of their columns. Norms are of pixel values in [0, 1]."""
