"""Ways to train an extractor, as data."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from src.extractors.extractor import Prediction
from src.training.adversaries import Adversary, FreeAdversary, NoAdversary

Loss = Callable[[Prediction, Tensor], Tensor]
"""Of a prediction and the labels (N,) int64; a scalar."""


def cross_entropy(prediction: Prediction, labels: Tensor) -> Tensor:
    return functional.cross_entropy(prediction.logits, labels)


@dataclass(frozen=True)
class Recipe:
    """What one training step minimises, on which images, and how often each mini-batch is replayed.

    The number of epochs is divided by ``replays``, so recipes compare at equal cost.
    """

    adversary: Callable[[float], Adversary]
    """Makes an adversary for a budget in [0, 1] pixels."""
    loss: Loss = cross_entropy
    replays: int = 1


RECIPES = {
    "plain": Recipe(NoAdversary),
    # Shafahi et al. 2019, "Adversarial Training for Free!", m = 4.
    "free": Recipe(FreeAdversary, replays=4),
}
