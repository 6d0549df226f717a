"""The options of ``invert_gradients.py``, and what they choose; no framework is loaded to read them."""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.manifest import read_record
from src.artifacts.reconstructions import condition_name, read_images
from src.cli import Parser

if TYPE_CHECKING:
    from src.attacks.inversion.presets import Preset

RECONSTRUCTIONS = "reconstructions"
"""Layout of a folder of images ``{id}_{label}_*.png``, whose names say their ids."""
NO_DEFENCE = "none"
UNRECORDED = "unrecorded"
"""Epochs of a checkpoint that does not tell."""
OVERRIDES = ("iterations", "restarts", "tv", "lr", "init", "cost", "indices", "weights")
"""Options that replace a field of the preset of the same name."""


def add_inversion_options(parser: Parser) -> None:
    """Everything that the script reads."""
    network = parser.add_argument_group("the network whose gradients are shared")
    network.add_argument("--checkpoint", type=Path, help="a classifier, trained")
    network.add_argument(
        "--arch",
        help="lenet_zhu, cifar_resnet20, ... (default: the one recorded in the checkpoint)",
    )
    network.add_argument(
        "--random_weights", action="store_true", help="an untrained --arch; --epochs 0 is the same"
    )
    network.add_argument(
        "--epochs",
        type=int,
        help="of the training, for the name of the folders (default: the recorded ones)",
    )

    images = parser.add_argument_group("the images")
    images.add_argument("--data", type=Path, required=True, help="a labelled set")
    images.add_argument(
        "--dataset",
        default="cifar10",
        help="its layout: cifar10, cifar100, folder, catalogue, ..., or reconstructions, a folder of "
        "{id}_{label}_*.png",
    )
    images.add_argument(
        "--part",
        choices=("test", "train", "all"),
        default="test",
        help="of the set; ids count in it",
    )
    images.add_argument(
        "--n_images", type=int, help="so many of them, evenly spread (default: all)"
    )
    images.add_argument(
        "--size",
        type=int,
        help="side in pixels of images in files; 0 keeps the native one (default: the one that the "
        "checkpoint was trained on, where it is recorded; else native where all images share one, else "
        "224)",
    )
    images.add_argument(
        "--augmentation",
        help="what happens to an image before its gradient is shared, as in training: none, crop, "
        "ats:3-1-7+43-18-18, ... (default: as recorded in the checkpoint, else none)",
    )

    shared = parser.add_argument_group("what is shared")
    shared.add_argument(
        "--observation",
        choices=("gradients", "local_steps", "features", "bpr"),
        default="gradients",
        help="gradients of the cross-entropy; the update of --local_steps steps of SGD; features; bpr: "
        "gradients of the ranking loss of a pair of images, for a random user",
    )
    shared.add_argument("--local_steps", type=int, default=2, help="of SGD, with that observation")
    shared.add_argument("--local_lr", type=float, default=1e-4, help="learning rate of these steps")
    shared.add_argument(
        "--shared_batch", type=int, default=1, help="images of one mean gradient; bpr: always 2"
    )
    shared.add_argument(
        "--defence",
        nargs="+",
        default=[NO_DEFENCE],
        metavar="NAME",
        help="what is done to it first, each a condition of its own: none, gaussian_1e-3, lap_1e-2, "
        "prune_70, clip_1.0, quantise_8, sign",
    )
    shared.add_argument(
        "--labels",
        choices=("given", "analytic", "joint"),
        default="given",
        help="known, read off the gradient of the last layer, or optimised with the image",
    )

    attack = parser.add_argument_group("the attack")
    attack.add_argument(
        "--optim",
        default="inversed",
        metavar="PRESET",
        help="dlg, or one of the published: inversed, inversed-zero, inversed-sim-out, "
        "inversed-sgd-sim, inversed-LBFGS-sim, inversed-adam-L1, inversed-adam-L2, zhu, "
        "inversed_large, inversed_large_24000_3_lr1, inversed_large_12000_3_lr1, "
        "inversed_large_8000_3_lr1, inversed_cele",
    )
    attack.add_argument("--iterations", type=int, help="of the preset: steps of the optimiser")
    attack.add_argument(
        "--restarts", type=int, help="of the preset: tries, the best of which counts"
    )
    attack.add_argument("--tv", type=float, help="of the preset: weight of the total variation")
    attack.add_argument("--lr", type=float, help="of the preset: learning rate")
    attack.add_argument("--init", help="of the preset: randn, rand or zeros")
    attack.add_argument("--cost", help="of the preset: sim, simlocal, out_sim, l1, l2 or max")
    attack.add_argument(
        "--indices",
        help="of the preset: tensors that count: def, batch, topk-1, top10, first4, ...",
    )
    attack.add_argument("--weights", help="of the preset: of the tensors: equal, linear or exp")
    attack.add_argument(
        "--batch_targets",
        type=int,
        default=16,
        help="attacked side by side; a kill costs one stack",
    )
    attack.add_argument("--seed", type=int, default=0, help="of every random choice")

    parser.add_argument(
        "--out", type=Path, help="folder of the folders (default: reconstructions/<dataset>)"
    )
    parser.add_argument(
        "--no_grid",
        action="store_true",
        help="leave grid.png of all conditions alone, where several of these scripts run at once",
    )
    parser.add_argument("--gpu", type=int, default=0, help="CUDA device; -1 is the CPU")
    parser.add_argument(
        "--force", action="store_true", help="attack again even where it is up to date"
    )


def check_inversion_options(options: argparse.Namespace) -> None:
    """``UserError`` for options that do not fit together; fills up those that follow from others."""
    for name in ("n_images", "batch_targets", "local_steps", "shared_batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1")
    for name in ("seed", "epochs", "size"):
        if (getattr(options, name) or 0) < 0:
            raise UserError(f"--{name} must not be negative")
    if not (math.isfinite(options.local_lr) and options.local_lr > 0):
        raise UserError("--local_lr must be a positive number")
    options.random_weights |= options.epochs == 0 and options.checkpoint is None
    if options.random_weights == (options.checkpoint is not None):
        raise UserError("name the network: either --checkpoint, or --arch and --random_weights")
    if options.random_weights and options.arch is None:
        raise UserError("--random_weights needs --arch: which network")
    if options.random_weights and options.epochs:
        raise UserError(f"--random_weights has no {options.epochs} epochs behind it")
    if options.labels != "given" and options.observation not in ("gradients", "local_steps"):
        raise UserError(f"--labels {options.labels}: {options.observation} have no classes to find")
    if options.observation == "bpr":
        options.shared_batch = 2
    options.out = options.out or Path(RECONSTRUCTIONS) / options.dataset


def preset_of(options: argparse.Namespace) -> "Preset":
    """The preset that ``--optim`` names, with what the other options change of it."""
    from src.attacks.inversion.presets import find_preset

    given = {name: getattr(options, name) for name in OVERRIDES}
    return replace(find_preset(options.optim), **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True)
class LabelledPixels:
    """Images to attack, in memory."""

    ids: np.ndarray
    """(n,) int64: positions in the set, or the ids that file names give."""
    labels: np.ndarray
    """(n,) int64."""
    pixels: np.ndarray
    """(n, side, side, 3) uint8."""
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def read_labelled_pixels(
    options: argparse.Namespace, trained_size: int | None = None
) -> LabelledPixels:
    """Read the images that ``--data``, ``--dataset``, ``--part``, ``--size`` and ``--n_images`` name.

    ``trained_size`` is the side in pixels that the network was trained on, where that is known.
    """
    from src.datasets.retrieval import open_retrieval_set

    if options.dataset == RECONSTRUCTIONS:
        ids, labels, pixels = read_images(options.data)
        chosen = _chosen(len(ids), options)
        class_names = tuple(f"class {number}" for number in range(int(labels.max()) + 1))
        return LabelledPixels(ids[chosen], labels[chosen], pixels[chosen], class_names)
    opened = open_retrieval_set(
        options.dataset, options.data, size=options.size, trained_size=trained_size
    )
    images = opened.all() if options.part == "all" else getattr(opened, options.part)
    chosen = _chosen(len(images), options)
    pixels = images.read(chosen)
    # Grey images have their one channel three times: reconstructions are looked at in colour.
    pixels = np.array(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))
    return LabelledPixels(chosen, images.labels[chosen], pixels, images.class_names)


def inputs_of(options: argparse.Namespace) -> list[Path]:
    """The files that determine what is attacked; later stages add others to a catalogue's folder."""
    from src.datasets.class_folders import catalogue_files

    catalogue = options.dataset == "catalogue"
    images = catalogue_files(options.data) if catalogue else [options.data]
    return [*images, *([options.checkpoint] if options.checkpoint else [])]


def _chosen(n: int, options: argparse.Namespace) -> np.ndarray:
    """Evenly spread positions, as many as fill whole mini-batches."""
    wanted = min(options.n_images or n, n)
    wanted -= wanted % options.shared_batch
    if wanted == 0:
        raise UserError(f"{n} images of {options.data} are too few for a batch of them")
    return np.arange(wanted) * n // wanted


@dataclass(frozen=True)
class TrainedAs:
    """What is known about how a network was trained; part of the names of its conditions."""

    epochs: int | str
    augmentation: str
    """Of what is attacked, as ``train_extractor.py`` and this script take it."""
    defence: str | None
    training: str | None = None
    """The augmentation of the training itself; None where nothing tells."""

    @classmethod
    def of(cls, options: argparse.Namespace) -> "TrainedAs":
        """From the record beside the checkpoint, as far as the options do not say otherwise."""
        record = read_record(options.checkpoint)["options"] if _is_recorded(options) else {}
        epochs = 0 if options.random_weights else record.get("epochs", UNRECORDED)
        training = _augmentation_text(record["augmentation"]) if "augmentation" in record else None
        recorded = cls(epochs, training or "none", record.get("gradient_defence"), training)
        return recorded.unless_said(options)

    def unless_said(self, options: argparse.Namespace) -> "TrainedAs":
        """The same, but for what ``--epochs`` and ``--augmentation`` say otherwise."""
        return replace(
            self,
            epochs=self.epochs if options.epochs is None else options.epochs,
            augmentation=options.augmentation or self.augmentation,
        )

    @property
    def mode(self) -> tuple[str, str]:
        """The published mode and policy of what is attacked; of ``normal`` that of the training."""
        if self.augmentation == "none" and self.training not in (None, "none"):
            return "normal", _mode_of(self.training)[1]
        return _mode_of(self.augmentation)


def _is_recorded(options: argparse.Namespace) -> bool:
    return options.checkpoint is not None and "options" in read_record(options.checkpoint)


def _augmentation_text(recorded: dict[str, Any]) -> str:
    """``{"kind": "padded_crop", "policy": {"chains": [[3, 1, 7]]}}`` -> ``ats:3-1-7``."""
    policy = recorded.get("policy")
    if policy:
        return "ats:" + "+".join("-".join(map(str, chain)) for chain in policy["chains"])
    kind = recorded.get("kind", "none")
    # What is cut out of larger pictures in training is cut out of their middle afterwards.
    return {"padded_crop": "crop", "crop": "none"}.get(kind, kind)


_MODES = {"none": ("aug", ""), "crop": ("crop", "")}
"""Published modes and policies of augmentations; ``aug`` without a policy is none at all."""


def _mode_of(augmentation: str) -> tuple[str, str]:
    kind, _, policy = augmentation.partition(":")
    return _MODES.get(kind, ("aug", policy or kind))


def condition_of(
    options: argparse.Namespace, arch: str, trained: TrainedAs, defence: str | None
) -> str:
    """Name of the folder of a condition."""
    mode, aug_list = trained.mode
    return condition_name(
        arch,
        trained.epochs,
        options.optim,
        mode=mode,
        aug_list=aug_list,
        rlabel=options.labels == "joint",
        analytic=options.labels == "analytic",
        trained_defence=trained.defence,
        observation=options.observation,
        defence=defence,
    )
