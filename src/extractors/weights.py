"""Network and weight file that options name, checked before a framework is loaded."""

import argparse
from pathlib import Path
from typing import NamedTuple

from src.artifacts.errors import UserError
from src.artifacts.experiments import CLASS_MEANS, LINEAR, NO_HEAD, ZERO_SHOT
from src.artifacts.item_classes import ItemClasses, read_item_classes
from src.artifacts.layout import Layout
from src.cli import require_defense, require_precision
from src.extractors.recorded import recorded_arch
from src.extractors.zoo import OPEN_CLIP, check_classifier, check_name, is_open_clip

_DEFENDED_FILES = {"madry": "imagenet_linf_4.pt"}
_DEFENDED_FILE = "model_best.pth.tar"

IMAGENET = "imagenet"
"""Stands for the published ImageNet weights where a checkpoint is named to start from."""


class Network(NamedTuple):
    """First arguments of ``load_extractor``."""

    arch: str | None
    """Architecture; None is the one that the checkpoint records, else ResNet50."""
    weights: Path | None
    """Checkpoint; None is published weights."""


def network_of(options: argparse.Namespace, layout: Layout, classes: Path | None = None) -> Network:
    """Return the network that ``--arch`` and ``--checkpoint`` or the model options name.

    ``classes`` is the table that an earlier stage made with the same network, if there is one: without
    ``--arch`` the architecture is the one recorded beside it (``recorded_arch``).

    Raises ``UserError`` for a missing file, an unknown ``--arch``, an ``--arch`` without the head of
    classes or the text tower that ``--head`` needs, and a ``--precision`` that ``--gpu -1`` does not
    have.
    """
    require_precision(getattr(options, "precision", "fp32"), on_cpu=options.gpu < 0)
    weights = getattr(options, "checkpoint", None)
    if weights is None:
        require_defense(options)
        weights = weights_path(layout, options.defence, options.model_dir, options.model_file)
    arch = options.arch
    if arch is None and classes is not None:
        arch = recorded_arch(classes, weights)
    head = getattr(options, "head", LINEAR)
    if head == ZERO_SHOT and not is_open_clip(arch or ""):
        raise UserError(
            f"--head {head} compares images with texts, and only networks of open_clip read these: "
            f"--arch {OPEN_CLIP}NAME, or --head class_means"
        )
    check_network(arch, weights, published=head == LINEAR)
    return Network(arch, weights)


def item_classes_of(options: argparse.Namespace) -> ItemClasses | None:
    """Return the shop's own classes, from ``--classes``; None for a linear head, which has its own.

    Raises ``UserError`` if ``--head`` and ``--classes`` do not fit together, and if classes that texts
    should describe have numbers in place of names.
    """
    if options.head == LINEAR:
        if options.classes:
            raise UserError(f"--classes belongs to --head {NO_HEAD}, {CLASS_MEANS} and {ZERO_SHOT}")
        return None
    if options.classes is None:
        raise UserError(
            f"--head {options.head} takes its classes from the shop: add --classes FILE, a CSV of item "
            "and category"
        )
    item_classes = read_item_classes(options.classes)
    if options.head == ZERO_SHOT and all(map(str.isdecimal, item_classes.labels)):
        raise UserError(
            f"--head {ZERO_SHOT} reads the names of classes, and {options.classes} numbers them: add a "
            "column label"
        )
    return item_classes


def check_network(arch: str | None, checkpoint: Path | None, *, published: bool = True) -> None:
    """Raise ``UserError`` for a missing file, and for a network that is unknown or cannot classify.

    Without a checkpoint, ``published`` weights must classify. A checkpoint or a training may add a head
    of classes to a backbone that was published without one.
    """
    if checkpoint is not None and not checkpoint.is_file():
        raise UserError(f"missing file: {checkpoint}")
    if arch is not None:
        (check_classifier if published and checkpoint is None else check_name)(arch)


def weights_path(
    layout: Layout, defense: int, model_dir: str, model_file: str | None
) -> Path | None:
    """Return the checkpoint that the options name; None is torchvision's ImageNet weights.

    With ``defense`` it is a file of ``models/<model_dir>/``, otherwise ``model_file`` is the path.
    Raises ``UserError`` if the file is missing.
    """
    if defense:
        name = model_file or _DEFENDED_FILES.get(model_dir, _DEFENDED_FILE)
        path = layout.model_file(model_dir, name)
    elif model_file:
        path = Path(model_file)
    else:
        return None
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: put it there, or name another with --model_file")
    return path
