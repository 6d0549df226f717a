"""Construction of the networks of the table (``zoo``), and their published weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from src.artifacts.errors import UserError
from src.extractors import networks
from src.extractors.embedders import Embedder
from src.extractors.extractor import Extractor
from src.extractors.heads import NoHead
from src.extractors.open_clip_models import OpenClipModel
from src.extractors.own_networks import OwnNetwork
from src.extractors.timm_models import TimmModel
from src.extractors.zoo import (
    ARCHITECTURES,
    DEFAULT_ARCH,
    EMBEDDER_HEAD,
    Architecture,
    check_name,
    is_open_clip,
    is_own,
    is_timm,
    no_classes,
    split_arch,
)

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def check_arch(arch: str) -> str:
    """Return ``arch`` if it is a network with a head of classes; ``UserError`` otherwise."""
    backbone, _ = split_arch(check_name(arch))
    head_of(backbone)
    return arch


def build_network(arch: str, n_classes: int) -> nn.Module:
    """Build a randomly initialised network with ``n_classes`` outputs, without auxiliary heads."""
    backbone, dim = split_arch(check_arch(arch))
    if dim is None:
        return _build_backbone(backbone, n_classes)
    return Embedder(_embedding_backbone(backbone, dim), dim, n_classes)


def build_extractor(arch: str, labels: Sequence[str]) -> Extractor:
    """Build a randomly initialised extractor of the classes ``labels``, with its normalisation."""
    mean, std = normalisation(arch)
    network = build_network(arch, len(labels))
    return Extractor(network, labels, head_of(arch), arch=arch, mean=mean, std=std)


def build_headless(
    arch: str, cut: str | None, published: Mapping[str, Tensor] | None = None
) -> Extractor:
    """Build an extractor of features alone: the inputs of the layer ``cut``, which is left out.

    None cuts nothing, and the features are the output of the network. Parameters are drawn at random.
    Only encoders of timm take ``published`` weights, in any form that timm translates. Raises
    ``ValueError`` if these do not fit.
    """
    if is_timm(check_name(arch)) and cut is None:
        network = TimmModel.of(arch).build_encoder(published)
    else:
        network = build_network(arch, 1) if _has_head(arch) else _build_backbone(arch, 1)
    if cut is not None:
        network.set_submodule(cut, nn.Identity())
    mean, std = normalisation(arch)
    return Extractor(network, (), NoHead(), features=cut, arch=arch, mean=mean, std=std)


def _has_head(arch: str) -> bool:
    backbone, dim = split_arch(arch)
    if dim is not None or is_timm(backbone):
        return True
    return _row_of(backbone).head is not None


def _row_of(backbone: str) -> Architecture | TimmModel | OpenClipModel | OwnNetwork:
    """Return what the table, a library, or a user's file says about a network."""
    if is_own(backbone):
        return OwnNetwork.of(backbone)
    if is_open_clip(backbone):
        return OpenClipModel.of(backbone)
    return TimmModel.of(backbone) if is_timm(backbone) else ARCHITECTURES[backbone]


def _build_backbone(arch: str, n_outputs: int) -> nn.Module:
    """Build a network with ``n_outputs`` outputs, or the network of a row without a head."""
    row = _row_of(arch)
    if isinstance(row, OpenClipModel):
        return row.build_image_tower()
    if not isinstance(row, Architecture):
        return row.build(n_outputs)
    if hasattr(networks, row.builder):
        outputs = (n_outputs,) if row.head else ()
        return getattr(networks, row.builder)(*outputs, **row.options)
    # It loads torch's compiler, for which other networks need not wait.
    from torchvision import models

    counts = {"num_classes": n_outputs} if row.head else {}
    return models.get_model(row.builder, weights=None, **counts, **row.options)


def _embedding_backbone(arch: str, dim: int) -> nn.Module:
    """Build a classifier whose last layer has ``dim`` outputs, without dropout or clipping around it."""
    network = _build_backbone(arch, dim)
    # Some classifiers start with a last layer of zeros, and zeros have no direction.
    network.get_submodule(head_of(arch)).reset_parameters()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # distances of half-erased embeddings mean little
    if arch.startswith("squeezenet"):
        # It clips its last layer's output at 0, which would leave one orthant of the sphere.
        network.classifier[2] = nn.Identity()
    return network


def head_of(arch: str) -> str:
    """Return the name of the layer that has an output for each class and reads the features.

    Raises ``UserError`` for a network without such a layer.
    """
    backbone, dim = split_arch(arch)
    if dim is not None:
        return EMBEDDER_HEAD
    row = _row_of(backbone)
    if not isinstance(row, Architecture):
        return row.require_head()
    if row.head is None:
        raise no_classes(arch)
    return row.head


def cut_of(arch: str) -> str | None:
    """Return the layer that is left out of published weights without their head; None cuts nothing."""
    backbone, dim = split_arch(arch)
    if dim is not None:
        return EMBEDDER_HEAD
    row = _row_of(backbone)
    if isinstance(row, TimmModel):
        return row.cut
    return row.head or row.cut if isinstance(row, Architecture) else row.head


def last_layers(arch: str) -> tuple[str, ...]:
    """Return the layers that belong to a task: the head, and an embedder's embedding layer."""
    backbone, dim = split_arch(arch)
    if dim is None:
        return (head_of(arch),)
    return head_of(arch), "backbone." + head_of(backbone)


def input_size(arch: str) -> int:
    """Return the side in pixels of the network's training images: 28, 32, 224, or another record."""
    return _row_of(split_arch(arch)[0]).size


def normalisation(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of the three channels that the weights of ``arch`` expect."""
    row = _row_of(split_arch(arch)[0])
    return row.mean, row.std


def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 ImageNet classes in torchvision's order."""
    return tuple(_imagenet_weights(DEFAULT_ARCH).meta["categories"])


def imagenet_weights_file(arch: str, option: str = "--model_file") -> Path:
    """Return the file of torchvision's ImageNet weights of ``arch``, downloaded if it is missing.

    It lies in the torch hub's cache. Weights of timm and open_clip are taken from the Hugging Face
    cache and never downloaded. Raises ``UserError`` with the file's name and place if there is no
    network connection, and if no such weights are published; the message names ``option``, which takes
    a file.
    """
    backbone, dim = split_arch(check_name(arch))
    row = None if dim or is_own(backbone) else _row_of(backbone)
    if isinstance(row, TimmModel | OpenClipModel):
        return row.cached_weights(option)
    if row is None or not row.weights:
        raise UserError(f"there are no ImageNet weights of {arch}: name a checkpoint with {option}")
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
                f"elsewhere and put it at {path}, or give its path with {option} (--weights of the "
                "scripts in reproduce/)"
            ) from error
    return path


def _imagenet_weights(arch: str) -> "WeightsEnum":
    """Return the first published weights, which are the papers': ``IMAGENET1K_V1`` if they exist."""
    from torchvision import models

    return next(iter(models.get_model_weights(arch)))
