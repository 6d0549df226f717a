"""Options of the trained recommenders that are attacked, and of the attacks."""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import PUBLISHED, Experiment, Run, check_name
from src.artifacts.tables import read_ids
from src.cli import add_fidelity_option
from src.recommenders.attacking import NEGATIVES, Threat
from src.recommenders.command import (
    add_seeds_option,
    add_walk_options,
    not_negative,
    positive,
)
from src.recommenders.factor_models import VBPR, FactorModel
from src.recommenders.models import Model, plain_run
from src.recommenders.parameter_attack import KINDS, ParameterAttack

PARAMETERS = ("P", "Q", "features")
DEFAULT_STEPS = 25


def add_subject_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the trained recommenders to attack."""
    parser.add_argument(
        "--experiment_name",
        default="original",
        help="experiment on whose features VBPR and AMR were trained",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=["BPRMF"],
        help="recommenders by their labels in names of weights: BPRMF, AMF, AMF-full, VBPR, AMRfull, ...",
    )
    parser.add_argument(
        "--epochs",
        "--epoch",
        type=positive,
        help="epochs of training (default: those of rec_generator.py)",
    )
    parser.add_argument(
        "--options",
        default=PUBLISHED,
        metavar="TEXT",
        help="options as names of weights show them, such as K8_lr0.1; plain models ignore those of "
        "adversarial ones",
    )
    add_seeds_option(parser)
    add_fidelity_option(parser)
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="NAME=STEM",
        help="instead of --experiment_name, --model, --epochs, --options and --fidelity: names of your "
        "own, and the stems of weight files without their seeds, as in clean=original_step5_BPRMF",
    )


def add_parameter_attack_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of attacks on parameters and of the attacking users."""
    attack = parser.add_argument_group("the attack")
    attack.add_argument(
        "--attack",
        nargs="+",
        choices=KINDS,
        default=["fgsm"],
        help="one or more; random, the control, is always there as well",
    )
    attack.add_argument(
        "--eps",
        type=float,
        nargs="+",
        default=[0.5],
        help="largest shift of each row of a table, in the table's units; one or more",
    )
    attack.add_argument(
        "--steps",
        type=positive,
        nargs="+",
        default=[DEFAULT_STEPS],
        help="steps of bim and pgd; one or more",
    )
    add_walk_options(attack)
    attack.add_argument(
        "--tables",
        nargs="+",
        choices=PARAMETERS,
        default=["P", "Q"],
        help="tables to move: users, items, or the items' features (VBPR and AMR; eps in units of "
        "features divided by their largest entry)",
    )
    attack.add_argument(
        "--negatives",
        choices=NEGATIVES,
        default="expected",
        help="negatives of the attacked loss: the exact mean over all; sampled: new ones at every step "
        "and for every seed; fixed: one draw for all",
    )
    attack.add_argument(
        "--draws",
        type=positive,
        default=1,
        help="number of repetitions of random attacks, over which each user's results are averaged",
    )
    users = attack.add_mutually_exclusive_group()
    users.add_argument(
        "--user_share",
        type=float,
        metavar="SHARE",
        help="attack a random share of the users, above 0 and at most 1 (default: all users)",
    )
    users.add_argument(
        "--user_file", type=Path, help="attack the users of this file, one id a line"
    )
    attack.add_argument(
        "--attack_seed",
        type=not_negative,
        default=0,
        help="seed of negatives, directions and user shares",
    )


def recommenders_of(options: argparse.Namespace) -> dict[str, Run]:
    """Return the recommenders to attack by name, without their seeds.

    The plain control of each adversarial one is added unless it is among them. Raises ``UserError``
    for unknown names and stems, and for tables that a recommender does not have.
    """
    if options.compare:
        recommenders = dict(_compared(text) for text in options.compare)
        if len(recommenders) < len(options.compare):
            raise UserError("--compare: each NAME can be given only once")
    else:
        recommenders = {label: _run_of(options, label) for label in options.model}
    for run in list(recommenders.values()):
        model = Model.parse(run.model)
        if "features" in options.tables and not issubclass(model.kind, VBPR):
            raise UserError(f"--tables features: {run.model} has no features, only P and Q")
        if (plain := plain_run(run)) not in recommenders.values():
            name = plain.weights_name if options.compare else plain.model
            recommenders[name] = plain
    return {name: replace(run, top_k=options.k) for name, run in recommenders.items()}


def controls_of(recommenders: dict[str, Run]) -> dict[str, str]:
    """Return the name of each adversarial recommender's plain control."""
    names = {run: name for name, run in reversed(recommenders.items())}
    return {
        name: names[plain_run(run)] for name, run in recommenders.items() if plain_run(run) != run
    }


def attacks_of(options: argparse.Namespace) -> tuple[ParameterAttack, ...]:
    """Return all attacks, the control last; ``UserError`` for numbers out of range."""
    if not {"bim", "pgd"} & set(options.attack):
        for name, usual in (("steps", [DEFAULT_STEPS]), ("step_size", None), ("projection", "l2")):
            if getattr(options, name) != usual:
                raise UserError(f"--{name} is for --attack bim and pgd, which have several steps")
    asked = [
        ParameterAttack(kind, epsilon, steps, options.step_size, options.projection)
        for kind, epsilon, steps in itertools.product(options.attack, options.eps, options.steps)
    ]
    controls = [ParameterAttack("random", epsilon) for epsilon in options.eps]
    return tuple(dict.fromkeys((*asked, *controls)))


def threat_of(options: argparse.Namespace, n_users: int) -> Threat:
    """Return the threat of the options; ``UserError`` for users that the data set does not have."""
    return Threat(
        parameters=tuple(dict.fromkeys(options.tables)),
        negatives=options.negatives,
        draws=options.draws,
        seed=options.attack_seed,
        attacked_users=_attacked_users(options, n_users),
    )


def record_of(options: argparse.Namespace, recommenders: dict[str, Run]) -> dict[str, object]:
    """Return the record of the attacked weights and of the parts of the threat that no table shows."""
    return {
        "weights": {name: run.weights_name for name, run in recommenders.items()},
        "draws": options.draws,
        "attack_seed": options.attack_seed,
        "user_share": options.user_share,
        "user_file": options.user_file and str(options.user_file),
    }


def _attacked_users(options: argparse.Namespace, n_users: int) -> np.ndarray | None:
    """Return ascending user ids; None is all."""
    if options.user_file:
        users = read_ids(options.user_file)
        if (beyond := users >= n_users).any():
            raise UserError(
                f"{options.user_file}, row {np.argmax(beyond) + 1}: there is no user "
                f"{users[np.argmax(beyond)]}, the last one is {n_users - 1}"
            )
        return np.unique(users)
    if options.user_share is None:
        return None
    if not 0 < options.user_share <= 1:
        raise UserError(f"--user_share must be above 0 and at most 1, not {options.user_share}")
    size = max(1, round(options.user_share * n_users))
    rng = np.random.default_rng(options.attack_seed)
    return np.sort(rng.choice(n_users, size, replace=False))


def _run_of(options: argparse.Namespace, label: str) -> Run:
    kind, experiment = Model.parse(label).kind, Experiment.parse(options.experiment_name)
    if not issubclass(kind, FactorModel):
        return Run(experiment, label, 0)
    epochs = options.epochs or kind.defaults.epochs
    shown = "" if options.options == PUBLISHED else f"_{options.options}"
    run = Run(experiment, label, epochs, fidelity=options.fidelity, options=shown)
    return run if kind.continues else plain_run(run)


def _compared(text: str) -> tuple[str, Run]:
    """Read ``clean=original_step5_BPRMF``."""
    name, equals, stem = text.partition("=")
    if not equals:
        raise UserError(f"--compare {text}: expected NAME=STEM, as in clean=original_step5_BPRMF")
    run = Run.parse_weights_name(stem)
    if run.seed:
        raise UserError(f"--compare {text}: leave the seed out of the stem and give it to --seed")
    return check_name(name, "--compare"), run
