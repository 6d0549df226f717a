"""Results of a training beside the checkpoint: a log of its epochs and its accuracies."""

from pathlib import Path

import pandas as pd
import torch

from src.artifacts.tables import write_tables
from src.attacks.registry import PGD
from src.datasets.image_set import ImageSet
from src.defences.unet import save_denoiser
from src.extractors.checkpoints import save_extractor
from src.extractors.extractor import Extractor
from src.training.accuracy import accuracy
from src.training.options import Job

ATTACKED_PICTURES = 1000
"""Attacking all held-out pictures of a published set takes longer than a short training."""


def log_file_of(checkpoint: Path) -> Path:
    """Return the path of the log: ``model_best_log.tsv`` beside ``model_best.pth.tar``."""
    return checkpoint.with_name(f"{checkpoint.name.partition('.')[0]}_log.tsv")


def write_log(path: Path, log: list[dict[str, float]]) -> None:
    """Write the rows that ``loop.train`` returns, one for each epoch."""
    write_tables({path: pd.DataFrame(log)})


def save_trained(path: Path, extractor: Extractor, job: Job) -> None:
    """Write the checkpoint of the network that was trained: the denoiser or the extractor behind it."""
    if job.denoises:
        save_denoiser(path, extractor.preprocess.denoiser, job.described())
    else:
        save_extractor(path, extractor)


def accuracies(extractor: Extractor, held_out: ImageSet, job: Job, seed: int) -> str:
    """Return a line with the clean and attacked accuracy on held-out pictures of the categories.

    At most ``ATTACKED_PICTURES`` of them, a random choice, are attacked.
    """
    augmentation, pgd = job.schedule.augmentation, PGD(job.eps, eps_iter=job.eps / 4)
    torch.manual_seed(seed)
    clean = accuracy(extractor, held_out, augmentation=augmentation)
    some = held_out.take(torch.randperm(len(held_out))[:ATTACKED_PICTURES].sort().values.numpy())
    attacked = accuracy(extractor, some, pgd, augmentation=augmentation)
    n = "" if len(some) == len(held_out) else f" ({len(some)} of them)"
    return (
        f"accuracy on held-out pictures: {clean:.1%} clean, "
        f"{attacked:.1%} under PGD-10 at {job.eps:g}/255{n}"
    )
