"""Effects of an attack on an extractor: success rate and feature loss."""

import numpy as np


def success_rate(predicted: np.ndarray, target: int) -> float:
    """Return the percentage of attacked images that the extractor classifies as ``target``.

    ``predicted`` (n,) integers, n >= 1, holds the class of each attacked image.
    """
    return 100.0 * float(np.mean(np.asarray(predicted) == target))


def misclassification_rate(predicted: np.ndarray, origin: int) -> float:
    """Return the percentage of attacked images that are no longer classified as ``origin``.

    This is the success rate of an untargeted attack.
    """
    return 100.0 * float(np.mean(np.asarray(predicted) != origin))


def feature_loss(clean: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (MSE, RMSE) between clean and attacked features of each image, both (n,) float64.

    ``clean`` and ``attacked`` are (n, dimensions), not normalised. Row i of both is the same image
    under the same extractor. The mean is over the dimensions and computed in float64.
    """
    difference = np.asarray(attacked, np.float64) - np.asarray(clean, np.float64)
    mse = np.square(difference).mean(axis=1)
    return mse, np.sqrt(mse)
