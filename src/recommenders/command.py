"""The options that describe a recommender and its training, as scripts take them."""

import argparse

from src.artifacts.errors import UserError
from src.cli import fidelity_of, number_list
from src.recommenders.hyperparameters import Adversary, Hyperparameters


def add_recommender_options(parser: argparse.ArgumentParser) -> None:
    """The published options and defaults, and ``--form``."""
    parser.add_argument(
        "--form",
        choices=("shared", "full"),
        default="shared",
        help="shared: one user vector (published code); full: biases and visual user factors (He and "
        "McAuley 2016), named VBPRfull and AMRfull",
    )
    parser.add_argument("--emb1_K", type=positive, default=64, help="factors of each table")
    parser.add_argument("--batch_size", type=positive, default=512, help="interactions in one step")
    parser.add_argument(
        "--lr",
        nargs="+",
        default=["[0.01,1e-4,1e-3]"],
        help="Adagrad learning rates of users, items and projection; one number serves all",
    )
    parser.add_argument(
        "--regs",
        nargs="+",
        default=["[1e-1,1e-3,0]"],
        help="regularisation of users, items and projection; one number serves all",
    )
    parser.add_argument(
        "--epoch", type=positive, default=4000, help="epochs; AMR continues VBPR from half of them"
    )
    parser.add_argument(
        "--verbose",
        type=positive,
        default=1000,
        help="epochs between checkpoints and accuracy reports",
    )
    parser.add_argument(
        "--lmd", type=float, default=0.1, help="AMR: weight of the adversarial loss"
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        default=1.0,
        help="AMR: L2 norm of the perturbation of an item's features (scaled to at most 1)",
    )
    parser.add_argument(
        "--adv_type", choices=("grad", "rand"), default="grad", help="AMR: perturbation's direction"
    )


def hyperparameters_of(options: argparse.Namespace) -> Hyperparameters:
    """Raises ``UserError`` for lists of numbers that are none."""
    fidelity = fidelity_of(options)
    return Hyperparameters(
        form=options.form,
        factors=options.emb1_K,
        batch=options.batch_size,
        learning_rates=_three_numbers("--lr", options.lr),
        penalties=_three_numbers("--regs", options.regs),
        regulariser=fidelity.regulariser,
        drop_last_batch=fidelity.drop_last_batch,
    )


def adversary_of(options: argparse.Namespace) -> Adversary:
    return Adversary(options.lmd, options.epsilon, options.adv_type)


def positive(text: str) -> int:
    """An option's value that must be 1 or more."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """An option's value that must be 0 or more."""
    return _at_least(0, text)


def _at_least(smallest: int, text: str) -> int:
    if (number := int(text)) < smallest:
        raise argparse.ArgumentTypeError(f"must be {smallest} or more")
    return number


def _three_numbers(option: str, texts: list[str]) -> tuple[float, float, float]:
    """Read ``[a,b,c]``, or one number for all three."""
    try:
        numbers = number_list(" ".join(texts))
    except ValueError as error:
        raise UserError(f"{option} {' '.join(texts)}: {error}") from error
    if len(numbers) not in (1, 3):
        raise UserError(f"{option} takes 3 numbers or 1, not {len(numbers)}")
    users, items, projection = numbers * (3 // len(numbers))
    return users, items, projection
