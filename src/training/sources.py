"""Sources of pictures of ``train_extractor.py``: a folder with a table, or a retrieval set."""

import argparse
import math

import numpy as np
import torch

from src.artifacts.errors import UserError
from src.datasets.image_set import ImageSet
from src.datasets.labelled_folder import open_labelled_folder
from src.datasets.retrieval import open_retrieval_set
from src.extractors.architectures import input_size
from src.training.options import Job

HELD_OUT = 0.2
"""Share of the pictures of a folder that is held out of training."""


def open_pictures(options: argparse.Namespace, job: Job) -> tuple[ImageSet, ImageSet]:
    """Open ``--images`` and ``--labels``, or ``--data``: pictures to train on, and held-out ones.

    There may be no held-out pictures. Training pictures are larger if random windows are cut from them.
    Raises ``UserError`` for neither or both sources.
    """
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


def choose_pictures(pictures: ImageSet, n: int, seed: int) -> ImageSet:
    """Choose ``n`` random pictures; their classes are those that have a picture among them."""
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    return pictures.take(order[:n].sort().values.numpy()).renumbered()


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
