"""What an attack does to an extractor: success rate and feature loss."""

import numpy as np


def success_rate(predicted: np.ndarray, target: int) -> float:
    """Percent of attacked images that the extractor now calls ``target``.

    ``predicted`` (n,) integers, n >= 1: the class of each attacked image.
    """
    return 100.0 * float(np.mean(np.asarray(predicted) == target))


def misclassification_rate(predicted: np.ndarray, origin: int) -> float:
    """Percent of attacked images no longer called ``origin``: success of an untargeted attack."""
    return 100.0 * float(np.mean(np.asarray(predicted) != origin))


def feature_loss(clean: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far an attack moves the features of each image: (MSE, RMSE), both (n,) float64.

    ``clean`` and ``attacked`` are (n, dimensions), row by row the same images seen by the same
    extractor, not normalised. The mean is over the dimensions and in float64.
    """
    difference = np.asarray(attacked, np.float64) - np.asarray(clean, np.float64)
    mse = np.square(difference).mean(axis=1)
    return mse, np.sqrt(mse)
