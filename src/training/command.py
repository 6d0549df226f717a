"""The options that choose a recipe, as ``train_extractor.py`` takes them; no framework is loaded."""

import argparse
from dataclasses import dataclass, fields

from src.artifacts.errors import UserError


@dataclass(frozen=True)
class RecipeOptions:
    """What a user says about a recipe; None leaves it as the recipe has it."""

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
    """Of the inner descent."""


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        help="classifiers: plain, madry, free, trades; embedders: none, est, rest, ses, act, tbc, acap, "
        "amd, ramd, amdsemi, amdsemi-aap, free-est, free-amd, free-amdsemi, hm, act-or-none, "
        "act-or-amdsemi, hm-mix (default: plain)",
    )
    parser.add_argument("--loss", help="of an embedder: triplet, contrast, margin, ms, ...")
    parser.add_argument(
        "--metric", choices=("C", "E", "N"), help="1 - cosine, Euclid, on the sphere"
    )
    parser.add_argument("--margin", type=float, help="of the loss (default: the published one)")
    parser.add_argument(
        "--source",
        help="miner of triplets: random, semihard, softhard, distance, distance_switch, hardest",
    )
    parser.add_argument(
        "--dest",
        help="hm: how hard triplets become: a miner, a number, lga, g2, g1/2, boost:<one of these> "
        "(default: lga)",
    )
    parser.add_argument("--objective", choices=("et", "l2", "kl"), help="hm: how they get there")
    parser.add_argument("--anchor", choices=("free", "fixed"), help="hm: whether it is perturbed")
    parser.add_argument("--ics", type=float, help="weight of the intraclass structure term")
    parser.add_argument("--barlow", type=float, help="weight of the Barlow Twins term")
    parser.add_argument(
        "--batch_norm",
        choices=("frozen", "train"),
        help="keep the statistics that the network came with, or follow the batches",
    )
    parser.add_argument("--steps", type=int, help="of the inner descent")
    parser.add_argument(
        "-C",
        metavar="DATASET:MODEL:LOSS",
        help="name of a published experiment in place of the options above, --arch and --dataset; "
        "--steps and --batch_norm may be added",
    )


_BESIDE_A_NAME = ("steps", "batch_norm")


def recipe_options_of(options: argparse.Namespace) -> RecipeOptions:
    """The options given; with ``-C`` only those that may stand beside a name."""
    names = [field.name for field in fields(RecipeOptions)]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    excluded = [name for name in given if name not in _BESIDE_A_NAME]
    if options.C and excluded:
        raise UserError(f"-C says what --{excluded[0]} says: give one of them")
    return RecipeOptions(**given)
