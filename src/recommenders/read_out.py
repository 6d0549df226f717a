"""What a visual recommender reads from an image's features: a direction in feature space."""

import argparse
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.datasets.interactions import Interactions
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import OF_VISUAL, FactorModel
from src.recommenders.models import Model
from src.recommenders.recommender import Recommender
from src.recommenders.registry import RECOMMENDERS


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Whose score is read out of the features, if anybody's."""
    group = parser.add_argument_group("score of a recommender")
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument(
        "--score_model", help="VBPR, AMR, VBPRfull or AMRfull, trained on the clean features"
    )
    chosen.add_argument(
        "--weights",
        type=Path,
        help="instead: a file of rec_model_weights/, of any training",
    )
    group.add_argument(
        "--score_epoch", type=int, default=OF_VISUAL.epochs, help="epochs of --score_model"
    )
    group.add_argument("--user", type=int, help="whose score (default: the mean of all users')")


def score_weights_of(options: argparse.Namespace, layout: Layout, clean: Experiment) -> Path | None:
    """The weight file that the options name; None where no score is asked for."""
    path = options.weights
    if options.score_model is not None:
        label = Model.parse(options.score_model).label
        run = Run(clean, label, options.score_epoch, fidelity=options.fidelity)
        path = layout.weights(run)
    if path is None and options.user is not None:
        raise UserError("--user needs a recommender: --score_model or --weights")
    if path is not None and not path.is_file():
        raise UserError(f"missing file: {path}: run rec_generator.py first")
    return path


def score_direction(
    path: Path, interactions: Interactions, n_features: int, user: int | None = None
) -> np.ndarray:
    """v (n_features,) float32, such that v . f is what an image of features f adds to the score.

    It is the direction of a factor model, which is the same for every item (``factor_models.py``).
    Without a ``user`` it is the mean of all users' directions, and v . f the mean of what the image
    adds. ``path`` is a weight file
    under its own name, ``original_step50_VBPR.npz``. Raises ``UserError`` for a file, a model or a user
    that does not fit.
    """
    model = Model.parse(Run.parse_weights_name(path.stem).model)
    linear = [name for name, kind in RECOMMENDERS.items() if _is_linear(kind)]
    if model.name not in linear:
        raise UserError(
            f"{path}: {model.label} reads no images along one direction; choose one of "
            f"{', '.join(linear)}"
        )
    if not path.is_file():
        raise UserError(
            f"missing file: {path}: run rec_generator.py with --model {model.name} first"
        )
    n_users = interactions.n_users
    if user is not None and not 0 <= user < n_users:
        raise UserError(f"--user {user}: there are users 0 to {n_users - 1}")
    features = np.zeros((interactions.n_items, n_features), np.float32)
    recommender = model.kind.load(path, TrainingData(interactions, features), model.form)
    if recommender.weights.unit:
        raise UserError(f"{path} reads features of length 1, whose score has no single direction")
    directions = recommender.directions(features, item=0)
    return directions.mean(axis=0) if user is None else directions[user]


def _is_linear(kind: type[Recommender]) -> bool:
    """Whether the gradient of a score is the same for every item and all features."""
    return kind.reads_images and issubclass(kind, FactorModel)
