"""Predictions for labelled pictures: clean and attacked accuracy, embeddings and class means."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from src.attacks.attack import Attack
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.victim import ExtractorVictim
from src.datasets.image_set import ImageSet
from src.extractors.embedders import set_class_means
from src.extractors.extractor import Extractor
from src.extractors.feeding import FittingBatches
from src.extractors.heads import class_means
from src.extractors.inference import reading
from src.training.pictures import UNCHANGED, Augmentation, read_pixels, to_images


def accuracy(
    extractor: Extractor,
    pictures: ImageSet,
    attack: Attack | None = None,
    batch_size: int = 64,
    augmentation: Augmentation = UNCHANGED,
) -> float:
    """Return the share, in [0, 1], of pictures that are classified correctly after ``attack``, if given.

    The attack is untargeted and takes gradients through a tuned copy; the extractor itself classifies.
    ``augmentation`` is the one of the training and is applied in its test form.
    """
    victim = ExtractorVictim(extractor, fast=True)

    def classified_correctly(images: Tensor, classes: Tensor) -> Tensor:
        if attack is not None:
            with frozen(*victim.networks):
                images = attack(victim, images, ClassGoal(classes, targeted=False))
        with frozen(extractor), torch.no_grad():
            return extractor(images).logits.argmax(dim=1) == classes

    batches = _batches(extractor, pictures, batch_size, augmentation)
    return int(_of_all(classified_correctly, batches).sum()) / len(pictures)


def embed(
    extractor: Extractor,
    pictures: ImageSet,
    batch_size: int = 64,
    augmentation: Augmentation = UNCHANGED,
) -> Tensor:
    """Return features (n, D) float32, on the CPU, of all pictures in their order."""
    batches = _batches(extractor, pictures, batch_size, augmentation)
    with frozen(extractor), torch.no_grad():
        return _of_all(lambda images, _: extractor(images).features, batches).cpu()


def readable_size(
    extractor: Extractor, pictures: ImageSet, augmentation: Augmentation
) -> int | None:
    """Return the side in pixels at which ``extractor`` reads ``pictures``; None if they are not square.

    Raises ``UserError`` if the network cannot read images of that size.
    """
    _, pixels = next(read_pixels(pictures, [torch.tensor([0])], extractor.device))
    pixels = augmentation.testing(pixels)
    height, width = pixels.shape[2:]
    readable = reading((height, width), "--size {side}", extractor.arch)
    with readable, frozen(extractor), torch.no_grad():
        extractor(to_images(pixels))
    return height if height == width else None


def with_seen_classes(
    pictures: ImageSet, extractor: Extractor, augmentation: Augmentation = UNCHANGED
) -> ImageSet:
    """Return the ``pictures`` with the classes that ``extractor`` sees in them, in place of their own."""
    batches = _batches(extractor, pictures, 64, augmentation)
    with frozen(extractor), torch.no_grad():
        seen = _of_all(lambda images, _: extractor(images).logits.argmax(dim=1), batches)
    return replace(pictures, classes=seen.cpu().numpy(), labels=extractor.labels)


def fill_class_means(
    extractor: Extractor, pictures: ImageSet, augmentation: Augmentation = UNCHANGED
) -> None:
    """Make ``extractor``, an embedder, classify by the nearest class mean of the ``pictures``."""
    embeddings = embed(extractor, pictures, augmentation=augmentation)
    means = class_means(embeddings, torch.from_numpy(pictures.classes), extractor.n_classes)
    set_class_means(extractor, means.to(extractor.device))


def _of_all(
    work: Callable[[Tensor, Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]
) -> Tensor:
    """Return the results of ``work`` on images and classes, in one tensor; batches are made to fit."""
    fitting = FittingBatches()
    results = []
    for images, classes in batches:
        of_rows = partial(_work_on_rows, work, images, classes)
        results += fitting.run(of_rows, len(images))
    return torch.cat(results)


def _work_on_rows(
    work: Callable[[Tensor, Tensor], Tensor], images: Tensor, classes: Tensor, rows: slice
) -> Tensor:
    return work(images[rows], classes[rows])


def _batches(
    extractor: Extractor, pictures: ImageSet, batch_size: int, augmentation: Augmentation
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (images in [0, 1], class numbers) on the extractor's device."""
    classes = torch.from_numpy(pictures.classes)
    batches = torch.arange(len(pictures)).split(batch_size)
    for rows, pixels in read_pixels(pictures, batches, extractor.device):
        yield to_images(augmentation.testing(pixels)), classes[rows].to(extractor.device)
