"""Direction in feature space along which a visual recommender's score grows."""

import argparse
import contextlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import PUBLISHED, Experiment, Run
from src.artifacts.layout import Layout
from src.datasets.interactions import Interactions
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import OF_VISUAL, FactorModel
from src.recommenders.models import Model
from src.recommenders.recommender import Recommender
from src.recommenders.registry import RECOMMENDERS


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add options of the recommender that attacks on lists and maps of attention read."""
    group = parser.add_argument_group("recommender (of an --objective in lists)")
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument(
        "--score_model", help="VBPR, AMR, VBPRfull or AMRfull, trained on the clean features"
    )
    chosen.add_argument(
        "--weights",
        type=Path,
        help="instead of --score_model: a file in rec_model_weights/, of any training",
    )
    group.add_argument(
        "--score_epochs",
        "--score_epoch",
        type=int,
        default=OF_VISUAL.epochs,
        help="epochs of --score_model",
    )
    group.add_argument("--score_seed", type=int, default=0, help="seed of --score_model")
    group.add_argument(
        "--score_options",
        metavar="TEXT",
        help="options that the name of --score_model shows, such as lr0.05_eps0.1, or "
        f"{PUBLISHED} (default: the only one there)",
    )


def add_target_item_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--target_item",
        type=int,
        metavar="ID",
        help="item to show to the buyers of the attacked items, with a recommender whose users read the "
        "images of the items that they have (ACF)",
    )


def add_user_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--user", type=int, help="user whose score is read (default: the mean of all users)"
    )


def score_weights_of(options: argparse.Namespace, layout: Layout, clean: Experiment) -> Path | None:
    """Return the weight file that the options name; None without a score.

    ``--score_model`` takes the training of that model, epochs and seed on the ``clean`` features,
    whose options are ``--score_options``; ``UserError`` if there are several or none.
    """
    path = options.weights
    if options.score_model is not None:
        label = Model.parse(options.score_model).label
        run = Run(
            clean, label, options.score_epochs, seed=options.score_seed, fidelity=options.fidelity
        )
        shown = options.score_options
        path = only_training(layout, run, None if shown is None else [shown])
    if path is not None and not path.is_file():
        others = sorted(other.stem for other in path.parent.glob("*.npz"))
        there = f"; there are {', '.join(others)}" if others else ""
        raise UserError(f"missing file: {path}: run rec_generator.py first{there}")
    return path


def only_training(layout: Layout, wanted: Run, options: Collection[str] | None = None) -> Path:
    """Return the weights of ``wanted``, whatever its options are, or with one of ``options`` (labels).

    A recommender that is fitted at once has no epochs, whatever ``wanted`` says. Raises ``UserError`` if
    several trainings fit.
    """
    if not issubclass(Model.parse(wanted.model).kind, FactorModel):
        wanted = replace(wanted, epochs=0)
    usual = layout.weights(wanted)
    found = []
    for path in sorted(usual.parent.glob(f"{wanted.experiment.name}_step*_*.npz")):
        with contextlib.suppress(UserError):
            run = Run.parse_weights_name(path.stem)
            is_chosen = options is None or run.options_label in options
            if is_chosen and replace(run, options="") == replace(wanted, top_k=150):
                found.append(path)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"several trainings of {wanted.model} fit, name one of {names}")
    return found[0] if found else usual


def weights_text(run: Run) -> str:
    """Return a recommender as names of experiments show it: ``VBPR-ep100-lr0.05-seed1``."""
    variant = run.options.replace("_", "-") + (f"-seed{run.seed}" if run.seed else "")
    own = "" if run.experiment.attack is None else "-of-attacked"
    return f"{run.model}-ep{run.epochs}{variant}{own}"


def load_recommender(path: Path, data: TrainingData) -> tuple[Run, Recommender]:
    """Read the recommender of a weight file, named as ``original_step50_VBPR.npz``, and its run.

    Raises ``UserError`` for a file, a model or sizes that do not fit ``data``.
    """
    run = Run.parse_weights_name(path.stem)
    model = Model.parse(run.model)
    if not path.is_file():
        raise UserError(
            f"missing file: {path}: run rec_generator.py with --model {model.name} first"
        )
    if model.form is not None and issubclass(model.kind, FactorModel):
        return run, model.kind.load(path, data, model.form)
    return run, model.kind.load(path, data)


def change_of_scores(slopes: np.ndarray) -> np.ndarray:
    """Return M (features, k) float32: |d M|^2 is the mean over users of (slope . d)^2, for any d.

    ``slopes`` are (users, features). M M' is their second moment, not their covariance, which would not
    count a change of all users' scores alike: that is what an attacker is after.
    """
    moment = slopes.T.astype(np.float64) @ slopes / len(slopes)
    values, vectors = np.linalg.eigh(moment)
    counts = values > 1e-12 * values[-1]
    return (vectors[:, counts] * np.sqrt(values[counts])).astype(np.float32)


def score_direction(
    path: Path, interactions: Interactions, n_features: int, user: int | None = None
) -> np.ndarray:
    """Return v (n_features,) float32 such that an image with features f adds v . f to the score.

    The direction of a factor model is equal for all items (``factor_models.py``). Without a ``user`` it
    is the mean of all users' directions. ``path`` is a weight file, named as
    ``original_step50_VBPR.npz``. Raises ``UserError`` for a file, a model or a user that does not fit.
    """
    features = np.zeros((interactions.n_items, n_features), np.float32)
    model = Model.parse(Run.parse_weights_name(path.stem).model)
    if not model.kind.reads_images:
        seeing = ", ".join(name for name, kind in RECOMMENDERS.items() if kind.reads_images)
        raise UserError(f"{path}: {model.label} reads no images; choose one of {seeing}")
    if model.kind.reads_pixels:
        raise UserError(f"{path}: {model.label} reads pixels, not the features of an extractor")
    n_users = interactions.n_users
    if user is not None and not 0 <= user < n_users:
        raise UserError(f"--user {user}: there are users 0 to {n_users - 1}")
    _, recommender = load_recommender(path, TrainingData(interactions, features))
    if recommender.unit:
        raise UserError(f"{path} reads features of length 1, whose score has no single direction")
    slopes = recommender.slopes()
    if slopes is None:
        raise UserError(f"{path}: {model.label} reads images along no single direction")
    return slopes.mean(axis=0) if user is None else slopes[user]
