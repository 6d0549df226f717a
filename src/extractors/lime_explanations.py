"""LIME for images, with the ``lime`` package (an optional extra): regions that support a class.

Ribeiro et al., "Why Should I Trust You?", KDD 2016. An image is divided into superpixels (quickshift).
In ``n_samples`` copies each superpixel is hidden at random, and a ridge regression of the class's
probability on the visible superpixels, weighted by their number, gives each superpixel a weight.

An image costs 1000 forwards of the extractor, where an attention map takes one, so that LIME suits
samples of images and not catalogues.
"""

from functools import partial
from typing import Literal

import numpy as np
import torch

from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.extractors.extractor import Extractor, fast_copy
from src.extractors.feeding import FittingBatches
from src.extractors.optional import optional_library

N_SAMPLES = 1000
N_FEATURES = 10
Hidden = Literal["mean", "black"]
"""Fill of hidden superpixels: their mean colour (lime's default), or black (Wu et al. 2018). On product
photos black leaves no probability to explain, since half of the white background becomes black too."""
_KERNEL_WIDTH = 0.25


def explain(
    extractor: Extractor,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    n_samples: int = N_SAMPLES,
    seed: int = 0,
    n_features: int = N_FEATURES,
    hidden: Hidden = "mean",
    batch_size: int = 100,
) -> np.ndarray:
    """Return masks (n, H, W) int8: +1 in superpixels for the class, -1 in superpixels against it, or 0.

    ``images`` are (n, H, W, 3) uint8; ``classes`` (n,) integers is the class to explain in each. At
    most ``n_features`` superpixels, those with the largest weights, are not 0. (lime before August 2019
    wrote 2 for support and 1 for opposition.) Quickshift divides 32 x 32 pixels into one or two
    superpixels, which explain nothing; images should have at least about 64 x 64 pixels. Every image
    starts from ``seed``, so that its mask does not depend on the others. ``batch_size`` is the number
    of copies in a forward; a CPU is faster with 8.

    Raises ``UserError`` if lime is not installed and for a class that ``extractor`` does not have.
    """
    optional_library("lime.lime_base")  # a missing library must be noticed before the forwards
    if not np.isin(classes, np.arange(extractor.n_classes)).all():
        raise UserError(f"the model has classes 0 to {extractor.n_classes - 1}")
    fast, fitting = fast_copy(extractor), FittingBatches()
    masks = np.zeros(images.shape[:3], np.int8)
    with progress_bar(total=len(images) * n_samples, desc="LIME", unit="pass") as bar:
        for row, (image, number) in enumerate(zip(images, classes, strict=True)):
            segments = superpixels(image, seed)
            background = _background(image, segments, hidden)
            shown = _samples(int(segments.max()) + 1, n_samples, seed)
            probabilities = []
            for batch in np.array_split(shown, -(-n_samples // batch_size)):
                visible = batch.astype(bool)[:, segments]
                copies = np.where(visible[..., None], image, background)
                work = partial(_probabilities, fast, copies, int(number))
                probabilities += fitting.run(work, len(copies))
                bar.update(len(batch))
            weights = local_weights(shown, np.concatenate(probabilities), n_features, seed)
            masks[row] = np.sign(weights)[segments]
    return masks


def superpixels(image: np.ndarray, seed: int) -> np.ndarray:
    """Divide an image into superpixels 0, 1, ... (H, W) by quickshift with lime's parameters."""
    segmentation = optional_library("skimage.segmentation")
    return segmentation.quickshift(image, kernel_size=4, max_dist=200, ratio=0.2, rng=seed)


def _samples(n_superpixels: int, n_samples: int, seed: int) -> np.ndarray:
    """Draw the superpixels of each copy, (n_samples, n_superpixels) of 0 and 1; the first shows all."""
    # The legacy generator gives the copies that lime itself draws from the same seed.
    shown = np.random.RandomState(seed).randint(0, 2, (n_samples, n_superpixels))
    shown[0] = 1
    return shown


def _background(image: np.ndarray, segments: np.ndarray, hidden: Hidden) -> np.ndarray:
    """Return ``image`` with all of its superpixels hidden: (H, W, 3) uint8."""
    if hidden == "black":
        return np.zeros_like(image)
    counts = np.bincount(segments.ravel())
    sums = [np.bincount(segments.ravel(), channel.ravel()) for channel in np.moveaxis(image, 2, 0)]
    return (np.stack(sums, axis=1) / counts[:, None]).astype(np.uint8)[segments]


@torch.inference_mode()
def _probabilities(
    extractor: Extractor, copies: np.ndarray, number: int, rows: slice
) -> np.ndarray:
    """Return the probability of class ``number``, (m,), for ``rows`` of ``copies`` (n, H, W, 3) uint8."""
    pixels = torch.from_numpy(copies[rows]).to(extractor.device).permute(0, 3, 1, 2).float() / 255
    return extractor(pixels).logits.softmax(dim=1)[:, number].double().cpu().numpy()


def local_weights(
    shown: np.ndarray, probabilities: np.ndarray, n_features: int, seed: int
) -> np.ndarray:
    """Fit lime's local linear model: a weight for each superpixel, 0 for all but ``n_features``."""
    base = optional_library("lime.lime_base").LimeBase(_kernel, random_state=seed)
    # For rows of 0 and 1 this is the cosine distance to the row of ones.
    distances = 1 - np.sqrt(shown.mean(axis=1))
    _, chosen, _, _ = base.explain_instance_with_data(
        shown, probabilities[:, None], distances, 0, n_features
    )
    weights = np.zeros(shown.shape[1])
    for superpixel, weight in chosen:
        weights[superpixel] = weight
    return weights


def _kernel(distances: np.ndarray) -> np.ndarray:
    return np.sqrt(np.exp(-(distances**2) / _KERNEL_WIDTH**2))
