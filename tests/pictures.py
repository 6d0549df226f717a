"""Pictures on disk and a network that tells them apart, for tests of whole stages."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from src.artifacts.item_classes import write_item_categories
from src.datasets.image_set import ImageSet
from src.extractors.architectures import build_network
from src.extractors.checkpoints import save_extractor
from src.extractors.extractor import Extractor


def draw_pictures(folder: Path, n: int, *, cells: int = 6, side: int = 48) -> np.random.Generator:
    """Write n pictures 0.png, ... of random colours in ``cells`` x ``cells`` smoothed fields.

    Returns the generator that drew them, for what else a test draws.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for item in range(n):
        fields = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        fields.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{item}.png")
    return rng


def write_labelled(folder: Path, pictures: ImageSet, side: int) -> None:
    """Write ``images/`` and ``labels.csv`` of a set below ``folder``, the pictures at this side."""
    (folder / "images").mkdir()
    for item in range(len(pictures)):
        picture = Image.fromarray(pictures.image(item)).resize((side, side))
        picture.save(folder / "images" / f"{item}.png")
    write_item_categories(folder / "labels.csv", pictures.classes, pictures.labels)


def save_classifier(path: Path, seed: int = 0, n_classes: int = 4) -> None:
    """Save an untrained network that gives different pictures different ones of its classes."""
    torch.manual_seed(seed)
    network = build_network("squeezenet1_1", n_classes)
    network.classifier[1].weight.data *= 30
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [f"kind {number}" for number in range(n_classes)]
    save_extractor(path, Extractor(network, labels, "classifier.1", arch="squeezenet1_1"))
