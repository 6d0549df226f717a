"""torchvision's classifiers, built without weights, and what their ImageNet weights expect."""

from pathlib import Path

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from src.artifacts.errors import UserError
from src.extractors.extractor import IMAGENET_MEAN, IMAGENET_STD

DEFAULT_ARCH = "resnet50"

_INCEPTIONS = ("googlenet", "inception_v3")
"""Their ImageNet weights read (x - .5) / .5, which torchvision arranges inside the network; here the
extractor's own mean and std do it."""


def check_arch(arch: str) -> str:
    """Return ``arch`` if torchvision has such a classifier; ``UserError`` otherwise."""
    if arch not in models.list_models(module=models):
        raise UserError(
            f"torchvision has no classifier {arch!r} (--arch resnet50, mobilenet_v2, ...)"
        )
    return arch


def build_network(arch: str, n_classes: int) -> nn.Module:
    """A randomly initialised classifier of torchvision's, without auxiliary heads."""
    inception = {"aux_logits": False, "transform_input": False, "init_weights": False}
    options = inception if arch in _INCEPTIONS else {}
    return models.get_model(check_arch(arch), weights=None, num_classes=n_classes, **options)


def normalisation(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the three channels that the ImageNet weights of ``arch`` expect."""
    if arch in _INCEPTIONS:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    preset = _imagenet_weights(arch).transforms()
    return tuple(getattr(preset, "mean", IMAGENET_MEAN)), tuple(
        getattr(preset, "std", IMAGENET_STD)
    )


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet classes in torchvision's order."""
    return tuple(_imagenet_weights(DEFAULT_ARCH).meta["categories"])


def imagenet_weights_file(arch: str) -> Path:
    """torchvision's ImageNet weights of ``arch`` in the torch hub cache, downloaded if need be.

    Raises ``UserError`` with the file's name and place where there is no network.
    """
    weights = _imagenet_weights(check_arch(arch))
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not path.is_file():
        try:
            weights.get_state_dict(progress=True, check_hash=True)
        except (
            OSError,
            RuntimeError,
        ) as error:  # URLError is an OSError; a wrong hash RuntimeError
            raise UserError(
                f"cannot download the ImageNet weights of {arch} ({error}): get {weights.url} "
                f"elsewhere and put it at {path}, or give its path with --model_file"
            ) from error
    return path


def _imagenet_weights(arch: str) -> WeightsEnum:
    """The first published weights: ``IMAGENET1K_V1``, the papers', wherever torchvision has them."""
    return next(iter(models.get_model_weights(arch)))
