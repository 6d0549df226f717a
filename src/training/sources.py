"""Sources of pictures of ``train_extractor.py``: a folder with a table, or a retrieval set."""

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageSet
from src.datasets.labelled_folder import open_labelled_folder
from src.datasets.retrieval import open_retrieval_set
from src.extractors.architectures import input_size
from src.recommenders.data import load_training_data
from src.recommenders.read_out import change_of_scores, load_recommender
from src.training.command import keeps_head
from src.training.options import Job
from src.training.original import Reading

HELD_OUT = 0.2
"""Share of the pictures of a folder that is held out of training."""


def open_pictures(
    options: argparse.Namespace, job: Job, trained_size: int | None = None
) -> tuple[ImageSet, ImageSet]:
    """Open ``--images`` and ``--labels``, or ``--data``: pictures to train on, and held-out ones.

    There may be no held-out pictures. Training pictures are larger if random windows are cut from them.
    Without labels all ``--images`` are trained on, read as stage 1 reads them for a network that was
    trained on the side ``trained_size``. Raises ``UserError`` for neither or both sources.
    """
    if keeps_head(options) and options.images and options.data is None:
        cropped = job.schedule.augmentation.kind == "crop"
        size = _size(options.size, job) if cropped else options.size
        pictures = open_catalogue(options.images, size or None, trained_size)
        return pictures, pictures.take(np.arange(0))
    folder = (options.images, options.labels)
    if options.data is None and None not in folder:
        pictures = open_labelled_folder(*folder, _size(options.size, job))
        return hold_out(pictures, HELD_OUT, job.schedule.seed)
    if options.data is not None and folder == (None, None):
        if job.dataset is None:
            raise UserError("--data needs --dataset, the layout of the set")
        opened = open_retrieval_set(job.dataset, options.data, size=options.size or None)
        if options.part == "all":
            together = opened.all()
            return together.renumbered(), together.take(np.arange(0)).renumbered()
        return opened.train.renumbered(), opened.test.renumbered()
    raise UserError("say what to train on: --images and --labels, or --data and --dataset")


def reading_of(options: argparse.Namespace, weights: Path, n_features: int) -> Reading:
    """Return how the recommender of a weight file sees differences of ``n_features`` features.

    Raises ``UserError`` for a recommender without slopes, and for another number of features.
    """
    layout = Layout(options.dataset, options.root)
    data = load_training_data(layout, Run.parse_weights_name(weights.stem).experiment)
    _, recommender = load_recommender(weights, data)
    slopes = recommender.slopes()
    if slopes is None:
        raise UserError(f"{weights}: its scores do not grow evenly with features of images")
    if slopes.shape[1] != n_features:
        raise UserError(
            f"{weights} reads {slopes.shape[1]} features, but the network has {n_features}"
        )
    return Reading(change_of_scores(slopes), recommender.unit)


def pictures_of(
    options: argparse.Namespace, training: ImageSet, held_out: ImageSet
) -> tuple[ImageSet, ImageSet]:
    """Return the pictures to train on, of which ``--max_images`` chooses some, and the held-out ones.

    Pictures of a folder are decoded once for all epochs; a published set may exceed the memory.
    """
    if options.max_images:
        training = choose_pictures(training, options.max_images, options.seed)
    if options.images:
        return training.in_memory(), held_out.in_memory()
    return training, held_out


def choose_pictures(pictures: ImageSet, n: int, seed: int) -> ImageSet:
    """Choose ``n`` random pictures; their classes are those that have a picture among them."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    chosen = pictures.take(order[:n].sort().values.numpy())
    return chosen.renumbered() if chosen.labels else chosen


def hold_out(pictures: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Hold out a random ``share`` of the pictures: (training, held-out) pictures."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed)).numpy()
    n_held_out = round(share * len(pictures))
    return pictures.take(order[n_held_out:]), pictures.take(order[:n_held_out])


def _size(size: int, job: Job) -> int:
    """Return the side in pixels to which pictures of a folder are resized; 0 keeps their size.

    Pictures from which windows are cut are larger by 8/7, 256 for 224, as published.
    """
    if job.schedule.augmentation.kind == "crop":
        return math.ceil(job.schedule.augmentation.side * 8 / 7)
    return size or (input_size(job.arch) if job.is_embedder else 0)
