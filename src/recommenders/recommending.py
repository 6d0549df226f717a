"""From weights to artifacts: top-K lists and ranks of held-out items, under both protocols."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from src.artifacts.atomic import atomic_outputs
from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.tables import write_test_ranks, write_top_k
from src.recommenders.baselines import BASELINES
from src.recommenders.command import training_command
from src.recommenders.data import TrainingData
from src.recommenders.fitting import Progress, Training, best_on_validation, fit
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.ranking import test_ranks, top_k
from src.recommenders.scores import fold
from src.recommenders.weights import Weights, read_weights

STAGE = "recommend"


def recommend_retrained(
    training: Training,
    data: TrainingData,
    gpu: int,
    progress: Progress,
    force: bool,
    keep: Literal["last", "best"] = "last",
) -> Run:
    """Train on the experiment's own data and write its lists and ranks; see ``fit``.

    ``keep``: recommend with the last weights, or with the checkpoint that is best on validation rows.
    Returns the run whose lists these are: its name shows the checkpoints that were chosen from.
    """
    layout, run = training.layout, training.run
    options = _list_options(training)
    if keep == "best":
        run = replace(run, options=f"{run.options}_best{progress.every}")
        options |= {"keep": keep, "every": progress.every}
    if training.adversary:
        training.require_plain_weights()
    manifest = Manifest.of(STAGE, options, (*training.inputs, *layout.held_out_sets))
    if not force and manifest.is_current(_outputs(layout, run)):
        print(f"{run.name} is up to date (use --force to redo)")
        return run
    weights = fit(training, data, gpu, progress, force)
    if keep == "best":
        weights = best_on_validation(training, data, progress)
    _write_weights(layout, run, training.hyperparameters, weights, data, manifest)
    return run


def _list_options(training: Training) -> dict[str, object]:
    """Options in manifests of lists, under both protocols alike."""
    run = training.run
    return {**training.options, "epochs": run.epochs, "top_k": run.top_k, "keep": "last"}


def recommend_baseline(layout: Layout, run: Run, data: TrainingData, force: bool) -> None:
    """Lists and ranks of ``BASELINES[run.model]``."""
    baseline = BASELINES[run.model]
    features = (layout.features(run.experiment),) if baseline.visual else ()
    inputs = (*features, layout.training_set, *layout.held_out_sets)
    manifest = Manifest.of(
        STAGE, {"model": run.model, "seed": run.seed, "top_k": run.top_k}, inputs
    )
    if not force and manifest.is_current(_outputs(layout, run)):
        print(f"{run.name} is up to date (use --force to redo)")
        return
    _write(layout, run, *baseline.score(data, run.seed), data, manifest)


def recommend_at_test_time(run: Run, training: Training, data: TrainingData, force: bool) -> None:
    """Score the features of ``run`` with the recommender of ``training``; nothing is trained.

    The features are divided by the constant of those trained on, as a deployed system would. Raises
    ``UserError`` when the weights are missing, belong to another extractor, or were trained with other
    options or on other data.
    """
    layout, trained = training.layout, training.run
    if trained.experiment.extractor != run.experiment.extractor:
        raise UserError(
            f"{run.experiment.name} and {trained.experiment.name} are features of different extractors"
        )
    path = training.require_weights(training_command(layout, trained))
    interactions = (layout.training_set, *layout.held_out_sets)
    inputs = (path, layout.features(run.experiment), *interactions)
    manifest = Manifest.of(STAGE, _list_options(training), inputs)
    if not force and manifest.is_current(_outputs(layout, run)):
        print(f"{run.name} is up to date (use --force to redo)")
        return
    weights = read_weights(path, data.shapes(training.hyperparameters))
    _write_weights(layout, run, training.hyperparameters, weights, data, manifest)


def _write_weights(
    layout: Layout,
    run: Run,
    hyperparameters: Hyperparameters,
    weights: Weights,
    data: TrainingData,
    manifest: Manifest,
) -> None:
    features = None if data.features is None else data.features / np.float32(weights.scale)
    users, items = fold(hyperparameters.form, weights.tables, features)
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise UserError(f"{run.name}: the weights are no longer finite: lower the learning rates")
    _write(layout, run, users, items, data, manifest)


def _write(
    layout: Layout,
    run: Run,
    users: np.ndarray,
    items: np.ndarray,
    data: TrainingData,
    manifest: Manifest,
) -> None:
    outputs = _outputs(layout, run)
    with atomic_outputs(*outputs) as (lists, ranks):
        write_top_k(lists, top_k(users, items, data.at_test_time, run.top_k))
        write_test_ranks(ranks, test_ranks(users, items, data.at_test_time))
    manifest.write(outputs)


def _outputs(layout: Layout, run: Run) -> tuple[Path, Path]:
    return layout.recommendations(run), layout.test_ranks(run)
