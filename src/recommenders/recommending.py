"""From weights to artifacts: top-K lists and ranks of held-out items, under both protocols."""

from pathlib import Path

import numpy as np

from src.artifacts.atomic import atomic_outputs
from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, fingerprint, input_name, read_record
from src.artifacts.tables import write_test_ranks, write_top_k
from src.recommenders.data import TrainingData
from src.recommenders.fitting import Progress, Training, fit
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.ranking import test_ranks, top_k
from src.recommenders.scores import fold
from src.recommenders.weights import Weights, read_weights, table_shapes

STAGE = "recommend"


def recommend_retrained(
    training: Training, data: TrainingData, gpu: int, progress: Progress, force: bool
) -> None:
    """Train on the experiment's own features and write its lists and ranks; see ``fit``."""
    layout, run = training.layout, training.run
    if training.adversary:
        training.require_halfway_vbpr()
    options = {**training.options, "epochs": run.epochs, "top_k": run.top_k}
    manifest = Manifest.of(STAGE, options, (*training.inputs, layout.test_set))
    if not force and manifest.is_current(_outputs(layout, run)):
        print(f"{run.name} is up to date (use --force to redo)")
        return
    weights = fit(training, data, gpu, progress, force)
    _write(layout, run, training.hyperparameters, weights, data, manifest)


def recommend_at_test_time(
    layout: Layout,
    run: Run,
    trained: Run,
    hyperparameters: Hyperparameters,
    data: TrainingData,
    force: bool,
) -> None:
    """Score the features of ``run`` with the recommender of the run ``trained``; nothing is trained.

    The features are divided by the constant of those trained on, as a deployed system would. Raises
    ``UserError`` when the weights are missing, have other shapes, belong to another extractor or were
    trained on other interactions.
    """
    if trained.experiment.extractor != run.experiment.extractor:
        raise UserError(
            f"{run.experiment.name} and {trained.experiment.name} are features of different extractors"
        )
    path = layout.weights(trained, trained.epochs)
    if not path.is_file():
        raise UserError(
            f"no weights at {path}: first run python rec_generator.py --dataset {layout.dataset} "
            f"--experiment_name {trained.experiment.name} with the same model, epochs and seed"
        )
    recorded = read_record(path).get("inputs", {})
    if recorded.get(input_name(layout.training_set)) not in (
        None,
        fingerprint(layout.training_set),
    ):
        raise UserError(f"{path} was trained on interactions other than {layout.training_set}")
    inputs = (path, layout.features(run.experiment), layout.training_set, layout.test_set)
    manifest = Manifest.of(STAGE, {"form": hyperparameters.form, "top_k": run.top_k}, inputs)
    if not force and manifest.is_current(_outputs(layout, run)):
        print(f"{run.name} is up to date (use --force to redo)")
        return
    shapes = table_shapes(data.interactions.n_users, data.features, hyperparameters)
    _write(layout, run, hyperparameters, read_weights(path, shapes), data, manifest)


def _write(
    layout: Layout,
    run: Run,
    hyperparameters: Hyperparameters,
    weights: Weights,
    data: TrainingData,
    manifest: Manifest,
) -> None:
    users, items = fold(
        hyperparameters.form, weights.tables, data.features / np.float32(weights.scale)
    )
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise UserError(f"{run.name}: the weights are no longer finite: lower the learning rates")
    outputs = _outputs(layout, run)
    with atomic_outputs(*outputs) as (lists, ranks):
        write_top_k(lists, top_k(users, items, data.interactions, run.top_k))
        write_test_ranks(ranks, test_ranks(users, items, data.interactions))
    manifest.write(outputs)


def _outputs(layout: Layout, run: Run) -> tuple[Path, Path]:
    return layout.recommendations(run), layout.test_ranks(run)
