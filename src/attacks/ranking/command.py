"""Options of ``audits.rankings`` and the attacks that they name."""

import argparse
from dataclasses import replace
from pathlib import Path

from src.artifacts.errors import UserError
from src.attacks.profiles import COMPAT, PROFILES, AttackSpec, parse_attack
from src.cli import (
    Parser,
    add_checkpoint_options,
    add_common_options,
    add_model_options,
    add_picture_options,
    add_seed_option,
    pixel_levels,
    require_counts,
    require_not_negative,
)


def add_ranking_options(parser: Parser) -> None:
    """Add all options of the script."""
    add_common_options(parser)
    source = parser.add_argument_group("the images (default: half of the catalogue data/<dataset>)")
    source.add_argument(
        "--data",
        type=Path,
        help="a retrieval set, whose test part is attacked; --dataset names its layout: fashion, cub, "
        "cars, sop, folder, catalogue, ...",
    )
    add_picture_options(source)

    add_model_options(parser)
    add_checkpoint_options(parser, "embedder")

    attacks = parser.add_argument_group("the attacks")
    attacks.add_argument("--profile", choices=PROFILES, help="a published set (default: rob224)")
    attacks.add_argument(
        "--attack",
        nargs="+",
        metavar="SPEC",
        help="single attacks, instead of a profile or in addition, such as "
        "CA:pm=+:W=1:eps=8/255:alpha=3/255:pgditer=32",
    )
    attacks.add_argument("--eps", type=pixel_levels, help="budget of all attacks, in grey levels")
    attacks.add_argument(
        "--step_size",
        "--alpha",
        type=pixel_levels,
        help="length of a step of all attacks, in grey levels",
    )
    attacks.add_argument("--steps", "--pgditer", type=int, help="steps of all attacks; 1 is FGSM")
    attacks.add_argument(
        "--restarts",
        type=int,
        help="restarts of all attacks; all but the first start at random points",
    )
    attacks.add_argument(
        "--nes", action="store_true", help="estimate gradients from 100 probes a step (black box)"
    )
    attacks.add_argument(
        "--transfer", type=Path, metavar="CHECKPOINT", help="take gradients from this embedder"
    )
    attacks.add_argument(
        "--compat",
        choices=COMPAT,
        default="correct",
        help="paper: GTM, LTM and ES:D as the published code computes them",
    )
    attacks.add_argument("--max_images", type=int, help="attack this many random images")
    attacks.add_argument(
        "--repeats",
        type=int,
        default=1,
        help="repeats with other random images and targets, for intervals",
    )
    add_seed_option(attacks)

    parser.add_argument("--no_nmi", action="store_true", help="skip NMI, which needs clustering")
    parser.add_argument(
        "--save_images", type=Path, metavar="DIR", help="write the attacked images there, as PNG"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="table to write (TSV); a JSON file of the same name is written beside it "
        "(default: results/<dataset>/attack_ranking.tsv)",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("TABLE", "NAME"),
        help="also add a row NAME to TABLE (TSV): the clean measures, the ten terms and the ERS",
    )


def check_ranking_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options that contradict each other."""
    if (options.images is None) != (options.labels is None):
        raise UserError("--images and --labels belong together")
    if options.images and options.data:
        raise UserError("give either --data or --images and --labels")
    require_counts(options, "repeats", "max_images", "batch")
    require_not_negative(options, "seed")


def attacks_of(options: argparse.Namespace) -> tuple[AttackSpec, ...]:
    """Return the distinct attacks that options name; ``UserError`` for one that cannot be run."""
    profile = options.profile or (None if options.attack else "rob224")
    named = [*PROFILES.get(profile, ()), *map(parse_attack, options.attack or ())]
    return tuple(dict.fromkeys(_altered(spec, options) for spec in named))


def _altered(spec: AttackSpec, options: argparse.Namespace) -> AttackSpec:
    """Return ``spec`` with the budget from the options; a single step is as long as eps."""
    eps = spec.eps if options.eps is None else options.eps / 255
    steps = spec.steps if options.steps is None else options.steps
    step = eps if options.steps == 1 and eps else spec.step
    return replace(
        spec,
        eps=eps,
        steps=steps,
        step=step if options.step_size is None else options.step_size / 255,
        restarts=spec.restarts if options.restarts is None else options.restarts,
    )
