"""Training of a recommender, with checkpoints, resumption and the start of adversarial models."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.locks import sole_maker
from src.artifacts.manifest import (
    Manifest,
    fingerprint,
    first_difference,
    input_name,
    read_record,
)
from src.artifacts.progress import Pace, progress_bar
from src.artifacts.tables import TestRanks
from src.datasets.interactions import Interactions
from src.recommenders.command import (
    adversary_of,
    difference_text,
    hyperparameters_of,
    training_command,
)
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import FactorModel
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.models import (
    Model,
    default_adversarial_epochs,
    plain_run,
    with_adversarial_epochs,
)
from src.recommenders.pixels import pixel_files
from src.recommenders.ranking import ranker, test_ranks
from src.recommenders.recommender import Recommender
from src.recommenders.registry import RECOMMENDERS
from src.recommenders.weights import (
    Shapes,
    Weights,
    fresh_accumulators,
    read_weights,
    write_weights,
)

STAGE = "train recommender"
USERS_REPORTED = 20_000
"""Users on whom accuracy is measured while a recommender trains; the lists at the end are of all."""


@dataclass(frozen=True)
class Progress:
    """Reports of a training."""

    every: int
    """Epochs between checkpoints with a line about the accuracy."""
    describe: Callable[[TestRanks], str]
    """Function that describes the ranks of held-out items in words."""
    quality: Callable[[TestRanks], float]
    """Function that turns the ranks of held-out items into a number, which compares checkpoints on
    validation rows."""
    values: Callable[[TestRanks], dict[str, float]]
    """Function that measures the ranks of held-out items, by names of columns."""


@dataclass(frozen=True)
class Fitting:
    """Recommender that is fitted at once (``run``), with no option but its seed."""

    layout: Layout
    run: Run

    @property
    def model(self) -> type[Recommender]:
        return Model.parse(self.run.model).kind

    @property
    def data_files(self) -> tuple[Path, ...]:
        """Files from which the recommender learns."""
        return _data_files(self.layout, self.run)

    @property
    def inputs(self) -> tuple[Path, ...]:
        return self.data_files

    @property
    def options(self) -> dict[str, object]:
        return {"model": self.run.model, "seed": self.run.seed}

    @property
    def list_options(self) -> dict[str, object]:
        """Options in manifests of lists, under both protocols alike."""
        return {**self.options, "top_k": self.run.top_k}

    def require_start(self) -> None:
        """Do nothing, since the recommender needs no weights to start from."""

    def fitted(self, data: TrainingData, force: bool = False) -> Recommender:
        """Fit, or read the stored recommender that was fitted on these data; ``force`` fits again.

        A recommender that reads images is stored for the test-time protocol, and one of a framework
        because its training takes long.
        """
        if not (self.model.reads_images or self.model.framework):
            return self.model.fit(data, self.run.seed)
        path = self.layout.weights(self.run)
        manifest = Manifest.of(STAGE, self.options, self.inputs)
        with sole_maker(path):
            if not force and manifest.is_current([path]):
                return self.model.load(path, data)
            fitted = self.model.fit(data, self.run.seed)
            with atomic_output(path) as temporary:
                fitted.save(temporary)
            manifest.write([path])
            return fitted


@dataclass(frozen=True)
class Training:
    """Training of a factor model (``run``), with all that determines its weights."""

    layout: Layout
    run: Run
    hyperparameters: Hyperparameters
    adversary: Adversary | None = None
    """Perturbation to train against; None for plain models. AMR continues VBPR, AMF continues BPR-MF."""
    adversarial_epochs: int | None = None
    """Number of adversarial epochs, which are the last ones; None is half of all, rounded up. A plain
    model stores a checkpoint at the epoch after which its adversarial form would start."""
    is_trial: bool = False
    """True for a trial of a search, whose weights stand in a folder of their own."""

    @property
    def model(self) -> type[FactorModel]:
        return Model.parse(self.run.model).kind

    @property
    def switch_epoch(self) -> int:
        """Number of plain epochs of the adversarial form."""
        adversarial = self.adversarial_epochs or default_adversarial_epochs(self.run.epochs)
        return self.run.epochs - adversarial

    @property
    def first_epoch(self) -> int:
        """Number of epochs that the plain model has trained before this training starts."""
        return self.switch_epoch if self.adversary else 0

    def stores(self, epoch: int, every: int) -> bool:
        """Return whether weights are stored after this epoch."""
        return epoch % every == 0 or epoch in (self.switch_epoch, self.run.epochs)

    def weights(self, epoch: int) -> Path:
        """Return the weight file after ``epoch`` epochs, which is that of a run of ``epoch`` epochs."""
        run = replace(self.run, epochs=epoch)
        if self.adversary:
            run = with_adversarial_epochs(run, epoch - self.switch_epoch)
        path = self.layout.weights(run)
        return path.parent / "search" / path.name if self.is_trial else path

    def read(self, epoch: int, data: TrainingData) -> FactorModel:
        """Read the model after ``epoch`` epochs; ``UserError`` if its weights have other shapes."""
        shapes = self.model.shapes(data, self.hyperparameters)
        weights = read_weights(self.weights(epoch), shapes, self.model.tables)
        return self.model.of(self.hyperparameters.form, weights, data)

    def ranks(self, data: TrainingData) -> TestRanks:
        """Return the ranks of held-out items for ``data`` after all epochs."""
        model = self.read(self.run.epochs, data)
        return test_ranks(*model.factors(data.features), data.at_test_time)

    @property
    def plain(self) -> "Training":
        """Return the plain model's training with this seed, up to the start of an adversarial one."""
        run = replace(plain_run(self.run), epochs=self.switch_epoch)
        return Training(self.layout, run, self.hyperparameters)

    @property
    def plain_weights(self) -> Path:
        """File of the plain model's weights, from which an adversarial one starts."""
        return self.plain.weights(self.switch_epoch)

    @property
    def data_files(self) -> tuple[Path, ...]:
        """Files on which the model is trained."""
        return _data_files(self.layout, self.run)

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

    @property
    def list_options(self) -> dict[str, object]:
        """Options in manifests of lists, under both protocols alike."""
        run = self.run
        return {**self.options, "epochs": run.epochs, "top_k": run.top_k, "keep": "last"}

    def manifest_options(self, epoch: int) -> Mapping[str, object]:
        """Return the options of the manifest of weights, as JSON values."""
        return Manifest.of(STAGE, {**self.options, "epoch": epoch}, ()).options

    def manifest(self, epoch: int) -> Manifest:
        return Manifest.of(STAGE, self.manifest_options(epoch), self.inputs)

    def require_start(self) -> None:
        """Raise ``UserError`` unless the weights that an adversarial model starts from fit."""
        if self.adversary is None:
            return
        name = Model.parse(self.run.model).name
        if self.switch_epoch < 1:
            fewest = self.run.epochs - self.switch_epoch + 1
            raise UserError(
                f"{name} trains the second part of its epochs and {self.model.continues} the first, "
                f"of which nothing is left: --epochs must be {fewest} or more"
            )
        self.plain.require_weights(training_command(self.layout, self.run))

    def require_weights(self, command: str) -> Path:
        """Return the weight file after all epochs; ``UserError`` with ``command`` unless it fits.

        Weights fit if they were trained with these options on these data, or have no manifest.
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


def fit(
    training: Training, data: TrainingData, gpu: int, progress: Progress, force: bool = False
) -> FactorModel:
    """Train, or continue from the newest checkpoint before which no other is missing.

    Weights are stored every ``progress.every`` epochs, where the adversarial form starts, and at the
    end. ``force`` starts again from the beginning. Raises ``UserError`` if an adversarial model has no
    weights to start from, if only complete batches are used and there is none, and if the loss
    becomes infinite or NaN.
    """
    shapes = training.model.shapes(data, training.hyperparameters)
    training.require_start()
    with sole_maker(training.weights(training.run.epochs)):
        weights = None if force else _newest_checkpoint(training, shapes, progress.every)
        if weights is None:
            weights = _start(training, data, shapes)
        if weights.epoch == training.run.epochs:
            return training.model.of(training.hyperparameters.form, weights, data)
        return _train(training, data, weights, gpu, progress)


def best_on_validation(
    training: Training, data: TrainingData, gpu: int, progress: Progress
) -> FactorModel:
    """Return the checkpoint of a finished training that ranks validation rows best.

    Candidates are the checkpoints after each ``progress.every`` epochs and the last one. Raises
    ``UserError`` if the data set has no validation rows.
    """
    if len(data.interactions.validation) == 0:
        raise no_validation(training.layout, "a checkpoint")
    run = training.run
    epochs = range(training.first_epoch + 1, run.epochs + 1)
    rank_users, quality = ranker(gpu), {}
    for epoch in (of for of in epochs if of % progress.every == 0 or of == run.epochs):
        users, items = training.read(epoch, data).factors(data.features)
        _, ranks = rank_users(users, items, data.at_validation, 0)
        quality[epoch] = progress.quality(ranks)
    best = max(quality, key=quality.__getitem__)
    print(f"{run.name}: epoch {best} of {len(quality)} checkpoints is best on the validation rows")
    return training.read(best, data)


def no_validation(layout: Layout, chosen: str) -> UserError:
    """Return the error of a data set without the validation rows by which something is ``chosen``."""
    return UserError(
        f"there is no {layout.validation_set} to choose {chosen} by: make it with "
        "prepare_dataset.py (--validation or --validation_split)"
    )


def _data_files(layout: Layout, run: Run) -> tuple[Path, ...]:
    """Return the files of interactions and, for a recommender that reads images, of what it reads."""
    return (*files_read(layout, run), layout.training_set)


def files_read(layout: Layout, run: Run) -> tuple[Path, ...]:
    """Return the files of images or features that the recommender of ``run`` reads."""
    kind = Model.parse(run.model).kind
    if kind.reads_pixels:
        return pixel_files(layout, run.experiment)
    return (layout.features(run.experiment),) if kind.reads_images else ()


def _train(
    training: Training, data: TrainingData, weights: Weights, gpu: int, progress: Progress
) -> FactorModel:
    """Run the epochs that ``weights`` lack."""
    run = training.run
    _require_a_batch(training, data)
    n_epochs = run.epochs - weights.epoch
    rank_users = ranker(gpu)
    reported = reported_users(data.interactions)
    everyone = len(reported) == data.interactions.n_users
    held_out = data.at_test_time if everyone else data.at_test_time.of_users(reported)
    note = "" if everyone else f" ({len(reported)} users)"
    with progress_bar(total=n_epochs, desc=run.name, unit="epoch", mininterval=1.0) as bar:
        pace = Pace(run.epochs)

        def after_epoch(epoch: int, loss: float, state: Callable[[], FactorModel]) -> None:
            if not np.isfinite(loss):
                raise UserError(
                    f"{run.name}: the loss became {loss} in epoch {epoch}: lower the learning rates "
                    "(--lr)"
                )
            bar.set_postfix_str(f"loss {loss:.1f}", refresh=False)
            bar.update()
            if said := pace.after(epoch, monotonic()):
                bar.write(f"{run.name}: {said}", file=sys.stderr)
            if not training.stores(epoch, progress.every):
                return
            model = state()
            store(training, model.weights)
            if epoch % progress.every == 0:
                users, items = model.factors(data.features)
                _, ranks = rank_users(users[reported], items, held_out, 0)
                bar.write(
                    f"{run.name}, epoch {epoch}: loss {loss:.1f}, {progress.describe(ranks)}{note}"
                )

        return training.model.fit(
            data,
            run.seed,
            hyperparameters=training.hyperparameters,
            epochs=run.epochs,
            adversary=training.adversary,
            start=weights,
            gpu=gpu,
            after_epoch=after_epoch,
        )


def reported_users(interactions: Interactions) -> np.ndarray:
    """Return the users, ascending, on whom accuracy is measured while a recommender trains.

    They are all users, or of more than ``USERS_REPORTED`` a fixed random sample of that size.
    """
    n_users = interactions.n_users
    if n_users <= USERS_REPORTED:
        return np.arange(n_users)
    chosen = np.random.default_rng(0).choice(n_users, USERS_REPORTED, replace=False)
    return np.sort(chosen)


def _require_a_batch(training: Training, data: TrainingData) -> None:
    """Raise ``UserError`` if only complete batches are used and there is none."""
    batch = training.hyperparameters.batch
    if training.hyperparameters.drop_last_batch and len(data.interactions.train) < batch:
        raise UserError(
            f"{training.layout.training_set} has fewer rows than one batch of {batch}, and "
            "incomplete batches are left out: choose a smaller --batch"
        )


def _start(training: Training, data: TrainingData, shapes: Shapes) -> Weights:
    """Return random tables for a plain model, and the plain model's tables for an adversarial one."""
    if training.adversary is None:
        return training.model.initial(data, training.hyperparameters, training.run.seed)
    plain = read_weights(training.plain_weights, shapes)
    if training.adversary.keep_accumulators:
        return replace(plain, epoch=training.first_epoch)
    accumulators = fresh_accumulators(plain.tables)
    return replace(plain, accumulators=accumulators, epoch=training.first_epoch)


def _newest_checkpoint(training: Training, shapes: Shapes, every: int) -> Weights | None:
    """Return the newest checkpoint before which none that this training stores is missing or stale."""
    newest = None
    for epoch in range(training.first_epoch + 1, training.run.epochs + 1):
        path = training.weights(epoch)
        if path.is_file() and training.manifest(epoch).is_current([path]):
            newest = path
        elif training.stores(epoch, every):
            break
    return newest and read_weights(newest, shapes, training.model.tables)


def store(training: Training, weights: Weights) -> None:
    """Write the weights of ``training`` after the epochs that they have, with their record."""
    path = training.weights(weights.epoch)
    with atomic_output(path) as temporary:
        write_weights(temporary, weights)
    training.manifest(weights.epoch).write([path])


def training_of(
    options: argparse.Namespace, name: str, layout: Layout, run: Run
) -> Training | Fitting:
    """Return the training of ``run``, of the recommender ``name``, from options of the command line."""
    model = RECOMMENDERS[name]
    if not issubclass(model, FactorModel):
        return Fitting(layout, run)
    hyperparameters, adversary = hyperparameters_of(options, model), adversary_of(options, model)
    return Training(layout, run, hyperparameters, adversary, options.adv_epochs)
