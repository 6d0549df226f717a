"""Networks by name: torchvision's and timm's classifiers, our small ones, and embedders of any.

``resnet50`` is a classifier, ``resnet50+512`` an embedder: the same backbone with 512 outputs, brought
to the unit sphere, and a nearest-class-mean head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from src.artifacts.errors import UserError
from src.extractors.embedders import Embedder
from src.extractors.extractor import IMAGENET_MEAN, IMAGENET_STD, Extractor, find_head
from src.extractors.networks import (
    C2F2,
    CifarNet,
    CifarResNet,
    CifarResNet2b,
    ConvNet,
    LeNet,
    LeNetZhu,
)
from src.extractors.timm_models import TimmModel, is_timm

DEFAULT_ARCH = "resnet50"

_INCEPTIONS = ("googlenet", "inception_v3")
"""Their ImageNet weights read (x - .5) / .5, which torchvision arranges inside the network; here the
extractor's own mean and std do it."""


@dataclass(frozen=True)
class SmallNetwork:
    """A network of ours and what it reads."""

    build: Callable[[int], nn.Module]
    """Makes one with so many outputs."""
    size: int
    """Side of its images in pixels."""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


_CIFAR100 = ((0.50716, 0.48669, 0.44120), (0.26733, 0.25644, 0.27615))
"""Mean and std of its training images; those of CIFAR-10 differ by 0.03 at most."""

SMALL_NETWORKS = {
    "c2f2": SmallNetwork(C2F2, 28),
    "lenet": SmallNetwork(LeNet, 28),
    "cifarnet": SmallNetwork(CifarNet, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar_resnet8": SmallNetwork(partial(CifarResNet, blocks=1), 32, IMAGENET_MEAN, IMAGENET_STD),
    "cifar_resnet20": SmallNetwork(CifarResNet, 32, IMAGENET_MEAN, IMAGENET_STD),
    "cifar_resnet2b": SmallNetwork(
        CifarResNet2b, 32, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    ),
    "cifar_resnet20x4": SmallNetwork(
        partial(CifarResNet, width=64, projection=True), 32, *_CIFAR100
    ),
    "cifar_resnet20x10": SmallNetwork(
        partial(CifarResNet, width=160, projection=True), 32, *_CIFAR100
    ),
    "cifar_resnet18": SmallNetwork(
        partial(CifarResNet, blocks=2, width=64, stages=4, projection=True), 32, *_CIFAR100
    ),
    "convnet8": SmallNetwork(partial(ConvNet, width=8), 32, *_CIFAR100),
    "convnet16": SmallNetwork(partial(ConvNet, width=16), 32, *_CIFAR100),
    "convnet32": SmallNetwork(partial(ConvNet, width=32), 32, *_CIFAR100),
    "convnet64": SmallNetwork(partial(ConvNet, width=64), 32, *_CIFAR100),
    "lenet_zhu": SmallNetwork(LeNetZhu, 32, *_CIFAR100),
}


def check_arch(arch: str) -> str:
    """Return ``arch`` if there is such a network; ``UserError`` otherwise."""
    backbone, _ = split_arch(arch)
    if is_timm(backbone):
        TimmModel.of(backbone)
        return arch
    if backbone not in SMALL_NETWORKS and backbone not in models.list_models(module=models):
        raise UserError(
            f"torchvision has no classifier {backbone!r} (--arch resnet50, mobilenet_v2, ...), and it "
            f"is none of {', '.join(SMALL_NETWORKS)}, nor one of timm (timm:<name>)"
        )
    return arch


def split_arch(arch: str) -> tuple[str, int | None]:
    """``resnet18+512`` -> (``resnet18``, 512); the dimension of what is no embedder is None."""
    backbone, plus, dim = arch.partition("+")
    if not plus:
        return backbone, None
    if not dim.isdecimal() or int(dim) < 1:
        raise UserError(f"{arch!r} is no embedder: write <backbone>+<dimension>, like resnet18+512")
    return backbone, int(dim)


def build_network(arch: str, n_classes: int) -> nn.Module:
    """A randomly initialised network with ``n_classes`` outputs, without auxiliary heads."""
    backbone, dim = split_arch(check_arch(arch))
    if dim is None:
        return _build_backbone(backbone, n_classes)
    return Embedder(_embedding_backbone(backbone, dim), dim, n_classes)


def build_extractor(arch: str, labels: Sequence[str]) -> Extractor:
    """A randomly initialised extractor of the classes ``labels``, with its usual normalisation."""
    mean, std = normalisation(arch)
    return Extractor(build_network(arch, len(labels)), labels, arch=arch, mean=mean, std=std)


def _build_backbone(arch: str, n_outputs: int) -> nn.Module:
    if arch in SMALL_NETWORKS:
        return SMALL_NETWORKS[arch].build(n_outputs)
    if is_timm(arch):
        return TimmModel.of(arch).build(n_outputs)
    inception = {"aux_logits": False, "transform_input": False, "init_weights": False}
    options = inception if arch in _INCEPTIONS else {}
    return models.get_model(arch, weights=None, num_classes=n_outputs, **options)


def _embedding_backbone(arch: str, dim: int) -> nn.Module:
    """A classifier whose last layer has ``dim`` outputs, and nothing random or one-sided around it."""
    network = _build_backbone(arch, dim)
    # Some classifiers start with a last layer of zeros, and zeros have no direction.
    network.get_submodule(find_head(network, dim)).reset_parameters()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # as published: distances of half-erased embeddings mean little
    if arch.startswith("squeezenet"):
        # It clips what its last layer says at 0, which would leave one orthant of the sphere.
        network.classifier[2] = nn.Identity()
    return network


def last_layers(network: nn.Module, n_classes: int) -> tuple[str, ...]:
    """Names of the layers that belong to a task: the head, and an embedder's embedding layer."""
    head = find_head(network, n_classes)
    if not isinstance(network, Embedder):
        return (head,)
    return head, "backbone." + find_head(network.backbone, network.head.in_features)


def input_size(arch: str) -> int:
    """Side in pixels of the images that a network reads best: 28, 32, 224, or what timm records."""
    backbone, _ = split_arch(arch)
    if is_timm(backbone):
        return TimmModel.of(backbone).size
    return SMALL_NETWORKS[backbone].size if backbone in SMALL_NETWORKS else 224


def normalisation(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the three channels that the weights of ``arch`` expect."""
    backbone, _ = split_arch(arch)
    if backbone in SMALL_NETWORKS:
        return SMALL_NETWORKS[backbone].mean, SMALL_NETWORKS[backbone].std
    if is_timm(backbone):
        recorded = TimmModel.of(backbone)
        return recorded.mean, recorded.std
    if backbone in _INCEPTIONS:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    preset = _imagenet_weights(backbone).transforms()
    return tuple(getattr(preset, "mean", IMAGENET_MEAN)), tuple(
        getattr(preset, "std", IMAGENET_STD)
    )


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet classes in torchvision's order."""
    return tuple(_imagenet_weights(DEFAULT_ARCH).meta["categories"])


def imagenet_weights_file(arch: str, option: str = "--model_file") -> Path:
    """torchvision's ImageNet weights of ``arch`` in the torch hub cache, downloaded if need be.

    Those of timm are looked for in their hub's cache and never downloaded. Raises ``UserError`` with
    the file's name and place where there is no network, and where nobody has published such weights.
    ``option`` names a file instead.
    """
    if "+" in check_arch(arch) or arch in SMALL_NETWORKS:
        raise UserError(f"there are no ImageNet weights of {arch}: name a checkpoint with {option}")
    if is_timm(arch):
        return TimmModel.of(arch).cached_weights(option)
    weights = _imagenet_weights(arch)
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
                f"elsewhere and put it at {path}, or give its path with {option}"
            ) from error
    return path


def _imagenet_weights(arch: str) -> WeightsEnum:
    """The first published weights: ``IMAGENET1K_V1``, the papers', wherever torchvision has them."""
    return next(iter(models.get_model_weights(arch)))
