"""Options of the analysis of attention, beside those of the attack and the network."""

import argparse
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.experiments import LINEAR
from src.cli import pixel_levels

LARGEST = 8.0
"""Grey levels up to which smallest budgets are looked for, where nothing else is said."""
RECORDED = ("layer", "share", "minimal_eps", "user", "lime", "seed", "drawn")
"""Options that determine the result, beside the files that it comes from."""


def add_attention_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("attention")
    group.add_argument(
        "--layer",
        help="layer whose maps are read (default: the last one whose spatial means are the features)",
    )
    group.add_argument(
        "--share",
        type=float,
        default=0.125,
        help="share of a map's cells, the largest ones, that count as attended and are erased",
    )
    group.add_argument(
        "--boxes",
        type=Path,
        help="CSV of boxes around the objects: item,x0,y0,x1,y1 in pixels of the original images",
    )
    group.add_argument(
        "--minimal_eps",
        type=pixel_levels,
        nargs="?",
        const=LARGEST,
        metavar="LARGEST",
        help="find each image's smallest L-inf budget by bisection, up to this many grey levels "
        f"(without a number: {LARGEST:g})",
    )
    group.add_argument(
        "--lime",
        type=int,
        default=0,
        metavar="N",
        help="number of random images that LIME explains too (optional library; 2000 passes per image)",
    )
    group.add_argument(
        "--drawn",
        type=int,
        nargs="+",
        help="images to draw (default: 3 successes whose attention moved most, 3 failures whose "
        "attention moved least)",
    )


def check_attention_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for numbers out of range and for a head without weights."""
    if options.head != LINEAR:
        raise UserError(
            f"attention is read from the weights of a linear head, not --head {options.head}"
        )
    if not 0 < options.share < 1:
        raise UserError(f"--share must be above 0 and below 1, not {options.share}")
    if options.minimal_eps is not None and not 0 < options.minimal_eps <= 255:
        raise UserError(
            f"--minimal_eps must be above 0 and at most 255 grey levels, not {options.minimal_eps}"
        )
    if options.lime < 0:
        raise UserError(f"--lime must not be negative, but is {options.lime}")
