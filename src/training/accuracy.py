"""What an extractor makes of labelled pictures: accuracy, clean and under attack, and class means."""

from collections.abc import Iterator

import torch
from torch import Tensor

from src.attacks.attack import Attack
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.victim import ExtractorVictim
from src.extractors.embedders import class_means, set_class_means
from src.extractors.extractor import Extractor
from src.training.pictures import UNCHANGED, Augmentation, PictureSet, read_ahead, to_images


def accuracy(
    extractor: Extractor,
    pictures: PictureSet,
    attack: Attack | None = None,
    batch_size: int = 64,
    augmentation: Augmentation = UNCHANGED,
) -> float:
    """Share in [0, 1] of pictures that get their own category, after ``attack`` if there is one.

    The attack is untargeted and differentiates a tuned copy; the extractor itself judges.
    ``augmentation``: the one it was trained with, here in its form for testing.
    """
    victim = ExtractorVictim(extractor, fast=True)
    right = 0
    for images, categories in _batches(extractor, pictures, batch_size, augmentation):
        if attack is not None:
            with frozen(*victim.networks):
                images = attack(victim, images, ClassGoal(categories, targeted=False))
        with frozen(extractor), torch.no_grad():
            right += int((extractor(images).logits.argmax(dim=1) == categories).sum())
    return right / len(pictures)


def embed(
    extractor: Extractor,
    pictures: PictureSet,
    batch_size: int = 64,
    augmentation: Augmentation = UNCHANGED,
) -> Tensor:
    """Features (n, D) float32 on the CPU of all pictures in their order."""
    with frozen(extractor), torch.no_grad():
        batches = _batches(extractor, pictures, batch_size, augmentation)
        return torch.cat([extractor(images).features.cpu() for images, _ in batches])


def fill_class_means(
    extractor: Extractor, pictures: PictureSet, augmentation: Augmentation = UNCHANGED
) -> None:
    """Let ``extractor``, an embedder, classify by the nearest mean embedding of the ``pictures``."""
    embeddings = embed(extractor, pictures, augmentation=augmentation)
    means = class_means(embeddings, pictures.categories, extractor.n_classes)
    set_class_means(extractor, means.to(extractor.device))


def _batches(
    extractor: Extractor, pictures: PictureSet, batch_size: int, augmentation: Augmentation
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images in [0, 1], categories) on the extractor's device."""
    for rows, pixels in read_ahead(pictures, torch.arange(len(pictures)).split(batch_size)):
        images = to_images(augmentation.testing(pixels), extractor.device)
        yield images, pictures.categories[rows].to(extractor.device)
