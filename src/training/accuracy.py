"""Accuracy of an extractor on labelled pictures, clean and under attack."""

import torch

from src.attacks.freezing import frozen
from src.attacks.goals import Attack, Goal
from src.extractors.extractor import Extractor, fast_copy
from src.training.pictures import Pictures, to_images


def accuracy(
    extractor: Extractor, pictures: Pictures, attack: Attack | None = None, batch_size: int = 64
) -> float:
    """Share in [0, 1] of pictures that get their own category, after ``attack`` if there is one.

    The attack is untargeted and differentiates a tuned copy; the extractor itself judges.
    """
    fast = fast_copy(extractor)
    right = 0
    for rows in torch.arange(len(pictures)).split(batch_size):
        images = to_images(pictures.pixels[rows], extractor.device)
        categories = pictures.categories[rows].to(extractor.device)
        if attack is not None:
            goal = Goal(categories, targeted=False)
            with frozen(fast):
                images = attack(lambda points: fast(points).logits, images, goal, (0.0, 1.0))
        with frozen(extractor), torch.no_grad():
            right += int((extractor(images).logits.argmax(dim=1) == categories).sum())
    return right / len(pictures)
