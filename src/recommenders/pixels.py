"""Grey levels of an experiment's images, for recommenders that read images through their own network."""

from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.datasets.catalogue import open_catalogue, open_whole_catalogue
from src.datasets.image_set import ImageSet
from src.extractors.recorded import RecordedExtractor


def pixel_files(layout: Layout, experiment: Experiment) -> tuple[Path, ...]:
    """Return the files and folders that ``read_pixels`` depends on."""
    files = (layout.images, layout.classes(experiment.clean))
    return (*files, layout.attacked_images(experiment)) if experiment.attack else files


def read_pixels(layout: Layout, experiment: Experiment) -> np.ndarray:
    """Read all images of an experiment at the size of stage 1: (items, side * side * 3) uint8.

    Rows are images in the order height, width, channel. Items that are not attacked have their clean
    images. Raises ``UserError`` if stage 1 has not been run, and unless all images are square and of one
    size.
    """
    classes = layout.classes(experiment.clean)
    if not classes.is_file():
        raise UserError(f"missing file: {classes}; run classify_extract.py first")
    catalogue = open_whole_catalogue(layout.images, RecordedExtractor.read(classes).resize)
    pixels = _square(catalogue, layout.images)
    if experiment.attack:
        folder = layout.attacked_images(experiment)
        attacked = open_catalogue(folder, resize=0)
        changed = _square(attacked, folder)
        if changed.shape[1:] != pixels.shape[1:]:
            raise UserError(
                f"{folder} has images of side {changed.shape[1]}, the clean ones have side "
                f"{pixels.shape[1]}: run classify_extract_attack.py again"
            )
        pixels[attacked.ids] = changed
    return pixels.reshape(len(pixels), -1)


def _square(images: ImageSet, folder: Path) -> np.ndarray:
    """Return all images (n, side, side, 3) uint8; ``UserError`` unless they have one square size."""
    sizes = images.store.sizes
    if not images.side and ((sizes != sizes[0]).any() or sizes[0, 0] != sizes[0, 1]):
        raise UserError(
            f"{folder} has images of several sizes: a recommender that reads pixels needs squares of "
            "one size; run classify_extract.py with --resize"
        )
    return images.pixels()
