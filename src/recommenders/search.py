"""Search of hyperparameters on the validation rows, so that "before" is a recommender at its best."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.experiments import option_text
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, read_record
from src.artifacts.stage import Stage
from src.extractors.distribution import rank, wait_for_all
from src.recommenders.command import training_command
from src.recommenders.data import TrainingData
from src.recommenders.fitting import Progress, Training, fit, no_validation, store
from src.recommenders.grid import AXES, KEY, Grid, number_text
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.models import OPTIONS
from src.recommenders.ranking import ranker

STAGE = "search recommender"
SEED = 0
"""Seed of all trials. Trainings with other seeds take the values that it chose."""
_GRID = re.compile(rf"_{KEY}[^_]*")


def tuned(
    training: Training,
    grid: Grid,
    clean_data: Callable[[], TrainingData],
    gpu: int,
    progress: Progress,
    force: bool,
) -> Training:
    """Return ``training`` with the values that are best on validation rows of the clean experiment.

    A training on attacked images, or with another seed, takes those values too. An adversarial one takes
    those of the plain one that it continues. Trials that are trained are not trained again unless
    ``force``; the table has a row for each. Under ``torchrun`` process 0 searches.
    """
    if training.adversary:
        return as_chosen(training, training.plain_weights)
    run = replace(training.run, experiment=training.run.experiment.clean, seed=SEED)
    searched = replace(training, run=run)
    trials = list(grid.trials(training.hyperparameters))
    table = table_of(training.layout, searched)
    if rank() == 0:
        options = {**searched.options, "epochs": run.epochs, "grid": dict(grid.values)}
        inputs = (*searched.inputs, training.layout.validation_set)
        stage = Stage(Manifest.of(STAGE, options, inputs), [table])
        if not stage.is_up_to_date(force):
            rows = _judged(searched, grid, trials, clean_data(), gpu, progress, force)
            stage.publish_tables(rows, numbers=None)
            stage.say_written()
    wait_for_all()
    best = int(np.argmax(pd.read_csv(table, sep="\t")["chosen"]))
    chosen = replace(training, hyperparameters=trials[best])
    if rank() == 0:
        print(
            f"{run.name}: {_words(trials[best], grid)} are best on the validation rows"
            f"{_beyond(trials[best], grid)}",
            flush=True,
        )
    if rank() == 0 and chosen.run == run:
        _copy_weights(_trial(searched, grid, trials[best]), chosen, clean_data(), progress.every)
    wait_for_all()
    return chosen


def as_chosen(training: Training, weights: Path) -> Training:
    """Return ``training`` with the searched values of ``weights``; ``UserError`` if it has none."""
    options = read_record(weights).get("options", {}) if weights.is_file() else {}
    if not set(AXES.values()) <= set(options):
        raise UserError(
            f"no searched weights at {weights}: first run "
            f"{training_command(training.layout, training.run)}"
        )
    values = {
        field: tuple(value) if isinstance(value, list) else value
        for field, value in options.items()
        if field in AXES.values()
    }
    return replace(training, hyperparameters=replace(training.hyperparameters, **values))


def table_of(layout: Layout, training: Training) -> Path:
    """Return the table of trials: ``results/<dataset>/search_VBPR.tsv``, or of an extractor's images."""
    run = training.run
    of_extractor = f"{run.experiment.model_dir}_" if run.experiment.model_dir else ""
    return layout.result(f"search_{of_extractor}{run.model}.tsv")


def _trial(training: Training, grid: Grid, hyperparameters: Hyperparameters) -> Training:
    """Return the training of one point of the grid, whose name shows the values of all its axes."""
    shown = {OPTIONS[AXES[axis]].key: _value(hyperparameters, axis) for axis in grid.values}
    texts = {key: number_text(value) for key, value in shown.items()}
    options = _GRID.sub("", training.run.options) + option_text(texts)
    run = replace(training.run, options=options)
    return replace(training, run=run, hyperparameters=hyperparameters, is_trial=True)


def _judged(
    training: Training,
    grid: Grid,
    trials: list[Hyperparameters],
    data: TrainingData,
    gpu: int,
    progress: Progress,
    force: bool,
) -> pd.DataFrame:
    """Train every trial and measure it on the validation rows: a row a trial, in their order.

    The first trial of the best quality is chosen.
    """
    if len(data.interactions.validation) == 0:
        raise no_validation(training.layout, "hyperparameters")
    held_out = replace(data, interactions=data.at_validation)
    rank_users, rows, quality = ranker(gpu), [], []
    for number, hyperparameters in enumerate(trials, start=1):
        trial = _trial(training, grid, hyperparameters)
        users, items = fit(trial, held_out, gpu, progress, force).factors(data.features)
        _, ranks = rank_users(users, items, held_out.interactions, 0)
        quality.append(progress.quality(ranks))
        axes = {axis: _value(hyperparameters, axis) for axis in AXES}
        rows.append({**axes, "epochs": trial.run.epochs, "seed": SEED, **progress.values(ranks)})
        print(
            f"trial {number} of {len(trials)}, {_words(hyperparameters, grid)}: "
            f"{progress.describe(ranks)} on the validation rows",
            flush=True,
        )
    best = np.argmax(quality)
    return pd.DataFrame(rows).assign(chosen=np.eye(len(rows), dtype=int)[best])


def _value(hyperparameters: Hyperparameters, axis: str) -> float:
    """Return the value of an axis, that of the users' table where tables differ."""
    value = getattr(hyperparameters, AXES[axis])
    return value[0] if isinstance(value, tuple) else value


def _words(hyperparameters: Hyperparameters, grid: Grid) -> str:
    """Return the values of the searched axes in words: ``factors 32, lr 0.05, regs 0``."""
    return ", ".join(f"{axis} {number_text(_value(hyperparameters, axis))}" for axis in grid.values)


def _beyond(hyperparameters: Hyperparameters, grid: Grid) -> str:
    """Return advice to search on, if values are the first or the last of their axis; empty otherwise.

    A penalty of 0 has nothing beyond it.
    """
    ends = [
        axis
        for axis, values in grid.values.items()
        if len(values) > 1
        and (value := _value(hyperparameters, axis))
        and value in (min(values), max(values))
    ]
    return f"; {', '.join(ends)} at an end of the grid: values beyond may be better" if ends else ""


def _copy_weights(trial: Training, chosen: Training, data: TrainingData, every: int) -> None:
    """Store the weights of the best trial as those of the run that was searched for."""
    for epoch in range(1, chosen.run.epochs + 1):
        path = chosen.weights(epoch)
        if not chosen.stores(epoch, every) or chosen.manifest(epoch).is_current([path]):
            continue
        if trial.manifest(epoch).is_current([trial.weights(epoch)]):
            store(chosen, trial.read(epoch, data).weights)
