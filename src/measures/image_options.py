"""Options of ``audits.images score``; no framework is loaded."""

import argparse
from pathlib import Path

from src.artifacts.errors import UserError
from src.attacks.settings import add_attack_options
from src.cli import (
    add_common_options,
    add_extractor_options,
    add_fidelity_option,
    require_not_negative,
)
from src.defences.options import add_preprocess_option
from src.leaks.semsim_command import add_scoring_option
from src.metrics.image_quality import IMAGE_METRICS


def add_images_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    what = parser.add_argument_group("which images (default: one attacked experiment, see below)")
    what.add_argument("--all", action="store_true", help="all attacked experiments of the data set")
    what.add_argument(
        "--experiment_name",
        "--conditions",
        nargs="+",
        default=[],
        metavar="NAME",
        help="full names of experiments",
    )
    what.add_argument(
        "--attacked",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="instead of a data set: folders of attacked or reconstructed images",
    )
    what.add_argument(
        "--originals",
        type=Path,
        metavar="DIR",
        help="originals of --attacked, with equal names (default: the folders *_ori and "
        "*_untransformed beside folders of reconstructions)",
    )
    what.add_argument(
        "--out",
        type=Path,
        help="table of --attacked (default: image_quality.tsv beside the first folder); the "
        "means of each folder go to <name>_conditions.tsv",
    )
    how = parser.add_argument_group("metrics")
    how.add_argument(
        "--metrics",
        nargs="+",
        choices=(*IMAGE_METRICS, "features", "lpips", "semsim"),
        help="metrics (default: mse psnr ssim linf l2, features if there is an extractor, and those of "
        "the next options)",
    )
    how.add_argument(
        "--lpips_weights", type=Path, metavar="FILE", help="ImageNet weights of the trunk of LPIPS"
    )
    how.add_argument(
        "--lpips_net", choices=("squeeze", "alex", "vgg"), default="squeeze", help="trunk of LPIPS"
    )
    how.add_argument(
        "--lpips_size",
        type=int,
        default=0,
        help="side to which LPIPS resizes images; 0 keeps their size",
    )
    how.add_argument("--semsim", type=Path, metavar="FILE", help="a SemSim, as train writes it")
    add_scoring_option(how)
    add_attack_options(parser, attack="fgsm", eps=4.0)
    add_extractor_options(parser)
    add_preprocess_option(parser)
    add_fidelity_option(parser)


def check_images_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options that exclude each other."""
    if options.attacked and (options.all or options.experiment_name):
        raise UserError("--attacked is for folders, --all and --experiment_name are for a data set")
    if not options.attacked and (options.originals or options.out):
        raise UserError("--originals and --out are for --attacked folders")
    if options.all and options.experiment_name:
        raise UserError("--all and --experiment_name: give one of them")
    require_not_negative(options, "lpips_size")
