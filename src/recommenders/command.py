"""Options of scripts that describe a recommender and its training."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run, option_text
from src.artifacts.layout import Layout
from src.cli import fidelity_of, number_list
from src.recommenders.factor_models import OF_MF, OF_VISUAL, FactorModel
from src.recommenders.grid import AXES, Grid, search_words
from src.recommenders.hyperparameters import (
    Adversary,
    GraphHyperparameters,
    Hyperparameters,
    NetworkHyperparameters,
)
from src.recommenders.models import (
    OPTIONS,
    Model,
    default_adversarial_epochs,
    with_adversarial_epochs,
)
from src.recommenders.parameter_attack import PROJECTIONS, ParameterAttack
from src.recommenders.registry import RECOMMENDERS

ADVERSARIAL_STEPS = 10
"""Steps of AMF-bim and AMF-pgd."""

_REDUCTIONS = {"sum": "squared", "mean": "mean"}
"""Regularisers by what ``--reg_reduction`` calls them."""
_FLAG_OF_FORM = {"full": "--form full", "mf_bias": "--item_bias"}
_FLAG_OF_VARIANT = {
    "full": "--perturb full",
    "bim": "--adv_attack bim",
    "pgd": "--adv_attack pgd",
    "random": "--adv_type rand",
}
_FLAG_OF_KEY = {option.key: option.flag for option in OPTIONS.values()}
_SHOWN = re.compile(rf"_({'|'.join(sorted(_FLAG_OF_KEY, key=len, reverse=True))})([^_]*)")


def add_recommender_options(parser: argparse.ArgumentParser) -> None:
    """Add the published options with their defaults, and further options."""
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
    parser.add_argument(
        "--batch",
        "--batch_size",
        type=positive,
        help="interactions in one step (default: 512, for ACF and DVBPR 32, for LightGCN 1024)",
    )
    parser.add_argument(
        "--hidden",
        type=positive,
        help="width of hidden layers: the two last ones of DVBPR's network (default: 4096), or ACF's "
        "attention (default: 64)",
    )
    parser.add_argument("--layers", type=positive, help="layers of LightGCN's graph (default: 3)")
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
        "--search",
        nargs="*",
        metavar="AXIS=VALUES",
        help='choose the values that rank validationset.tsv best, such as "lr=0.01 0.05" "regs=0 0.01" '
        '"factors=32 64"; without values a grid of all three, less those whose options are given. '
        "Adversarial recommenders take the values of the plain ones that they continue",
    )
    parser.add_argument(
        "--reg_reduction",
        choices=tuple(_REDUCTIONS),
        help="sum: half the squared norms of a batch's rows; mean: the means of their squared entries, "
        "as in the published BPR-MF (default: sum, or with --fidelity paper what was published)",
    )
    parser.add_argument(
        "--negatives",
        type=positive,
        default=1,
        help="number of uniform negatives of which a step takes the one with the highest score (dynamic "
        "negative sampling); 1 is plain uniform sampling",
    )
    parser.add_argument(
        "--features",
        choices=("raw", "unit"),
        default="raw",
        help="VBPR, AMR: images' features as extracted (published), or each divided by its length",
    )
    parser.add_argument(
        "--epochs", "--epoch", type=positive, help=f"epochs (default: {_both('epochs')})"
    )
    parser.add_argument(
        "--verbose",
        type=positive,
        default=1000,
        help="epochs between checkpoints and accuracy reports",
    )
    _add_adversarial_options(
        parser.add_argument_group(
            "AMR and RankAMR, which continue VBPR, and AMF, which continues BPRMF"
        )
    )


def _add_adversarial_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--adv_epochs",
        type=positive,
        help="number of adversarial epochs, which are the last ones (default: half, rounded up)",
    )
    group.add_argument(
        "--adv_reg",
        "--lmd",
        type=float,
        help=f"weight of the adversarial loss (default: {_both('adversarial_weight')})",
    )
    group.add_argument(
        "--eps",
        "--epsilon",
        type=float,
        help="L2 norm of the perturbation of an item's features (AMR, RankAMR; scaled to at most 1), or "
        f"of a row of a table (AMF) (default: {_both('epsilon')})",
    )
    group.add_argument(
        "--adv_type",
        choices=("grad", "rand"),
        default="grad",
        help="perturb along the gradient, or (a control) in random directions",
    )
    group.add_argument(
        "--accumulators",
        choices=("keep", "reset"),
        help="whether Adagrad continues with the plain model's accumulators "
        f"(default: {_both('accumulators')})",
    )
    group.add_argument(
        "--perturb",
        choices=("batch", "full"),
        default="batch",
        help="AMF: raise the loss of the batch (He et al. 2018), or for each batch that of all "
        "training pairs (named AMF-full)",
    )
    group.add_argument(
        "--adv_attack",
        choices=("fgsm", "bim", "pgd"),
        default="fgsm",
        help="AMF: one step, or several (named AMF-bim, AMF-pgd)",
    )
    group.add_argument(
        "--adv_steps",
        type=positive,
        default=ADVERSARIAL_STEPS,
        help="AMF: steps of bim and pgd",
    )
    add_walk_options(group)


def require_read(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise ``UserError`` for a given option of trainings if none of ``names`` trains in epochs.

    An option that is given at its default cannot be told from one that is not given.
    """
    if any(issubclass(RECOMMENDERS[name], FactorModel) for name in names):
        return
    own = argparse.ArgumentParser(add_help=False)
    add_recommender_options(own)
    for option, usual in vars(own.parse_args([])).items():
        if option != "verbose" and getattr(options, option) != usual:
            learning = [
                name for name, kind in RECOMMENDERS.items() if issubclass(kind, FactorModel)
            ]
            raise UserError(
                f"--{option}: {', '.join(names)} does not train in epochs and has no such option; it is "
                f"for {', '.join(learning)}"
            )


def add_seeds_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=not_negative, nargs="+", default=[0], help="one or more")


def add_walk_options(parser: argparse._ActionsContainer) -> None:
    """Add the options of an attack on tables with several steps."""
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


def hyperparameters_of(options: argparse.Namespace, model: type[FactorModel]) -> Hyperparameters:
    """Return the hyperparameters of the options; ``UserError`` for text that is no list of numbers."""
    published = _published(options, model)
    sizes = {size: getattr(options, size) or getattr(published, size) for size in _sizes(model)}
    return replace(
        published,
        factors=options.emb1_K,
        batch=options.batch or published.batch,
        learning_rates=_rates("--lr", options.lr, model) or published.learning_rates,
        penalties=_rates("--regs", options.regs, model) or published.penalties,
        regulariser=_REDUCTIONS.get(options.reg_reduction, published.regulariser),
        negatives=options.negatives,
        features=options.features if model.reads_images and not model.reads_pixels else "raw",
        **sizes,
    )


def grid_of(options: argparse.Namespace, model: type[FactorModel]) -> Grid | None:
    """Return the grid of ``--search``; None if nothing is searched.

    Raises ``UserError`` for text that is no grid, and for an axis whose option is given too.
    """
    if options.search is None:
        return None
    given = {
        "factors": options.emb1_K != Hyperparameters.factors,
        "lr": options.lr is not None,
        "regs": options.regs is not None,
    }
    fixed = [axis for axis in AXES if given[axis]]
    if not options.search:
        grid = Grid.usual(_published(options, model), fixed)
        if not grid.values:
            raise UserError("--search: all that it would choose is given by options")
        return grid
    grid = Grid.read(options.search)
    for axis in fixed:
        if axis in grid.values:
            flag = OPTIONS[AXES[axis]].flag
            raise UserError(f"--search {axis} and {flag}: give one of them")
    return grid


def _published(options: argparse.Namespace, model: type[FactorModel]) -> Hyperparameters:
    """Return the default hyperparameters of a form and fidelity."""
    fidelity, visual, defaults = fidelity_of(options), model.reads_images, model.defaults
    rates = {
        "batch": defaults.batch,
        "learning_rates": _three_numbers("--lr", [defaults.learning_rates]),
        "penalties": _three_numbers("--regs", [defaults.penalties]),
    }
    if defaults.layers:
        return GraphHyperparameters(form=None, **rates, layers=defaults.layers)
    if defaults.hidden:
        return NetworkHyperparameters(
            form=None,
            **rates,
            hidden=defaults.hidden,
            as_published=fidelity.fixed_acf_users,
        )
    return Hyperparameters(
        form=options.form if visual else ("mf_bias" if options.item_bias else "mf"),
        **rates,
        regulariser=fidelity.regulariser if visual else fidelity.mf_regulariser,
        drop_last_batch=fidelity.drop_last_batch,
    )


def _sizes(model: type[FactorModel]) -> tuple[str, ...]:
    """Return the names of the sizes that a network has beside its number of factors."""
    return tuple(size for size in ("hidden", "layers") if getattr(model.defaults, size))


def adversary_of(options: argparse.Namespace, model: type[FactorModel]) -> Adversary | None:
    """Return the adversary of the options, None for plain models; ``UserError`` for bad numbers."""
    if model.perturbs is None:
        return None
    defaults = model.defaults
    weight = defaults.adversarial_weight if options.adv_reg is None else options.adv_reg
    attack = ParameterAttack(
        "random" if options.adv_type == "rand" else options.adv_attack,
        defaults.epsilon if options.eps is None else options.eps,
        options.adv_steps,
        options.step_size,
        options.projection,
    )
    keep = (options.accumulators or defaults.accumulators) == "keep"
    if model.perturbs != "tables":
        if options.perturb == "full":
            raise UserError("--perturb full: AMR perturbs the features of the batch's items")
        return Adversary(weight, attack, model.perturbs, keep_accumulators=keep)
    stale = options.perturb == "full" and fidelity_of(options).stale_clean_term
    return Adversary(weight, attack, "tables", options.perturb, stale, keep)


def run_of(
    options: argparse.Namespace, name: str, experiment: Experiment, top_k: int, seed: int = 0
) -> Run:
    """Return the run of the recommender ``name`` with these options.

    Its name shows each option that the recommender reads and that is not at its published default.
    A recommender that does not train in epochs reads none.
    """
    model = RECOMMENDERS[name]
    if not issubclass(model, FactorModel):
        if model.reads_images and options.features == "unit":
            raise UserError(f"--features unit: {name} has no such option")
        return Run(experiment, name, 0, top_k, seed)
    hyperparameters, published = hyperparameters_of(options, model), _published(options, model)
    values: dict[str, tuple[object, object]] = {
        field: (getattr(hyperparameters, field), getattr(published, field))
        for field in (
            *("factors", "batch", "learning_rates", "penalties", "regulariser", "negatives"),
            "features",
            *_sizes(model),
        )
    }
    adversary = adversary_of(options, model)
    if adversary:
        values |= _adversarial_values(options, adversary, model)
    shown = {
        OPTIONS[field].key: _shown(value)
        for field, (value, usual) in values.items()
        if value != usual
    }
    if grid := grid_of(options, model):
        shown |= {OPTIONS["search"].key: grid.text}
    run = Run(
        experiment,
        Model(name, hyperparameters.form, adversary.variant if adversary else "").label,
        options.epochs or model.defaults.epochs,
        top_k,
        seed,
        fidelity=options.fidelity,
        options=option_text(shown),
    )
    if adversary is None:
        return run
    half = default_adversarial_epochs(run.epochs)
    return with_adversarial_epochs(run, options.adv_epochs or half)


def _adversarial_values(
    options: argparse.Namespace, adversary: Adversary, model: type[FactorModel]
) -> dict[str, tuple[object, object]]:
    """Return the value of each option of an adversary and its published value.

    The default length of a step depends on epsilon, and the label of an AMF holds its direction.
    """
    attack, defaults = adversary.attack, model.defaults
    usual = ParameterAttack(attack.kind, attack.epsilon, ADVERSARIAL_STEPS)
    accumulators = options.accumulators or defaults.accumulators
    return {
        "weight": (adversary.weight, defaults.adversarial_weight),
        "epsilon": (attack.epsilon, defaults.epsilon),
        "kind": (options.adv_type, "grad" if model.perturbs != "tables" else options.adv_type),
        "keep_accumulators": (accumulators, defaults.accumulators),
        "steps": (attack.steps, usual.steps),
        "step_size": (attack.step_size, usual.step_size),
        "projection": (attack.projection, usual.projection),
    }


def _shown(value: object) -> str:
    """Return an option's value as names show it: ``8``, ``0.05``, ``0.05-0.0001-0.001``, ``mean``."""
    if isinstance(value, tuple):
        numbers = value[:1] if len(set(value)) == 1 else value
        return "-".join(map(_shown, numbers))
    if isinstance(value, float):
        short = f"{value:g}"
        return (short if float(short) == value else repr(value)).replace("+", "")
    words = {regulariser: word for word, regulariser in _REDUCTIONS.items()}
    return words.get(value, str(value))


def training_command(layout: Layout, run: Run) -> str:
    """Return the command that trains ``run`` and, if it is adversarial, its plain model."""
    model = Model.parse(run.model)
    names = dict.fromkeys((model.plain.name, model.name))
    words = [
        f"python rec_generator.py --dataset {layout.dataset}",
        "" if layout.root == Path() else f"--root {layout.root}",
        f"--experiment_name {run.experiment.name} --model {' '.join(names)}",
        _FLAG_OF_FORM.get(model.form, ""),
        *(_FLAG_OF_VARIANT.get(part, "") for part in model.variant.split("-")),
        *(_flag(key, value) for key, value in _SHOWN.findall(run.options)),
        f"--epochs {run.epochs} --seed {run.seed}",
        "" if run.fidelity == "corrected" else f"--fidelity {run.fidelity}",
    ]
    return " ".join(filter(None, words))


def _flag(key: str, value: str) -> str:
    """Return ``--lr 0.05 1e-05 0.001`` for ``lr`` and ``0.05-1e-05-0.001``."""
    if key == OPTIONS["search"].key:
        return search_words(value)
    return f"{_FLAG_OF_KEY[key]} {' '.join(re.split(r'(?<!e)-', value))}"


def difference_text(first: tuple[str, object, object]) -> str:
    """Return ``--emb1_K is 8 and 64`` for a difference that ``first_difference`` returns."""
    field, value, other = first
    option = OPTIONS.get(field)
    return f"{option.flag if option else field} is {_words(value)} and {_words(other)}"


def _words(value: object) -> str:
    """Return a value of a manifest as words of a sentence."""
    if value is None:
        return "not recorded"
    if isinstance(value, Mapping):
        return "given"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def positive(text: str) -> int:
    """Parse an option's value, which must be 1 or more."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """Parse an option's value, which must be 0 or more."""
    return _at_least(0, text)


def _at_least(smallest: int, text: str) -> int:
    if (number := int(text)) < smallest:
        raise argparse.ArgumentTypeError(f"must be {smallest} or more")
    return number


def _both(field: str) -> str:
    """Return an option's defaults in words."""
    return f"{getattr(OF_VISUAL, field)}, for BPRMF and AMF {getattr(OF_MF, field)}"


def _rates(
    option: str, texts: list[str] | None, model: type[FactorModel]
) -> tuple[float, float, float] | None:
    """Return the numbers of an option; None if it is not given.

    Models without images have no projection, and get the number of the items for it.
    """
    if not texts:
        return None
    users, items, projection = _three_numbers(option, texts)
    return users, items, projection if model.reads_images else items


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
