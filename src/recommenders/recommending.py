"""Top-K lists and ranks of held-out items of recommenders, under both protocols."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.artifacts.tables import write_test_ranks, write_top_k
from src.recommenders.command import training_command
from src.recommenders.data import TrainingData
from src.recommenders.fitting import (
    Fitting,
    Progress,
    Training,
    best_on_validation,
    files_read,
    fit,
)
from src.recommenders.ranking import test_ranks, top_k
from src.recommenders.recommender import Recommender

STAGE = "recommend"
DEPLOY = "deploy recommender"


def recommend_retrained(
    training: Training | Fitting,
    data: TrainingData,
    gpu: int,
    progress: Progress,
    force: bool,
    keep: Literal["last", "best"] = "last",
) -> Run:
    """Learn from the experiment's own data and write its lists and ranks; see ``fit``.

    ``keep`` chooses the last weights, or the checkpoint that is best on validation rows. Returns the run
    of these lists; its name shows the checkpoints among which it was chosen.
    """
    layout, run = training.layout, training.run
    options = training.list_options
    in_epochs = isinstance(training, Training)
    if in_epochs and keep == "best":
        run = replace(run, options=f"{run.options}_best{progress.every}")
        options |= {"keep": keep, "every": progress.every}
    training.require_start()
    manifest = Manifest.of(STAGE, options, (*training.inputs, *layout.held_out_sets))
    stage = _stage(layout, run, manifest)
    if stage.is_up_to_date(force):
        return run
    if not in_epochs:
        recommender = training.fitted(data, force)
    else:
        recommender = fit(training, data, gpu, progress, force)
        if keep == "best":
            recommender = best_on_validation(training, data, progress)
    _write(stage, run, recommender, data)
    return run


def recommend_at_test_time(
    run: Run,
    training: Training | Fitting,
    data: TrainingData,
    clean_data: Callable[[], TrainingData],
    force: bool,
) -> None:
    """Score the features of ``run`` with the recommender of ``training``, which learnt from clean ones.

    Nothing is trained in epochs. A recommender that is fitted at once is fitted to ``clean_data`` if it
    is not stored. Raises ``UserError`` if weights are missing, belong to another extractor, or were
    trained with other options or on other data.
    """
    layout, trained = training.layout, training.run
    if trained.experiment.extractor != run.experiment.extractor:
        raise UserError(
            f"{run.experiment.name} and {trained.experiment.name} are features of different extractors"
        )
    if isinstance(training, Training):
        learnt = (training.require_weights(training_command(layout, trained)),)
    else:
        learnt = training.inputs
    inputs = (*learnt, *files_read(layout, run), layout.training_set, *layout.held_out_sets)
    manifest = Manifest.of(STAGE, training.list_options, inputs)
    stage = _stage(layout, run, manifest)
    if stage.is_up_to_date(force):
        return
    if isinstance(training, Training):
        recommender = training.read(trained.epochs, data)
    else:
        recommender = training.fitted(clean_data())
    _write(stage, run, recommender, data)


def recommend_deployed(
    training: Training, experiment: Experiment, data: TrainingData, force: bool
) -> Run:
    """Rank the clean features of another extractor by the recommender of ``training``, unchanged.

    Its weights are stored as those of this extractor too, so that attacks and measures find them; names
    of its runs show the extractor from which it learnt. Returns the run of these lists. Raises
    ``UserError`` for attacked features, and for features of the extractor from which it learnt.
    """
    layout, learnt = training.layout, training.run.experiment
    if experiment.attack or experiment.extractor == learnt.extractor:
        raise UserError(
            f"--deployed {learnt.name} is for clean features of another extractor, not {experiment.name}"
        )
    source = training.require_weights(training_command(layout, training.run))
    origin = learnt.extractor.replace("_", "-")
    run = replace(
        training.run, experiment=experiment, options=f"{training.run.options}_of-{origin}"
    )
    recommender = training.read(run.epochs, data)
    inputs = (source, layout.features(experiment), layout.training_set, *layout.held_out_sets)
    weights, manifest = layout.weights(run), Manifest.of(DEPLOY, training.list_options, inputs)
    if force or not manifest.is_current([weights]):
        with atomic_output(weights) as temporary:
            recommender.save(temporary)
        manifest.write([weights])
    stage = _stage(layout, run, manifest)
    if not stage.is_up_to_date(force):
        _write(stage, run, recommender, data)
    return run


def _stage(layout: Layout, run: Run, manifest: Manifest) -> Stage:
    return Stage(manifest, (layout.recommendations(run), layout.test_ranks(run)), run.name)


def _write(stage: Stage, run: Run, recommender: Recommender, data: TrainingData) -> None:
    users, items = recommender.factors(data.features)
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise UserError(f"{run.name}: the weights are no longer finite: lower the learning rates")
    with stage.publish() as (lists, ranks):
        write_top_k(lists, top_k(users, items, data.at_test_time, run.top_k))
        write_test_ranks(ranks, test_ranks(users, items, data.at_test_time))
