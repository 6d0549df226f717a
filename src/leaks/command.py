"""Options of ``audits.leaks`` and the objects they name; reading them loads no framework."""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.manifest import read_record
from src.artifacts.reconstructions import read_images
from src.cli import (
    Parser,
    add_force_option,
    add_gpu_option,
    add_seed_option,
    require_counts,
    require_not_negative,
)
from src.datasets.image_set import ImageArray, ImageSet
from src.datasets.retrieval import open_retrieval_set

if TYPE_CHECKING:
    from src.leaks.presets import Preset

RECONSTRUCTIONS = "reconstructions"
"""Layout of a folder of images ``{id}_{label}_*.png``, whose names hold their ids."""
NO_DEFENCE = "none"
UNRECORDED = "unrecorded"
"""Number of epochs of a checkpoint without a record of them."""
OVERRIDES = ("iterations", "restarts", "tv", "lr", "init", "cost", "indices", "weights")
"""Options that replace the preset's field of the same name."""


def add_inversion_options(parser: Parser) -> None:
    """Add all options of the script."""
    _add_network_options(parser.add_argument_group("the network whose gradients are shared"))
    _add_image_options(parser.add_argument_group("the images"))
    _add_observation_options(parser.add_argument_group("the shared observation"))
    _add_attack_options(parser.add_argument_group("the attack"))
    parser.add_argument(
        "--out", type=Path, help="parent of the output folders (default: reconstructions/<dataset>)"
    )
    parser.add_argument(
        "--no_grid",
        action="store_true",
        help="do not draw grid.png of all conditions, for several scripts that run at once",
    )
    add_gpu_option(parser)
    add_force_option(parser)


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", type=Path, help="a trained classifier")
    group.add_argument(
        "--arch",
        help="lenet_zhu, cifar_resnet20, ... (default: the one recorded in the checkpoint)",
    )
    group.add_argument(
        "--random_weights", action="store_true", help="an untrained --arch; --epochs 0 is the same"
    )
    group.add_argument(
        "--epochs",
        type=int,
        help="training epochs in the name of the folders (default: as recorded in the checkpoint)",
    )


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", type=Path, required=True, help="a labelled set")
    group.add_argument(
        "--dataset",
        default="cifar10",
        help="its layout: cifar10, cifar100, folder, catalogue, ..., or reconstructions, a folder of "
        "{id}_{label}_*.png",
    )
    group.add_argument(
        "--part",
        choices=("test", "train", "all"),
        default="test",
        help="part of the set to attack; ids are positions in it",
    )
    group.add_argument(
        "--max_images",
        "--n_images",
        type=int,
        help="number of images, evenly spread (default: all)",
    )
    group.add_argument(
        "--size",
        type=int,
        help="side in pixels of images in files; 0 keeps native sizes (default: the size that the "
        "checkpoint was trained on, if it is recorded; else the native size if all images share one, "
        "else 224)",
    )
    group.add_argument(
        "--augmentation",
        help="transformation of an image before its gradient is shared, as in training: none, crop, "
        "ats:3-1-7+43-18-18, ... (default: as recorded in the checkpoint, else none)",
    )


def _add_observation_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--observation",
        choices=("gradients", "local_steps", "features", "bpr"),
        default="gradients",
        help="gradients of the cross-entropy; the update of --local_steps steps of SGD; features; bpr: "
        "gradients of the ranking loss of a pair of images, for a random user",
    )
    group.add_argument(
        "--local_steps", type=int, default=2, help="steps of SGD of the observation local_steps"
    )
    group.add_argument("--local_lr", type=float, default=1e-4, help="learning rate of these steps")
    group.add_argument(
        "--shared_batch",
        type=int,
        default=1,
        help="images whose mean gradient is shared; always 2 with bpr",
    )
    group.add_argument(
        "--gradient_defence",
        "--defence",
        nargs="+",
        default=[NO_DEFENCE],
        metavar="NAME",
        help="defences of the shared observation, each a separate condition: none, gaussian_1e-3, "
        "lap_1e-2, prune_70, clip_1.0, quantise_8, sign",
    )
    group.add_argument(
        "--labels",
        choices=("given", "analytic", "joint"),
        default="given",
        help="known, computed from the gradient of the last layer, or optimised with the image",
    )


def _add_attack_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--optim",
        default="inversed",
        metavar="PRESET",
        help="dlg, or a published preset: inversed, inversed-zero, inversed-sim-out, "
        "inversed-sgd-sim, inversed-LBFGS-sim, inversed-adam-L1, inversed-adam-L2, zhu, "
        "inversed_large, inversed_large_24000_3_lr1, inversed_large_12000_3_lr1, "
        "inversed_large_8000_3_lr1, inversed_cele",
    )
    replaced = "replaces the preset's"
    group.add_argument(
        "--steps",
        "--iterations",
        dest="iterations",
        type=int,
        help=f"{replaced} number of optimiser steps",
    )
    group.add_argument(
        "--restarts", type=int, help=f"{replaced} number of restarts, of which the best counts"
    )
    group.add_argument("--tv", type=float, help=f"{replaced} weight of the total variation")
    group.add_argument("--lr", type=float, help=f"{replaced} learning rate")
    group.add_argument("--init", help=f"{replaced} starting point: randn, rand or zeros")
    group.add_argument("--cost", help=f"{replaced} cost: sim, simlocal, out_sim, l1, l2 or max")
    group.add_argument(
        "--indices",
        help=f"{replaced} choice of tensors: def, batch, topk-1, top10, first4, ...",
    )
    group.add_argument("--weights", help=f"{replaced} weights of tensors: equal, linear or exp")
    group.add_argument(
        "--batch_targets",
        type=int,
        default=16,
        help="targets of a stack, which are attacked together; a kill loses at most one stack",
    )
    add_seed_option(group)


def check_inversion_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options that contradict each other, and set those that follow."""
    require_counts(options, "max_images", "batch_targets", "local_steps", "shared_batch")
    require_not_negative(options, "seed", "epochs", "size")
    if not (math.isfinite(options.local_lr) and options.local_lr > 0):
        raise UserError("--local_lr must be a positive number")
    options.random_weights |= options.epochs == 0 and options.checkpoint is None
    if options.random_weights == (options.checkpoint is not None):
        raise UserError("give either --checkpoint, or --arch and --random_weights")
    if options.random_weights and options.arch is None:
        raise UserError("--random_weights needs --arch, the network")
    if options.random_weights and options.epochs:
        raise UserError(f"--random_weights is untrained and excludes --epochs {options.epochs}")
    if options.labels != "given" and options.observation not in ("gradients", "local_steps"):
        raise UserError(
            f"--labels {options.labels} needs gradients or local_steps: "
            f"{options.observation} have no class labels"
        )
    if options.observation == "bpr":
        options.shared_batch = 2
    options.out = options.out or Path(RECONSTRUCTIONS) / options.dataset


def preset_of(options: argparse.Namespace) -> "Preset":
    """Return the preset of ``--optim`` with the fields that other options replace."""
    from src.leaks.presets import find_preset

    given = {name: getattr(options, name) for name in OVERRIDES}
    return replace(find_preset(options.optim), **{k: v for k, v in given.items() if v is not None})


def open_inverted_images(options: argparse.Namespace, trained_size: int | None = None) -> ImageSet:
    """Read the images that ``--data``, ``--dataset``, ``--part``, ``--size`` and ``--max_images`` name.

    Their ids are positions in the set, or ids from file names. ``trained_size`` is the side in pixels
    that the network was trained on, if it is known.
    """
    if options.dataset == RECONSTRUCTIONS:
        ids, classes, pixels = read_images(options.data)
        labels = [f"class {number}" for number in range(int(classes.max()) + 1)]
        images = ImageSet.of(ImageArray(pixels), classes, labels, ids=ids, inputs=[options.data])
        return images.take(_chosen(len(ids), options))
    opened = open_retrieval_set(
        options.dataset, options.data, size=options.size, trained_size=trained_size
    )
    images = opened.all() if options.part == "all" else getattr(opened, options.part)
    chosen = _chosen(len(images), options)
    images = replace(images.take(chosen), ids=chosen)
    pixels = images.pixels()
    # Networks and reconstructions have three channels, so the channel of grey images is repeated.
    return images.with_pixels(np.array(np.broadcast_to(pixels, (*pixels.shape[:3], 3))))


def _chosen(n: int, options: argparse.Namespace) -> np.ndarray:
    """Return evenly spread positions that fill whole mini-batches."""
    wanted = min(options.max_images or n, n)
    wanted -= wanted % options.shared_batch
    if wanted == 0:
        raise UserError(
            f"{n} images of {options.data} are too few for a batch of {options.shared_batch}"
        )
    return np.arange(wanted) * n // wanted


@dataclass(frozen=True)
class TrainingRecord:
    """Known facts about the training of a network, which its conditions have in their names."""

    epochs: int | str
    augmentation: str
    """Augmentation of the attacked images, as ``train_extractor.py`` and this script take it."""
    defence: str | None
    training: str | None = None
    """Augmentation of the training itself; None if it is unknown."""

    @classmethod
    def of(cls, options: argparse.Namespace) -> "TrainingRecord":
        """Read the record beside the checkpoint and apply the options."""
        record = read_record(options.checkpoint)["options"] if _is_recorded(options) else {}
        epochs = 0 if options.random_weights else record.get("epochs", UNRECORDED)
        training = _augmentation_text(record["augmentation"]) if "augmentation" in record else None
        recorded = cls(epochs, training or "none", record.get("gradient_defence"), training)
        return recorded.with_options(options)

    def with_options(self, options: argparse.Namespace) -> "TrainingRecord":
        """Return a copy with the values of ``--epochs`` and ``--augmentation``, if they are given."""
        return replace(
            self,
            epochs=self.epochs if options.epochs is None else options.epochs,
            augmentation=options.augmentation or self.augmentation,
        )

    @property
    def mode(self) -> tuple[str, str]:
        """Published mode and policy of the transformation of the attacked images.

        ``aug`` and an empty policy is none, ``crop``, ``aug`` and a policy such as ``3-1-7+43-18-18``;
        ``normal`` is none although training transformed images, with the policy of training.
        """
        if self.augmentation == "none" and self.training not in (None, "none"):
            return "normal", _mode_of(self.training)[1]
        return _mode_of(self.augmentation)


def _is_recorded(options: argparse.Namespace) -> bool:
    return options.checkpoint is not None and "options" in read_record(options.checkpoint)


def _augmentation_text(recorded: dict[str, Any]) -> str:
    """Return ``ats:3-1-7`` for ``{"kind": "padded_crop", "policy": {"chains": [[3, 1, 7]]}}``."""
    policy = recorded.get("policy")
    if policy:
        return "ats:" + "+".join("-".join(map(str, chain)) for chain in policy["chains"])
    kind = recorded.get("kind", "none")
    # Random crops of larger pictures in training become fixed central crops in the attack.
    return {"padded_crop": "crop", "crop": "none"}.get(kind, kind)


_MODES = {"none": ("aug", ""), "crop": ("crop", "")}
"""Published modes and policies of augmentations; ``aug`` without a policy means none."""


def _mode_of(augmentation: str) -> tuple[str, str]:
    kind, _, policy = augmentation.partition(":")
    return _MODES.get(kind, ("aug", policy or kind))


def condition_name(
    options: argparse.Namespace, arch: str, trained: TrainingRecord, defence: str | None
) -> str:
    """Return ``{arch}_{epochs}_{optim}_{mode}_auglist_{policy}_rlabel_{joint}[_defense_{defence}]``.

    That is the published name of a condition's folder. ``rlabel`` says that labels are reconstructed with
    the images, and ``defence`` changes the shared update. Settings beyond the published study are put
    before the defence where they are used: ``_labels_analytic`` for labels read from a gradient,
    ``_trained_{d}`` for noise or pruning in training only, ``_observed_{observation}`` for another shared
    update than gradients.
    """
    mode, policy = trained.mode
    joint = options.labels == "joint"
    name = f"{arch}_{trained.epochs}_{options.optim}_{mode}_auglist_{policy}_rlabel_{joint}"
    if options.labels == "analytic":
        name += "_labels_analytic"
    if trained.defence:
        name += f"_trained_{trained.defence}"
    if options.observation != "gradients":
        name += f"_observed_{options.observation}"
    return f"{name}_defense_{defence}" if defence else name
