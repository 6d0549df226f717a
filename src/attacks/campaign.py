"""Attack on all images of a class of a catalogue, batch by batch, so that a kill costs few batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from src.artifacts.atomic import named
from src.artifacts.attack_report import read_attack_report
from src.artifacts.classes import Classes, write_attacked_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import DEMOTE
from src.artifacts.features import write_features
from src.artifacts.fidelity import Fidelity
from src.artifacts.parts import Parts
from src.artifacts.progress import progress_bar
from src.artifacts.tables import write_table
from src.attacks.attack import LEVELS, Attack, Budget, Goal
from src.attacks.evasion import Evading
from src.attacks.expectation import Expected
from src.attacks.freezing import frozen
from src.attacks.given import Given
from src.attacks.goals import ClassGoal, predict_reached
from src.attacks.list_goals import ListGoal, PlaceGoal, list_goal, place_goal
from src.attacks.progress import FollowedGoal, Progress
from src.attacks.registry import Noise
from src.attacks.repeated import BestOfRestarts, Rechecked, Restarted
from src.attacks.settings import AttackSettings
from src.attacks.storage import norms, to_levels, to_pixels, write_images
from src.attacks.victim import ExtractorVictim
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.defences.detectors import Guard
from src.extractors.distribution import own_share, rank, share_label
from src.extractors.extractor import Extractor, Precision, Prediction
from src.extractors.feeding import FittingBatches
from src.extractors.inference import Predictions, predict
from src.recommenders.audience import Audience
from src.recommenders.buyers import Buyers

IMAGES = "images"
OUTPUTS = ("classes.csv", "features.npy", "attack.tsv", IMAGES)
"""Names of the files and folders of an attacked experiment."""


_WRITERS = 2
"""Threads that store attacked images while the next ones are attacked, if threads read images too."""
FRESH_DRAWS = 10
"""Draws of a random defence that judge stored images."""


@dataclass(frozen=True)
class Campaign:
    """Attack on the images ``image_ids`` of ``catalogue``.

    The images are split into the same batches in every run, and the random choices of a batch depend
    on the seed and the batch's number only, so that a run that was killed and continued, or shared by
    several processes, finds what one uninterrupted process finds.
    """

    extractor: Extractor
    settings: AttackSettings
    fidelity: Fidelity
    catalogue: ImageSet
    image_ids: np.ndarray
    batch_size: int = 32
    workers: int = 0
    features_precision: Precision = "fp32"
    """Precision of the stored images' features, equal to that of the clean features."""
    attacked: Extractor | None = None
    """Extractor that the attack sees; None is ``extractor``, which judges."""
    sizes: Mapping[int, float] | None = None
    """L2 norms in grey levels of the changes that noise resembles, by image id."""
    audience: Audience | Buyers | None = None
    """Users whose lists an attack on lists changes; its items are ``image_ids``."""
    accounts: Audience | None = None
    """Users whose lists the attack asks for places, where it is told nothing else."""
    given: Mapping[int, Path] | None = None
    """Files of images that were attacked elsewhere, by image id."""
    scorer: Extractor | None = None
    """Network of a recommender that reads pixels: the attack sees it, and it judges what users are
    shown. Stored classes and features are those of ``extractor`` in any case."""
    guard: Guard | None = None
    """Detector under whose threshold the images shall stay."""

    @property
    def budget(self) -> Budget | None:
        """Budget of a stored image; None if the attack has no budget in pixels."""
        return self.settings.attack.budget if self.fidelity.budget_space == "pixel" else None

    def attack(self, folder: Path, parts: Parts) -> None:
        """Attack the images and store them below ``folder`` as ``images/<id>.tiff``.

        Batches that ``parts`` holds are not attacked again. If ``torchrun`` has started several
        processes, each attacks its share of the rest.
        """
        victim = ExtractorVictim(
            self.scorer or self.attacked or self.extractor,
            self.fidelity.budget_space,
            fast=self.settings.fast,
            precision=self.settings.precision,
        )
        batches = self._batches()
        unfinished = parts.unfinished(len(batches))
        own = own_share(unfinished)
        per_image = self.settings.passes
        finished = len(self.image_ids) - sum(len(batches[number]) for number in unfinished)
        with (
            progress_bar(
                total=(finished + sum(len(batches[number]) for number in own)) * per_image,
                initial=finished * per_image,
                desc=share_label(f"{self.settings.kind}, image passes"),
                unit="pass",
                disable=rank() > 0,
            ) as bar,
            frozen(*victim.networks, self.extractor),
        ):
            victim.on_pass = bar.update
            attacked = self._attack_batches(victim, {number: batches[number] for number in own})
            store = partial(self._store, folder / IMAGES)
            for batch, columns in read_ahead(store, attacked, min(self.workers, _WRITERS)):
                parts.save(batch.number, columns)
                finished += len(batch.clean)
                # An attack may need fewer passes than its maximum.
                bar.update(finished * per_image - bar.n)

    def judge(self, folder: Path, parts: Parts) -> "AttackOutcome":
        """Read back the images that ``attack`` has stored, and classify them in fp32."""
        found = [parts.read(number) for number in range(len(self._batches()))]
        columns = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
        stored = open_catalogue(folder / IMAGES, resize=0)
        predictions = self._predict(stored, "fp32")
        if self.features_precision != "fp32":
            rounded = self._predict(stored, self.features_precision)
            predictions = replace(predictions, features=rounded.features)
        images = pd.DataFrame(columns).sort_values("image", ignore_index=True)
        judged = predictions
        if self.scorer is not None:
            judged = self._predict(stored, "fp32", network=self.scorer)
        images.insert(2, "success", self._succeeded(judged))
        if self.extractor.is_random and self.knows_success:
            images = images.assign(**self._over_draws(stored))
        return AttackOutcome(images, predictions)

    def _over_draws(self, stored: ImageSet) -> dict[str, np.ndarray]:
        """Judge the stored images in fresh draws of a random defence: mean and worst of each image.

        The values are exposures for attacks on lists, and successes for attacks on classes.
        """
        draws = (self._predict(stored, "fp32", seed=seed) for seed in range(FRESH_DRAWS))
        values = np.stack([self._value(of) for of in draws])
        lowest = self.settings.objective.startswith(DEMOTE)
        worst = values.min(axis=0) if lowest else values.max(axis=0)
        return {"draws_mean": values.mean(axis=0), "draws_worst": worst}

    def _value(self, predictions: Predictions) -> np.ndarray:
        if self.audience is None:
            return self._succeeded(predictions).astype(np.float64)
        return self._in_lists(predictions, lambda goal, prediction: goal.exposure(prediction))

    @property
    def knows_success(self) -> bool:
        """Whether images can succeed: images given for lists need an audience for that."""
        return not self.settings.objective or self.audience is not None

    def _succeeded(self, predictions: Predictions) -> np.ndarray:
        """Return whether each stored image (ascending ids) is where the attack wants it, (n,) bool.

        Without ``knows_success`` it is (n,) float64, all NaN.
        """
        rows = np.arange(len(self.image_ids))
        if not self.knows_success:
            return np.full(len(rows), np.nan)
        if self.audience is None:
            goal = self._goal(rows)
            hit = predictions.classes == goal.classes.numpy()
            return hit if goal.targeted else ~hit
        return self._in_lists(predictions, lambda goal, prediction: goal.reached(prediction))

    def _in_lists(
        self, predictions: Predictions, judge: Callable[[ListGoal, Prediction], torch.Tensor]
    ) -> np.ndarray:
        """Return what ``judge`` says of each stored image and its goal in lists, (n,)."""
        features = torch.from_numpy(predictions.features).to(self.extractor.device)
        of_batches = [
            judge(self._list_goal[torch.from_numpy(batch)], Prediction(None, features[batch]))
            for batch in np.array_split(np.arange(len(features)), len(self._batches()))
        ]
        return torch.cat(of_batches).cpu().numpy()

    def _batches(self) -> list[np.ndarray]:
        """Return positions in the catalogue, always split into the same batches."""
        positions = self.catalogue.positions(self.image_ids)
        return list(self.catalogue.batches(positions, self.batch_size))

    def _attack_batches(
        self, victim: ExtractorVictim, batches: Mapping[int, np.ndarray]
    ) -> Iterator["_AttackedBatch"]:
        """Attack batches of positions by number; images are read ahead while the network works."""
        fitting = FittingBatches()
        read = read_ahead(self.catalogue.batch, batches.values(), self.workers)
        for number, (positions, clean) in zip(batches, read, strict=True):
            attack = partial(self._attack_rows, victim, number, positions, clean)
            images, columns = zip(*fitting.run(attack, len(clean)), strict=True)
            joined = {name: np.concatenate([of[name] for of in columns]) for name in columns[0]}
            image_ids = self.catalogue.ids[positions]
            yield _AttackedBatch(number, image_ids, clean, torch.cat(images), joined)

    def _attack_rows(
        self,
        victim: ExtractorVictim,
        number: int,
        positions: np.ndarray,
        clean: np.ndarray,
        rows: slice,
    ) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        """Attack some rows of a batch; return images on the CPU and columns of the outcome.

        The random choices depend on the first row too, for a batch that had to be halved.
        """
        device = self.extractor.device
        positions, clean = positions[rows], clean[rows]
        of_goal = np.searchsorted(self.image_ids, self.catalogue.ids[positions])
        goal = self._goal(of_goal).to(device)
        told = goal if self.accounts is None else self._place_goal[torch.from_numpy(of_goal)]
        progress = Progress(len(clean))
        victim.on_start = progress.note_start
        if isinstance(told, ListGoal):
            told = FollowedGoal(told)
        passes = victim.all_passes
        # The caller's random state is not changed.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(_seed_of(self.settings.seed, number, rows.start))
            points = victim.to_points(to_pixels(clean, device))
            attack = self._prepared(victim, self.catalogue.ids[positions])
            attacked = attack(victim, points, told)
            passes = victim.all_passes - passes
            reached = np.full(len(clean), np.nan)
            if self.knows_success:
                judge = ExtractorVictim(self.scorer or self.extractor, self.fidelity.budget_space)
                reached = predict_reached(judge, attacked, goal).cpu().numpy()
        if isinstance(told, FollowedGoal):
            progress.note_goal(told)
        columns = {
            "success_before_rounding": reached,
            "passes": np.full(len(clean), passes / len(clean)),
            **progress.columns(),
        }
        return victim.to_images(attacked).cpu(), columns

    def _store(self, folder: Path, batch: "_AttackedBatch") -> dict[str, np.ndarray]:
        """Store the images of a batch; return its columns of the outcome."""
        levels = to_levels(batch.images, batch.clean, self.fidelity.quantise, self.budget)
        write_images(folder, batch.image_ids, levels, batch.clean, self.budget)
        change = levels.astype(np.int16) - batch.clean
        found = batch.columns
        return {
            "image": batch.image_ids,
            "success_before_rounding": found["success_before_rounding"],
            "linf": norms(change, np.inf),
            "l2": norms(change, 2) / LEVELS,
            **{name: of for name, of in found.items() if name != "success_before_rounding"},
        }

    def _prepared(self, victim: ExtractorVictim, image_ids: np.ndarray) -> Attack:
        """Return the attack for some images, repeated if the settings ask for it."""
        attack, settings = self.settings.attack, self.settings
        if isinstance(attack, Noise) and self.sizes is not None:
            attack = replace(
                attack, sizes=tuple(self.sizes[int(image_id)] for image_id in image_ids)
            )
        if isinstance(attack, Given) and self.given is not None:
            files = tuple(self.given[int(image_id)] for image_id in image_ids)
            attack = replace(attack, files=files)
        if settings.restarts > 1:
            again = Restarted if self.audience is None else BestOfRestarts
            attack = again(attack, settings.restarts)
        if settings.fast and settings.attack.smallest_change:
            attack = Rechecked(attack, victim.exact)
        if self.guard is not None:
            attack = Evading(attack, self.guard)
        if settings.eot and settings.eot > 1:
            attack = Expected(attack, settings.eot)
        return attack

    def _goal(self, rows: np.ndarray) -> Goal:
        """Return the goal of some of the images, by their rows in ``image_ids``."""
        settings = self.settings
        if self.audience is not None:
            return self._list_goal[torch.from_numpy(rows)]
        targeted = settings.target is not None
        return ClassGoal(
            torch.full((len(rows),), settings.target if targeted else settings.origin), targeted
        )

    @cached_property
    def _list_goal(self) -> ListGoal:
        """Return the goal of all images, on the extractor's device."""
        return list_goal(self.settings.objective, self.audience, self.extractor.device)

    @cached_property
    def _place_goal(self) -> PlaceGoal:
        """Return the goal that an attack on places reads, of all images, on the extractor's device."""
        settings = self.settings
        return place_goal(settings.objective, self.accounts, settings.top_k, self.extractor.device)

    def _predict(
        self,
        stored: ImageSet,
        precision: Precision,
        seed: int = 0,
        network: Extractor | None = None,
    ) -> Predictions:
        return predict(
            network or self.extractor,
            stored,
            batch_size=self.batch_size,
            workers=self.workers,
            precision=precision,
            progress="reading back",
            seed=seed,
        )


@dataclass(frozen=True)
class _AttackedBatch:
    """Batch of n images that is attacked and not yet stored."""

    number: int
    image_ids: np.ndarray
    clean: np.ndarray
    """Grey levels (n, height, width, 3) uint8 before the attack."""
    images: torch.Tensor
    """Attacked images (n, 3, height, width) in [0, 1], on the CPU."""
    columns: dict[str, np.ndarray]
    """Columns of the outcome that the attack knows, (n,) each."""


@dataclass(frozen=True)
class AttackOutcome:
    """Result for each attacked image, in ascending order of image id.

    ``images`` has the columns image, success_before_rounding, success (of the stored file), linf (grey
    levels) and l2 (pixels in [0, 1]) of the stored change, passes (images that the attack sent
    through the network for one image, the mean of its batch), no_gradient (whether the first gradient
    was useless), best_step and last_step (of an attack on lists; 0 is its start). Successes are NaN
    without ``Campaign.knows_success``, and so are notes that the attack does not make. With a random
    defence there are also draws_mean and draws_worst (``_over_draws``).
    """

    images: pd.DataFrame
    predictions: Predictions

    def classes(self, start: Classes) -> Classes:
        """Return the predicted classes; without a head, the shop's, which are those of ``start``."""
        predicted = self.predictions
        if predicted.classes is None:
            return start
        return Classes(
            self.images["image"].to_numpy(),
            predicted.classes,
            predicted.labels,
            predicted.probabilities.astype(np.float64),
        )

    @property
    def success_rates(self) -> tuple[float, float]:
        """Return the percentages of images that succeeded before rounding, and as stored."""
        means = self.images[["success_before_rounding", "success"]].mean()
        return 100 * float(means.iloc[0]), 100 * float(means.iloc[1])

    def write(self, folder: Path, start: Classes, clean_features: np.ndarray) -> tuple[Path, ...]:
        """Write classes.csv, features.npy and attack.tsv beside the images; return all outputs.

        ``start`` holds the clean predictions of the attacked images. ``clean_features`` (items, D)
        becomes the features of all items, with the attacked rows (row = item id) replaced.
        """
        outputs = tuple(folder / name for name in OUTPUTS)
        write_attacked_classes(outputs[0], self.classes(start), start)
        features = clean_features.copy()
        features[self.images["image"]] = self.predictions.features
        write_features(outputs[1], features)
        numbers = ("success_before_rounding", "success", "no_gradient", "best_step", "last_step")
        report = self.images.astype(dict.fromkeys(numbers, "Int64"))
        with named(outputs[2]):
            write_table(outputs[2], report)
        return outputs


def change_sizes(report: Path, image_ids: np.ndarray) -> dict[int, float]:
    """Return L2 norms in grey levels of the changes in an ``attack.tsv``, by image id.

    Raises ``UserError`` if an image is missing.
    """
    found = read_attack_report(report, needs=["l2"]).set_index("image")["l2"] * LEVELS
    missing = np.setdiff1d(image_ids, found.index)
    if len(missing):
        raise UserError(f"{report} has no image {missing[0]}: it is an attack on other images")
    return {int(image_id): float(found[image_id]) for image_id in image_ids}


def _seed_of(seed: int, batch: int, row: int) -> int:
    """Return independent seeds for the batches of a run, and for the parts of a halved one."""
    words = (seed, batch) if row == 0 else (seed, batch, row)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
