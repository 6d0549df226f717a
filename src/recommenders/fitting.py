"""One training from data to weights: checkpoints, resuming, and how adversarial models start."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import (
    Manifest,
    fingerprint,
    first_difference,
    input_name,
    read_record,
)
from src.artifacts.tables import TestRanks
from src.recommenders.command import difference_text, training_command
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.models import (
    PLAIN,
    Model,
    default_adversarial_epochs,
    plain_run,
    with_adversarial_epochs,
)
from src.recommenders.pairwise_loss import SampledNegatives
from src.recommenders.parameter_attack import parameters_of
from src.recommenders.ranking import test_ranks
from src.recommenders.scores import fold
from src.recommenders.weights import (
    Weights,
    fresh_accumulators,
    initial_weights,
    read_weights,
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
    """None for plain models. AMR continues VBPR, AMF continues BPR-MF."""
    adversarial_epochs: int | None = None
    """How many of the epochs, the last ones, an adversarial model trains itself; None is half of them,
    rounded up. A plain model leaves a checkpoint where its adversarial form would start."""

    @property
    def switch_epoch(self) -> int:
        """How many epochs are plain in the adversarial form."""
        adversarial = self.adversarial_epochs or default_adversarial_epochs(self.run.epochs)
        return self.run.epochs - adversarial

    @property
    def first_epoch(self) -> int:
        """How many epochs the plain model has behind it when this training starts."""
        return self.switch_epoch if self.adversary else 0

    def stores(self, epoch: int, every: int) -> bool:
        """Whether weights are kept after this epoch."""
        return epoch % every == 0 or epoch in (self.switch_epoch, self.run.epochs)

    def weights(self, epoch: int) -> Path:
        """The weights after ``epoch`` epochs: those of a run that ends there."""
        run = replace(self.run, epochs=epoch)
        if self.adversary:
            run = with_adversarial_epochs(run, epoch - self.switch_epoch)
        return self.layout.weights(run)

    @property
    def plain(self) -> "Training":
        """The plain model's training of the same seed, up to where an adversarial one starts."""
        run = replace(plain_run(self.run), epochs=self.switch_epoch)
        return Training(self.layout, run, self.hyperparameters)

    @property
    def plain_weights(self) -> Path:
        """The weights of the plain model from which an adversarial one starts."""
        return self.plain.weights(self.switch_epoch)

    @property
    def data_files(self) -> tuple[Path, ...]:
        """What is trained on."""
        if Model.parse(self.run.model).visual:
            return self.layout.features(self.run.experiment), self.layout.training_set
        return (self.layout.training_set,)

    @property
    def inputs(self) -> tuple[Path, ...]:
        return (*self.data_files, self.plain_weights) if self.adversary else self.data_files

    @property
    def options(self) -> dict[str, object]:
        adversary = asdict(self.adversary) if self.adversary else None
        return {
            "model": self.run.model,
            "seed": self.run.seed,
            **asdict(self.hyperparameters),
            "adversary": adversary,
        }

    def manifest_options(self, epoch: int) -> Mapping[str, object]:
        """The options of the manifest of weights, as JSON values."""
        return Manifest.of(STAGE, {**self.options, "epoch": epoch}, ()).options

    def manifest(self, epoch: int) -> Manifest:
        return Manifest.of(STAGE, self.manifest_options(epoch), self.inputs)

    def require_plain_weights(self) -> None:
        """Raises ``UserError`` unless the weights that an adversarial model starts from fit."""
        name = Model.parse(self.run.model).name
        if self.switch_epoch < 1:
            raise UserError(
                f"{name} trains the second part of its epochs and {PLAIN[name]} the first, of which "
                f"nothing is left: --epoch must be {self.run.epochs - self.switch_epoch + 1} or more"
            )
        self.plain.require_weights(training_command(self.layout, self.run))

    def require_weights(self, command: str) -> Path:
        """The weights after all epochs; ``UserError``, which names ``command``, unless they fit.

        They fit when they were trained with these options on these data. Weights without a manifest do.
        """
        path = self.weights(self.run.epochs)
        if not path.is_file():
            raise UserError(
                f"no weights at {path}: first run {command} (with --force where its lists are there)"
            )
        if not (record := read_record(path)):
            return path
        options = self.manifest_options(self.run.epochs)
        if first := first_difference(record.get("options", {}), options):
            raise UserError(
                f"{path} was trained with other options: {difference_text(first)}, there and in this "
                f"command; run again {command} --force"
            )
        for data in self.data_files:
            if data.is_file() and record["inputs"].get(input_name(data)) != fingerprint(data):
                raise UserError(
                    f"{path} was trained on other data than {data}; run again {command} --force"
                )
        if self.adversary and input_name(self.plain_weights) not in record["inputs"]:
            raise UserError(
                f"{path} does not continue {self.plain_weights}; run again {command} --force"
            )
        return path


@dataclass(frozen=True)
class Progress:
    """How a training reports."""

    every: int
    """Epochs between checkpoints with a line about the accuracy."""
    describe: Callable[[TestRanks], str]
    """Ranks of the held-out items -> text."""
    quality: Callable[[TestRanks], float]
    """The same -> a number, by which checkpoints are compared on validation rows."""


def fit(
    training: Training, data: TrainingData, gpu: int, progress: Progress, force: bool = False
) -> Weights:
    """Train, or continue from the newest checkpoint that leaves no earlier one to be made.

    Weights are stored every ``progress.every`` epochs, where the adversarial form starts, and at the
    end. ``force`` starts anew. Raises ``UserError`` when an adversarial model has nothing to start
    from, when there is no complete batch where only complete ones are used, and when the loss is no
    longer a number.
    """
    shapes = data.shapes(training.hyperparameters)
    if training.adversary:
        training.require_plain_weights()
    weights = None if force else _newest_checkpoint(training, shapes, progress.every)
    if weights is None:
        weights = _start(training, data, shapes)
    if weights.epoch == training.run.epochs:
        return weights
    return _train(training, data, weights, gpu, progress)


def best_on_validation(training: Training, data: TrainingData, progress: Progress) -> Weights:
    """The checkpoint of a finished training that ranks validation rows best.

    Candidates are those after each ``progress.every`` epochs and the last one.

    Raises ``UserError`` where the data set has no validation rows.
    """
    if len(data.interactions.validation) == 0:
        raise UserError(
            f"there is no {training.layout.validation_set} to choose a checkpoint by: make it with "
            "prepare_dataset.py (--validation or --validation_split)"
        )
    run, form = training.run, training.hyperparameters.form
    shapes = data.shapes(training.hyperparameters)
    epochs = range(training.first_epoch + 1, run.epochs + 1)
    quality = {}
    for epoch in (of for of in epochs if of % progress.every == 0 or of == run.epochs):
        weights = read_weights(training.weights(epoch), shapes)
        folded = fold(form, weights.tables, data.scaled_features)
        quality[epoch] = progress.quality(test_ranks(*folded, data.at_validation))
    best = max(quality, key=quality.__getitem__)
    print(f"{run.name}: epoch {best} of {len(quality)} checkpoints is best on the validation rows")
    return read_weights(training.weights(best), shapes)


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
    features = features_on(device, data.scaled_features, data.interactions.n_items)
    epochs = range(weights.epoch + 1, run.epochs + 1)
    with tqdm(epochs, desc=run.name, unit="epoch", mininterval=1.0) as bar:
        for epoch in bar:
            triples = data.sampler.epoch(
                run.seed, epoch, drop_below, training.hyperparameters.negatives
            )
            if training.adversary and training.adversary.scope == "full":
                perturb = functools.partial(_perturbation, training, data, epoch)
                loss = trainer.epoch_under(features, triples, perturb)
            else:
                loss = trainer.epoch(features, triples, _noise_seed(run.seed, epoch))
            if not np.isfinite(loss):
                raise UserError(
                    f"{run.name}: the loss became {loss} in epoch {epoch}: lower the learning rates "
                    "(--lr)"
                )
            bar.set_postfix_str(f"loss {loss:.1f}", refresh=False)
            if training.stores(epoch, progress.every):
                weights = trainer.save(data.scale, epoch)
                _store(training, weights)
            if epoch % progress.every == 0:
                ranks = test_ranks(
                    *fold(training.hyperparameters.form, weights.tables, data.scaled_features),
                    data.at_test_time,
                )
                bar.write(f"{run.name}, epoch {epoch}: loss {loss:.1f}, {progress.describe(ranks)}")
    return weights


def _perturbation(
    training: Training,
    data: TrainingData,
    epoch: int,
    tables: dict[str, np.ndarray],
    batch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Perturbations of P and Q that raise the loss on all training pairs, for one batch of one epoch.

    Each has fresh negatives of its own.
    """
    form, seed = training.hyperparameters.form, (training.run.seed, epoch, batch)
    rng = np.random.default_rng(seed)
    loss = SampledNegatives(data.sampler, int(rng.integers(2**62)))
    parameters = parameters_of(form, {name: tables[name] for name in ("P", "Q")})
    folded = fold(form, tables, data.scaled_features)
    shifts = training.adversary.attack(*folded, parameters, loss, rng).shifts
    return shifts["P"], shifts["Q"]


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
    """A plain model starts at random, an adversarial one from the plain model's tables."""
    if training.adversary is None:
        return initial_weights(shapes, training.hyperparameters, data.scale, training.run.seed)
    plain = read_weights(training.plain_weights, shapes)
    if training.adversary.keep_accumulators:
        return replace(plain, epoch=training.first_epoch)
    accumulators = fresh_accumulators(plain.tables)
    return replace(plain, accumulators=accumulators, epoch=training.first_epoch)


def _newest_checkpoint(
    training: Training, shapes: tuple[tuple[int, int], ...], every: int
) -> Weights | None:
    """The newest one before which none is missing or stale that this training must leave."""
    newest = None
    for epoch in range(training.first_epoch + 1, training.run.epochs + 1):
        path = training.weights(epoch)
        if path.is_file() and training.manifest(epoch).is_current([path]):
            newest = path
        elif training.stores(epoch, every):
            break
    return newest and read_weights(newest, shapes)


def _store(training: Training, weights: Weights) -> None:
    path = training.weights(weights.epoch)
    with atomic_output(path) as temporary:
        write_weights(temporary, weights)
    training.manifest(weights.epoch).write([path])


def _noise_seed(seed: int, epoch: int) -> np.int32:
    return np.int32(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
