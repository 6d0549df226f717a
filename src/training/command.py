"""Options of ``train_extractor.py``; reading them loads no framework."""

import argparse
import math
from dataclasses import dataclass, fields
from pathlib import Path

from src.artifacts.errors import UserError
from src.attacks.registry import ATTACKS, PRESETS
from src.cli import (
    add_force_option,
    add_gpu_option,
    add_picture_options,
    add_seed_option,
    pixel_levels,
)
from src.recommenders.read_out import add_score_options

WITHOUT_LABELS = ("fare", "fare_rec", "denoiser", "denoiser_adv")
"""Recipes that start from a trained network and need pictures alone."""

OF_RECIPE = "(default: the recipe's, as --dry_run prints it)"
"""End of the help of an option whose default each recipe has for itself."""

_POSITIVE = (
    *("epochs", "units", "batch", "lr", "eps", "step_size", "steps", "replays", "max_images"),
    "width",
)
_IN_GREY_LEVELS = ("eps", "step_size")
_FINITE = (*_POSITIVE, "margin", "ics", "barlow", "clean_weight")


def keeps_head(options: argparse.Namespace) -> bool:
    """Return whether the training continues the whole network of ``--pretrained``, with its head.

    Recipes without labels do, and so do the others where ``--images`` come without ``--labels``: then the
    class of each picture is the one that the network sees before training.
    """
    unlabelled = bool(options.images) and not (options.labels or options.data or options.C)
    return options.recipe in WITHOUT_LABELS or (unlabelled and options.pretrained is not None)


@dataclass(frozen=True)
class RecipeOptions:
    """Choices of a user about a recipe; None leaves the recipe's own."""

    recipe: str = "plain"
    loss: str | None = None
    metric: str | None = None
    margin: float | None = None
    source: str | None = None
    """Name of a miner."""
    dest: str | None = None
    objective: str | None = None
    anchor: str | None = None
    ics: float | None = None
    """Weight of the intraclass structure term."""
    barlow: float | None = None
    """Weight of the Barlow Twins term."""
    batch_norm: str | None = None
    steps: int | None = None
    """Number of steps of the inner descent."""
    clean_weight: float | None = None
    """Weight of the departure of benign features, which FARE adds to that of perturbed ones."""
    adversary: str | None = None
    """Name of the adversary that perturbs the images of a classifier."""
    arp: tuple[str, ...] = ()
    """KEY=VALUE of a recipe with attention."""


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of the script."""
    add_picture_options(parser)
    parser.add_argument("--data", type=Path, help="a retrieval set, in place of --images")
    parser.add_argument(
        "--dataset",
        help="its layout: fashion, cub, folder, catalogue, ...; fare_rec: the recommender's data set",
    )
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/")
    parser.add_argument(
        "--part", choices=("train", "all"), default="train", help="of --data: all holds nothing out"
    )
    parser.add_argument("--out", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--arch", help="c2f2, ..., FILE.py:FUNCTION; embedders: resnet18+512 (default: resnet18)"
    )
    parser.add_argument(
        "--pretrained",
        help="checkpoint to start from, or imagenet; with --images and without --labels its head is "
        "kept, and the classes are those that it sees",
    )
    _add_recipe_options(parser)
    add_score_options(parser)
    _add_schedule_options(parser)
    parser.add_argument(
        "--eps", type=pixel_levels, help=f"L-inf budget in grey levels, or 8/255 {OF_RECIPE}"
    )
    parser.add_argument(
        "--step_size",
        "--step",
        type=pixel_levels,
        help=f"length of an inner step, like --eps {OF_RECIPE}",
    )
    parser.add_argument(
        "--replays", type=int, help=f"of each mini-batch by free recipes {OF_RECIPE}"
    )
    parser.add_argument(
        "--width", type=int, help="channels of a denoiser (default: 64, as published)"
    )
    parser.add_argument(
        "--max_images",
        "--max_pictures",
        type=int,
        help="train on this many pictures, chosen at random",
    )
    parser.add_argument("--size", type=int, default=0, help="side in pixels; 0: native, or usual")
    add_seed_option(parser, "of weights and every random choice")
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        default="fp32",
        help="of training; tf32 is a GPU's alone",
    )
    add_gpu_option(parser)
    parser.add_argument("--dry_run", action="store_true", help="print the recipe and stop")
    add_force_option(parser)
    parser.set_defaults(fidelity="corrected")  # of the recommender


def check_training_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options that are out of range or contradict each other."""
    _check_numbers(options)
    recipe_options_of(options)
    _check_fine_tuning(options)


def _check_numbers(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for a number that is not finite, not positive, or beyond the grey levels."""
    if options.units is not None and options.epochs is not None:
        raise UserError("give one of --epochs and --units")
    for name in _FINITE:
        value = getattr(options, name)
        if value is None:
            continue
        if not math.isfinite(value):
            raise UserError(f"--{name} must be a finite number")
        if name in _POSITIVE and value <= 0:
            raise UserError(f"--{name} must be above 0")
        if name in _IN_GREY_LEVELS and value > 255:
            raise UserError(f"--{name} must be at most 255 grey levels")


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        help="classifiers: plain, madry, free, trades, pgd_at, stepll_at, preserve, rectify, arp, "
        "arp_strong; trained networks, which need no labels: fare, fare_rec, denoiser, denoiser_adv; "
        "embedders: none, est, rest, ses, act, tbc, acap, "
        "amd, ramd, amdsemi, amdsemi-aap, free-est, free-amd, free-amdsemi, hm, act-or-none, "
        "act-or-amdsemi, hm-mix (default: plain)",
    )
    parser.add_argument(
        "--loss", help="loss of an embedder: triplet, contrast, margin, ms, ... (default: triplet)"
    )
    parser.add_argument(
        "--metric",
        choices=("C", "E", "N"),
        help="1 - cosine, Euclid, on the sphere (default: N)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        help="margin of the loss, of all but npair, ice, angular and nca (default: the published one, "
        "0.2 for triplet with N)",
    )
    parser.add_argument(
        "--source",
        help="miner of triplets: random, semihard, softhard, distance, distance_switch, hardest "
        "(default: the recipe's, softhard for hm)",
    )
    parser.add_argument(
        "--dest",
        help="hm: hardness that triplets reach: a miner, a number, lga, g2, g1/2, boost:<one of these> "
        "(default: lga)",
    )
    parser.add_argument(
        "--objective",
        choices=("et", "l2", "kl"),
        help="hm: objective of the adversary (default: et)",
    )
    parser.add_argument(
        "--anchor",
        choices=("free", "fixed"),
        help="hm: fixed leaves the anchor unperturbed (default: free)",
    )
    parser.add_argument("--ics", type=float, help="weight of the intraclass structure term")
    parser.add_argument("--barlow", type=float, help="weight of the Barlow Twins term")
    parser.add_argument(
        "--batch_norm",
        choices=("frozen", "train"),
        help="keep the initial statistics of batch norm, or follow the batches",
    )
    parser.add_argument("--steps", type=int, help=f"steps of the inner descent {OF_RECIPE}")
    parser.add_argument(
        "--clean_weight",
        type=float,
        help="fare, fare_rec: weight of the change of clean features beside that of perturbed ones "
        "(default: 0.5)",
    )
    parser.add_argument(
        "--adversary",
        choices=tuple(dict.fromkeys((*ATTACKS, *PRESETS))),
        help="adversary of a classifier's images, in place of the recipe's own: an attack of stage 3 "
        "or of audits.robustness",
    )
    parser.add_argument(
        "--arp",
        nargs="+",
        default=(),
        metavar="KEY=VALUE",
        help="changes of preserve, rectify, arp, arp_strong: preset=paper, lambda_rect=.25, "
        "lambda_pres=.5, layer=layer3, map=cam|gradcam|energy, label=true|pred, "
        "norm=l2|minmax|sum|softmax_T, distance=l2|l1|cos|js, teacher=self|stopgrad|frozen, "
        "mask=hard_topq|hard_mean|soft, mask_q=.125, fill=mean|zero|blur, "
        "rect_branches=both|clean|adv, rect_every=1, rect_cap=2, bn_erased=separate|eval|shared, "
        "select_iou=.5, select_max_steps=4, warmup_frac=.2",
    )
    parser.add_argument(
        "-C",
        metavar="DATASET:MODEL:LOSS",
        help="name of a published experiment in place of the options above, --arch and --dataset; "
        "--steps and --batch_norm may be added",
    )


def _check_fine_tuning(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options of fine-tuning without its recipe, or the reverse."""
    recipe, scored = options.recipe, options.score_model or options.weights
    if recipe in WITHOUT_LABELS and options.pretrained is None:
        raise UserError(f"--recipe {recipe} continues a trained network: --pretrained FILE")
    if scored and recipe != "fare_rec":
        raise UserError("--score_model and --weights belong to --recipe fare_rec")
    if recipe == "fare_rec":
        if not scored:
            raise UserError("--recipe fare_rec needs a recommender: --score_model or --weights")
        if options.images is None or options.data or options.dataset is None:
            raise UserError(
                "--recipe fare_rec takes --images, and --dataset, the recommender's data set"
            )
    if options.width and recipe not in ("denoiser", "denoiser_adv"):
        raise UserError("--width belongs to --recipe denoiser and denoiser_adv")


def _add_schedule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--epochs",
        type=int,
        help=f"passes over the pictures, replays included {OF_RECIPE}",
    )
    parser.add_argument(
        "--units",
        type=float,
        help="forward-backward passes over the pictures, in place of --epochs",
    )
    parser.add_argument(
        "--batch", type=int, help=f"pictures in a step, or pairs of an embedder {OF_RECIPE}"
    )
    parser.add_argument("--lr", type=float, help=f"learning rate; of SGD the largest {OF_RECIPE}")
    parser.add_argument(
        "--schedule",
        choices=("conservative",),
        help="SGD at .1, a tenth of it after 3/8, 5/8 and 7/8 of the epochs (default: one cycle)",
    )
    parser.add_argument(
        "--augmentation",
        help="none, flip, shift, crop (behind a frame of 4 pixels, and flip), or crop and a policy "
        "that hides images from their gradients, ats:3-1-7+43-18-18 (default: shift, for embedders "
        "the published one)",
    )
    parser.add_argument(
        "--gradient_defence",
        help="what happens to each mini-batch's gradient: gaussian_1e-3, lap_1e-2, prune_70, "
        "clip_1.0, quantise_8 or sign",
    )


_BESIDE_A_NAME = ("steps", "batch_norm")


def recipe_options_of(options: argparse.Namespace) -> RecipeOptions:
    """Return the given options; with ``-C`` only those that are allowed beside a name."""
    names = [field.name for field in fields(RecipeOptions)]
    # An option of 0 is given; only None and empty values are not.
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value not in (None, ())}
    excluded = [name for name in given if name not in _BESIDE_A_NAME]
    if options.C and excluded:
        raise UserError(f"-C says what --{excluded[0]} says: give one of them")
    return RecipeOptions(**given)
