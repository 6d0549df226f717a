"""Smoothing: predictions of noisy copies of images, joined to one prediction."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from src.extractors.extractor import Prediction
from src.extractors.feeding import send


def noisy_features(
    extractor: Callable[[Tensor], Prediction], images: Tensor, sigma: float, n: int, seed: int = 0
) -> Tensor:
    """Return the features (n, N, D) of ``n`` noisy copies of each of the ``images`` (N, 3, H, W).

    All images meet the same normal noise of deviation ``sigma`` (1 being white), which the ``seed``
    draws. Noisy copies are not cut to [0, 1], as bounds on smoothed scores require.
    """
    copies = noisy_predictions(extractor, images, sigma, n, seed)
    return torch.stack([of.features for of in copies])


def noisy_predictions(
    extractor: Callable[[Tensor], Prediction], images: Tensor, sigma: float, n: int, seed: int = 0
) -> Iterator[Prediction]:
    """Yield the prediction of each noisy copy of the ``images``, one forward each."""
    generator = torch.Generator().manual_seed(seed)  # equal draws on every device
    for _ in range(n):
        noise = send(torch.randn(images.shape[1:], generator=generator), images.device)
        yield extractor(images + sigma * noise)


def smoothed(
    extractor: Callable[[Tensor], Prediction], images: Tensor, sigma: float, n: int
) -> Prediction:
    """Return the coordinate-wise median of noisy copies' features, and the mean of their logits."""
    copies = list(noisy_predictions(extractor, images, sigma, n))
    features = torch.stack([of.features for of in copies]).median(dim=0).values
    if copies[0].logits is None:
        return Prediction(None, features)
    return Prediction(torch.stack([of.logits for of in copies]).mean(dim=0), features)
