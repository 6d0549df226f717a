"""Victim for tests of attacks: any function from images to logits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from src.attacks.attack import Box
from src.extractors.extractor import Prediction


@dataclass
class FunctionVictim:
    """Logits of a function of images; features are the logits. Counts the images."""

    logits: Callable[[Tensor], Tensor]
    box: Box | None = (0.0, 1.0)
    exact: "FunctionVictim | None" = None
    networks = ()
    passes: int = 0

    def __call__(self, images: Tensor) -> Prediction:
        self.passes += len(images)
        logits = self.logits(images).float()
        return Prediction(logits, logits)


def predicted(logits: Tensor) -> Prediction:
    """Return a prediction with these logits."""
    return Prediction(logits, logits)
