"""Options of ``audits.robustness``."""

import argparse
from pathlib import Path

from src.artifacts.errors import UserError
from src.attacks.robustness.trials import CHOICES, USUAL, Trial, masking_suite, suite
from src.cli import (
    Parser,
    add_checkpoint_options,
    add_common_options,
    add_model_options,
    add_seed_option,
    pixel_levels,
    require_counts,
    require_not_negative,
)
from src.defences.options import add_preprocess_option

_LARGEST_EPS = 255


def add_robustness_options(parser: Parser) -> None:
    """Add all options of the script."""
    add_common_options(parser, dataset="cifar10")
    source = parser.add_argument_group("the images")
    source.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a labelled set; --dataset names its layout: cifar10, cifar100, fashion, mnist (folders "
        "as published, or an .npz), cub, cars, sop, folder, catalogue",
    )
    source.add_argument(
        "--part",
        choices=("test", "all"),
        default="test",
        help="all: also the training images, into which an .npz with x and y is split",
    )
    source.add_argument(
        "--max_images", type=int, help="number of random images, equal for every seed"
    )

    add_model_options(parser)
    add_preprocess_option(parser)
    add_checkpoint_options(parser, "classifier")

    attacks = parser.add_argument_group("the attacks")
    attacks.add_argument(
        "--attack",
        "--attacks",
        nargs="+",
        choices=CHOICES,
        metavar="NAME",
        default=list(USUAL),
        help="; ".join(f"{name}: {what}" for name, what in CHOICES.items())
        + f" (default: {' '.join(USUAL)})",
    )
    attacks.add_argument(
        "--eps", type=pixel_levels, default=8.0, help="L-inf budget in grey levels, or 8/255"
    )
    attacks.add_argument(
        "--autoattack",
        choices=("standard", "fast"),
        default="standard",
        help="fast: APGD-CE of 50 steps, APGD-T with 3 targets of 50 steps, Square with 500 queries; "
        "the accuracy that it leaves is an upper bound of what standard leaves",
    )
    attacks.add_argument(
        "--restarts", type=int, default=1, help="random starts of r_stepll, pgd20, pgd100 and cw"
    )
    add_seed_option(attacks)

    parser.add_argument(
        "--masking",
        action="store_true",
        help="also check whether gradients are masked: a second table, <out>_masking.tsv, and a line",
    )
    parser.add_argument(
        "--surrogate",
        type=Path,
        metavar="CHECKPOINT",
        help="with --masking: another network of the same classes, whose PGD-20 is transferred",
    )
    parser.add_argument(
        "--surrogate_arch", help="its architecture (default: the one recorded in the checkpoint)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="table to write, TSV (default: results/<dataset>/robust_accuracy.tsv)",
    )
    parser.add_argument(
        "--label", help="text in the column recipe (default: the name of the checkpoint)"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("TABLE", "NAME"),
        help="also put the rows into TABLE (TSV) as recipe NAME; rows of the same recipe, attack and "
        "seed are replaced",
    )


def check_robustness_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options that do not fit together."""
    require_counts(options, "max_images", "batch", "restarts")
    if not 0 < options.eps <= _LARGEST_EPS:
        raise UserError(f"--eps must be above 0 and at most {_LARGEST_EPS} grey levels")
    require_not_negative(options, "seed")
    if options.surrogate and not options.masking:
        raise UserError("--surrogate belongs to --masking")
    if options.surrogate_arch and not options.surrogate:
        raise UserError("--surrogate_arch belongs to --surrogate")


def trials_of(options: argparse.Namespace) -> tuple[Trial, ...]:
    """Return the trials of the first table."""
    return suite(tuple(options.attack), options.eps)


def masking_trials_of(options: argparse.Namespace) -> tuple[Trial, ...]:
    """Return the trials of the second table; none unless ``--masking`` is given."""
    if not options.masking:
        return ()
    return masking_suite(options.eps, with_surrogate=options.surrogate is not None)
