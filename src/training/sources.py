"""Sources of pictures of ``train_extractor.py``: a folder with a table, or a retrieval set."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from src.artifacts.errors import UserError
from src.datasets.class_folders import catalogue_files
from src.datasets.retrieval import open_retrieval_set
from src.extractors.architectures import input_size
from src.extractors.weights import IMAGENET
from src.training.options import Job
from src.training.pictures import ChosenPictures, PictureSet, SetPictures, read_pictures

HELD_OUT = 0.2
"""Share of the pictures of a folder that is held out of training."""


@dataclass(frozen=True)
class Source:
    """Files that determine the result, and the function that reads their pictures."""

    inputs: list[Path]
    read: Callable[[], tuple[PictureSet, PictureSet]]
    """Function that returns training and held-out pictures; the latter may be empty. Training pictures
    are larger if random windows are cut from them."""


def open_source(options: argparse.Namespace, job: Job) -> Source:
    """Open ``--images`` and ``--labels``, or ``--data``; ``UserError`` for neither or both.

    A file of pretrained weights is also an input.
    """
    source = _chosen_source(options, job)
    if job.pretrained in (None, IMAGENET):
        return source
    return replace(source, inputs=[*source.inputs, Path(job.pretrained)])


def _chosen_source(options: argparse.Namespace, job: Job) -> Source:
    folder = (options.images, options.labels)
    if options.data is None and None not in folder:
        return _of_folder(*folder, _size(options.size, job), job)
    if options.data is not None and folder == (None, None):
        if job.dataset is None:
            raise UserError("--data needs --dataset, the layout of the set")
        return _of_set(options.data, job.dataset, options.size or None, options.part)
    raise UserError("say what to train on: --images and --labels, or --data and --dataset")


def _size(size: int, job: Job) -> int:
    """Return the side in pixels to which pictures of a folder are resized; 0 keeps their size.

    Pictures from which windows are cut are larger by 8/7, 256 for 224, as published.
    """
    if job.schedule.augmentation.kind == "crop":
        return math.ceil(job.schedule.augmentation.side * 8 / 7)
    return size or (input_size(job.arch) if job.is_embedder else 0)


def _of_folder(images: Path, labels: Path, size: int, job: Job) -> Source:
    def read() -> tuple[PictureSet, PictureSet]:
        return read_pictures(images, labels, size).split(HELD_OUT, job.schedule.seed)

    return Source([images, labels], read)


def _of_set(data: Path, dataset: str, size: int | None, part: str) -> Source:
    def read() -> tuple[PictureSet, PictureSet]:
        parts = open_retrieval_set(dataset, data, size=size)
        if part == "all":
            together = SetPictures(parts.all())
            return together, ChosenPictures(together, 0, seed=0)
        return SetPictures(parts.train), SetPictures(parts.test)

    # Later stages write to a catalogue's folder, so that only the files that are read are inputs.
    return Source(catalogue_files(data) if dataset == "catalogue" else [data], read)
