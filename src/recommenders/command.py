"""The options that describe a recommender and its training, as scripts take them."""

import argparse
from dataclasses import dataclass

from src.artifacts.errors import UserError
from src.cli import fidelity_of, number_list
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.models import PLAIN, VISUAL, Model, Name
from src.recommenders.parameter_attack import PROJECTIONS, ParameterAttack


@dataclass(frozen=True)
class Defaults:
    """What options mean where they are not given, by kind of recommender."""

    epochs: int
    learning_rates: str
    penalties: str
    adversarial_weight: float
    epsilon: float
    accumulators: str


OF_VISUAL = Defaults(4000, "[0.01,1e-4,1e-3]", "[1e-1,1e-3,0]", 0.1, 1.0, "reset")
"""The published ones of VBPR and AMR."""
OF_MF = Defaults(100, "0.05", "0", 1.0, 0.5, "keep")
"""He et al.'s for BPR-MF and AMF, with fewer epochs."""


def defaults_of(model: Name) -> Defaults:
    return OF_VISUAL if model in VISUAL else OF_MF


def add_recommender_options(parser: argparse.ArgumentParser) -> None:
    """The published options and defaults, and what was added to them."""
    parser.add_argument(
        "--form",
        choices=("shared", "full"),
        default="shared",
        help="VBPR, AMR: shared is one user vector (published code), full has biases and visual user "
        "factors (He and McAuley 2016) and is named VBPRfull and AMRfull",
    )
    parser.add_argument(
        "--item_bias", action="store_true", help="BPRMF, AMF: named BPRMFbias and AMFbias"
    )
    parser.add_argument("--emb1_K", type=positive, default=64, help="factors of each table")
    parser.add_argument("--batch_size", type=positive, default=512, help="interactions in one step")
    parser.add_argument(
        "--lr",
        nargs="+",
        help="Adagrad learning rates of users, items and projection; one number serves all "
        f"(default: {_both('learning_rates')})",
    )
    parser.add_argument(
        "--regs",
        nargs="+",
        help="regularisation of users, items and projection; one number serves all "
        f"(default: {_both('penalties')})",
    )
    parser.add_argument(
        "--reg_reduction",
        choices=("sum", "mean"),
        help="sum: half the squared norms of a batch's rows; mean: the means of their squared entries, "
        "as in the published BPR-MF (default: sum, or with --fidelity paper what was published)",
    )
    parser.add_argument(
        "--negatives",
        type=positive,
        default=1,
        help="uniform negatives of which a step takes the one that scores highest (dynamic negative "
        "sampling); 1 is plain uniform sampling",
    )
    parser.add_argument("--epoch", type=positive, help=f"epochs (default: {_both('epochs')})")
    parser.add_argument(
        "--verbose",
        type=positive,
        default=1000,
        help="epochs between checkpoints and accuracy reports",
    )
    adversarial = parser.add_argument_group("AMR and AMF, which continue VBPR and BPRMF")
    adversarial.add_argument(
        "--adv_epochs",
        type=positive,
        help="how many of the epochs, the last ones, are adversarial (default: half, rounded up)",
    )
    adversarial.add_argument(
        "--lmd",
        "--adv_reg",
        type=float,
        help=f"weight of the adversarial loss (default: {_both('adversarial_weight')})",
    )
    adversarial.add_argument(
        "--epsilon",
        "--eps",
        type=float,
        help="AMR: L2 norm of the perturbation of an item's features (scaled to at most 1); AMF: of a "
        f"row of a table (default: {_both('epsilon')})",
    )
    adversarial.add_argument(
        "--adv_type",
        choices=("grad", "rand"),
        default="grad",
        help="perturb along the gradient, or (a control) in random directions",
    )
    adversarial.add_argument(
        "--accumulators",
        choices=("keep", "reset"),
        help="whether Adagrad goes on with the plain model's accumulators "
        f"(default: {_both('accumulators')})",
    )
    adversarial.add_argument(
        "--perturb",
        choices=("batch", "full"),
        default="batch",
        help="AMF: raise the loss of the batch (He et al. 2018), or for each batch that of all "
        "training pairs (named AMF-full)",
    )
    adversarial.add_argument(
        "--adv_attack",
        choices=("fgsm", "bim", "pgd"),
        default="fgsm",
        help="AMF: one step, or several (named AMF-bim, AMF-pgd)",
    )
    adversarial.add_argument(
        "--adv_steps", type=positive, default=10, help="AMF: steps of bim and pgd"
    )
    add_walk_options(adversarial)


def add_walk_options(parser: argparse._ActionsContainer) -> None:
    """How an attack of several steps on tables walks within its budget."""
    parser.add_argument(
        "--step_size", type=float, help="L2 length of a step of bim and pgd (default: eps / 4)"
    )
    parser.add_argument(
        "--projection",
        choices=PROJECTIONS,
        default="l2",
        help="bim and pgd keep the L2 norm of a row's shift, or each of its entries (box), within eps; "
        "in a box a row of d factors may move by eps * sqrt(d)",
    )


def hyperparameters_of(options: argparse.Namespace, model: Name) -> Hyperparameters:
    """Raises ``UserError`` for lists of numbers that are none."""
    fidelity, visual = fidelity_of(options), model in VISUAL
    published = fidelity.regulariser if visual else fidelity.mf_regulariser
    reductions = {None: published, "sum": "squared", "mean": "mean"}
    defaults = defaults_of(model)
    return Hyperparameters(
        form=options.form if visual else ("mf_bias" if options.item_bias else "mf"),
        factors=options.emb1_K,
        batch=options.batch_size,
        learning_rates=_three_numbers("--lr", options.lr or [defaults.learning_rates]),
        penalties=_three_numbers("--regs", options.regs or [defaults.penalties]),
        regulariser=reductions[options.reg_reduction],
        negatives=options.negatives,
        drop_last_batch=fidelity.drop_last_batch,
    )


def adversary_of(options: argparse.Namespace, model: Name) -> Adversary | None:
    """None for plain models; raises ``UserError`` for numbers that make no perturbation."""
    if model not in PLAIN:
        return None
    defaults = defaults_of(model)
    weight = defaults.adversarial_weight if options.lmd is None else options.lmd
    attack = ParameterAttack(
        "random" if options.adv_type == "rand" else options.adv_attack,
        defaults.epsilon if options.epsilon is None else options.epsilon,
        options.adv_steps,
        options.step_size,
        options.projection,
    )
    keep = (options.accumulators or defaults.accumulators) == "keep"
    if model in VISUAL:
        if options.perturb == "full":
            raise UserError("--perturb full: AMR perturbs the features of the batch's items")
        return Adversary(weight, attack, "features", keep_accumulators=keep)
    stale = options.perturb == "full" and fidelity_of(options).stale_clean_term
    return Adversary(weight, attack, "tables", options.perturb, stale, keep)


def label_of(options: argparse.Namespace, model: Name) -> str:
    """What names of runs show of ``model`` with these options: ``VBPR``, ``VBPRfull``, ``AMF-full``."""
    adversary = adversary_of(options, model)
    form = hyperparameters_of(options, model).form
    return Model(model, form, adversary.variant if adversary else "").label


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


def _both(field: str) -> str:
    """An option's defaults, in words."""
    return f"{getattr(OF_VISUAL, field)}, for BPRMF and AMF {getattr(OF_MF, field)}"


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
