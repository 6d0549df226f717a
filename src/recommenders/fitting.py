"""One training from data to weights: checkpoints, resuming, and AMR's start from VBPR."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, read_record
from src.artifacts.tables import TestRanks
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.ranking import test_ranks
from src.recommenders.scores import fold
from src.recommenders.weights import (
    Weights,
    fresh_accumulators,
    initial_weights,
    read_weights,
    table_shapes,
    write_weights,
)

STAGE = "train recommender"


@dataclass(frozen=True)
class Training:
    """One recommender to train (``run``) and what determines its weights."""

    layout: Layout
    run: Run
    hyperparameters: Hyperparameters
    adversary: Adversary | None = None
    """None is VBPR; otherwise AMR, which continues VBPR from half of the epochs on."""

    @property
    def first_epoch(self) -> int:
        """How many epochs are VBPR's before this training starts."""
        return self.run.epochs // 2 if self.adversary else 0

    @property
    def halfway_vbpr(self) -> Path:
        """The VBPR weights from which AMR of the same experiment and seed starts."""
        vbpr = replace(self.run, model=self.run.model.replace("AMR", "VBPR"))
        return self.layout.weights(vbpr, self.run.epochs // 2)

    @property
    def inputs(self) -> tuple[Path, ...]:
        paths = (self.layout.features(self.run.experiment), self.layout.training_set)
        return (*paths, self.halfway_vbpr) if self.adversary else paths

    @property
    def options(self) -> dict[str, object]:
        adversary = asdict(self.adversary) if self.adversary else None
        return {
            "model": self.run.model,
            "seed": self.run.seed,
            **asdict(self.hyperparameters),
            "adversary": adversary,
        }

    def manifest(self, epoch: int) -> Manifest:
        return Manifest.of(STAGE, {**self.options, "epoch": epoch}, self.inputs)

    def require_halfway_vbpr(self) -> None:
        """Raises ``UserError`` unless the weights that AMR starts from are there and fit.

        They fit when they were trained on the same features and the same training set.
        """
        path, run = self.halfway_vbpr, self.run
        if run.epochs < 2:
            raise UserError("AMR trains the second half of the epochs: --epoch must be 2 or more")
        command = (
            f"python rec_generator.py --dataset {self.layout.dataset} --experiment_name "
            f"{run.experiment.name} --model VBPR --epoch {run.epochs} --seed {run.seed}, and the "
            "other options of this command (--force where its lists are already there)"
        )
        if not path.is_file():
            raise UserError(f"AMR starts from {path}, which does not exist; first run: {command}")
        recorded = read_record(path).get("inputs")
        of_vbpr = Manifest.of(STAGE, {}, self.inputs[:2]).inputs
        if recorded is not None and recorded != of_vbpr:
            raise UserError(
                f"{path}, from which AMR starts, was trained on other data; run again: {command}"
            )


@dataclass(frozen=True)
class Progress:
    """How a training reports."""

    every: int
    """Epochs between checkpoints with a line about the accuracy."""
    describe: Callable[[TestRanks], str]
    """Ranks of the held-out items -> text."""


def fit(
    training: Training, data: TrainingData, gpu: int, progress: Progress, force: bool = False
) -> Weights:
    """Train, or continue from the newest checkpoint that was made the same way.

    Weights are stored every ``progress.every`` epochs, half way and at the end. ``force`` starts
    anew. Raises ``UserError`` when AMR has no VBPR to start from, when there is no complete batch
    where only complete ones are used, and when the loss is no longer a number.
    """
    shapes = table_shapes(data.interactions.n_users, data.features, training.hyperparameters)
    if training.adversary:
        training.require_halfway_vbpr()
    weights = None if force else _newest_checkpoint(training, shapes)
    if weights is None:
        weights = _start(training, data, shapes)
    if weights.epoch == training.run.epochs:
        return weights
    return _train(training, data, weights, gpu, progress)


def _train(
    training: Training, data: TrainingData, weights: Weights, gpu: int, progress: Progress
) -> Weights:
    """Run the epochs that ``weights`` lack."""
    # TensorFlow takes seconds to import, which a run that only ranks should not wait for.
    from src.recommenders.bpr import features_on, select_device, trainer_for

    run, drop_below = training.run, _drop_below(training, data)
    device = select_device(gpu)
    trainer = trainer_for(weights.shapes, training.hyperparameters, training.adversary, device)
    trainer.load(weights)
    features = features_on(device, data.scaled_features)
    epochs = range(weights.epoch + 1, run.epochs + 1)
    with tqdm(epochs, desc=run.name, unit="epoch", mininterval=1.0) as bar:
        for epoch in bar:
            triples = data.sampler.epoch(run.seed, epoch, drop_below)
            loss = trainer.epoch(features, triples, _noise_seed(run.seed, epoch))
            if not np.isfinite(loss):
                raise UserError(
                    f"{run.name}: the loss became {loss} in epoch {epoch}: lower the learning rates "
                    "(--lr)"
                )
            bar.set_postfix_str(f"loss {loss:.1f}", refresh=False)
            if epoch % progress.every == 0 or epoch in (run.epochs // 2, run.epochs):
                weights = trainer.save(data.scale, epoch)
                _store(training, weights)
            if epoch % progress.every == 0:
                ranks = test_ranks(
                    *fold(training.hyperparameters.form, weights.tables, data.scaled_features),
                    data.interactions,
                )
                bar.write(f"{run.name}, epoch {epoch}: loss {loss:.1f}, {progress.describe(ranks)}")
    return weights


def _drop_below(training: Training, data: TrainingData) -> int:
    """What the number of triples is rounded down to a multiple of."""
    if not training.hyperparameters.drop_last_batch:
        return 1
    batch = training.hyperparameters.batch
    if len(data.interactions.train) < batch:
        raise UserError(
            f"{training.layout.training_set} has fewer rows than one batch of {batch}, and "
            "incomplete batches are left out: choose a smaller --batch_size"
        )
    return batch


def _start(training: Training, data: TrainingData, shapes: tuple[tuple[int, int], ...]) -> Weights:
    """VBPR starts at random, AMR from VBPR's tables with fresh accumulators."""
    if training.adversary is None:
        return initial_weights(shapes, training.hyperparameters, data.scale, training.run.seed)
    vbpr = read_weights(training.halfway_vbpr, shapes)
    return replace(vbpr, accumulators=fresh_accumulators(vbpr.tables), epoch=training.first_epoch)


def _newest_checkpoint(training: Training, shapes: tuple[tuple[int, int], ...]) -> Weights | None:
    for epoch in range(training.run.epochs, training.first_epoch, -1):
        path = training.layout.weights(training.run, epoch)
        if path.is_file() and training.manifest(epoch).is_current([path]):
            return read_weights(path, shapes)
    return None


def _store(training: Training, weights: Weights) -> None:
    path = training.layout.weights(training.run, weights.epoch)
    with atomic_output(path) as temporary:
        write_weights(temporary, weights)
    training.manifest(weights.epoch).write([path])


def _noise_seed(seed: int, epoch: int) -> np.int32:
    return np.int32(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
