"""Networks with which trainings start."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from src.datasets.image_set import ImageSet
from src.defences.unet import UNet
from src.extractors.architectures import build_extractor
from src.extractors.checkpoints import load_extractor, load_pretrained
from src.extractors.extractor import Extractor, Prediction
from src.extractors.weights import IMAGENET
from src.training.accuracy import readable_size
from src.training.options import Job

UNCLIPPED = 10.0
"""First bias of a head whose outputs are clipped at 0; first logits differ by much less."""


class CleanedImages(nn.Module):
    """Images of a denoiser, in [0, 1], as a network behind it reads them."""

    text = recorded = "denoiser"
    changes_images = True
    is_random = False

    def __init__(self, denoiser: UNet) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, images: Tensor) -> Tensor:
        return self.denoiser(images).clamp(0, 1)

    def predict(self, network: Callable[[Tensor], Prediction], images: Tensor) -> Prediction:
        return network(self(images))


def new_extractor(job: Job, labels: tuple[str, ...]) -> Extractor:
    """Build a network with a new head, whose other layers ``job.pretrained`` may give."""
    extractor = build_extractor(job.arch, labels)
    if job.pretrained:
        load_pretrained(extractor, job.pretrained)
    if job.arch.startswith("squeezenet") and not job.is_embedder:
        # It clips its logits at 0, where they have no gradient. A shift of all changes no probability.
        nn.init.constant_(extractor.network.get_submodule(extractor.head_name).bias, UNCLIPPED)
    return extractor


def started(
    options: argparse.Namespace,
    job: Job,
    trained: Extractor | None,
    pictures: ImageSet,
    device: torch.device,
) -> Extractor:
    """Return the network with which a training begins, on ``device``: ``trained``, or a new one.

    It records the side at which it reads ``pictures``; ``UserError`` if it cannot.
    """
    torch.manual_seed(options.seed)
    extractor = trained or new_extractor(job, pictures.labels)
    if job.denoises:
        extractor.preprocess = CleanedImages(UNet(options.width or 64))
    extractor.to(device)
    extractor.trained_size = readable_size(extractor, pictures, job.schedule.augmentation)
    return extractor


def trained_extractor(options: argparse.Namespace) -> Extractor:
    """Read the whole network of ``--pretrained``, with its head."""
    published = options.pretrained == IMAGENET
    return load_extractor(options.arch, None if published else Path(options.pretrained))
