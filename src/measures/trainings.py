"""Trainings of one recommender on trainings of one extractor, and the effects of attacks on them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.attack_report import read_attack_report
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.attacks.settings import kind_of
from src.measures.attack_records import attacked_ids, measurable, recorded_budget, resembles
from src.measures.exposure import (
    Measuring,
    MeasuringBuyers,
    Pushed,
    Subject,
    require_target,
    retrained_lists,
)
from src.measures.threats import Threat, is_control, threat_of
from src.recommenders.data import load_training_data
from src.recommenders.fitting import files_read
from src.recommenders.models import Model
from src.recommenders.read_out import only_training

PushedByTraining = Sequence[Sequence[Pushed]]
"""Effects of one attack by training and seed."""


@dataclass(frozen=True)
class Trainings:
    """The subjects of one recommender on one extractor, by training and seed."""

    subjects: Sequence[Sequence[Subject]]
    attacks: Collection[str] | None = None
    """Names of the measured experiments, without the extractor; None means all that are there."""
    target_item: int | None = None
    """Item that buyers of the attacked items are shown, for recommenders whose users read images."""

    def __post_init__(self) -> None:
        require_target(self.first.run.model, self.target_item)

    @property
    def recommender(self) -> str:
        """Recommender in tables: its name, its options, and the item that buyers shall be shown."""
        run, target = self.first.run, self.target_item
        return run.model + run.options + ("" if target is None else f"_item{target}")

    @property
    def first(self) -> Subject:
        return self.subjects[0][0]

    @cached_property
    def attacked(self) -> list[Experiment]:
        """Attacked experiments of the extractor that every training has, by name."""
        found = [set(measurable(of[0].layout)) for of in self.subjects]
        common = set.intersection(*found)
        model_dir = self.first.run.experiment.model_dir
        chosen = (
            of
            for of in common
            if of.model_dir == model_dir
            and of.target_item in (None, self.target_item)
            and (self.attacks is None or of.attack_name in self.attacks)
        )
        return sorted(chosen, key=lambda of: of.name)

    @cached_property
    def ids(self) -> dict[Experiment, np.ndarray]:
        """Attacked items (n,) of each experiment on the first training, ascending."""
        return {of: attacked_ids(self.first.layout, of) for of in self.attacked}

    @cached_property
    def pushed(self) -> dict[Experiment, list[list[Pushed]]]:
        """Measured effects of each attack, by training and seed."""
        pushed: dict[Experiment, list[list[Pushed]]] = {of: [] for of in self.attacked}
        for seeds in self.subjects:
            measuring: dict[tuple[int, bytes], Measuring | MeasuringBuyers] = {}
            for experiment in self.attacked:
                ids = attacked_ids(seeds[0].layout, experiment)
                features = seeds[0].inputs(experiment, ids)
                of_seeds = []
                for number, subject in enumerate(seeds):
                    key = number, ids.tobytes()
                    if key not in measuring:
                        measuring[key] = self._measuring(subject, ids)
                    of_seeds.append(measuring[key].push(features))
                pushed[experiment].append(of_seeds)
        return pushed

    def _measuring(self, subject: Subject, ids: np.ndarray) -> Measuring | MeasuringBuyers:
        if self.target_item is None:
            return Measuring(subject, ids)
        return MeasuringBuyers(subject, ids, self.target_item)

    def noise(self, experiment: Experiment) -> Experiment | None:
        """Return the noise on the same items that an attack is compared with; None if there is none."""
        if is_control(experiment):
            return None
        layout = self.first.layout
        budget, ids = recorded_budget(layout, experiment), self.ids[experiment]
        for candidate in self.attacked:
            if not is_control(candidate) or not np.array_equal(self.ids[candidate], ids):
                continue
            same = budget is not None and recorded_budget(layout, candidate) == budget
            if same or resembles(layout, candidate, experiment):
                return candidate
        return None

    def seeds_by_threat(self, experiment: Experiment) -> Mapping[Threat, list[int]]:
        """Return the positions of the seeds that rank what an attacker knew equally much of."""
        seeds: dict[Threat, list[int]] = {}
        for number, subject in enumerate(self.subjects[0]):
            seeds.setdefault(threat_of(experiment, subject.run), []).append(number)
        return seeds

    def progress(self, experiment: Experiment) -> dict[str, float]:
        """Return the shares of images without a gradient at the start, and with the last step as best.

        NaN where stage 3 does not know, and for the best step of an attack whose steps fall.
        """
        tables = [
            read_attack_report(of[0].layout.attack_report(experiment)) for of in self.subjects
        ]
        table = pd.concat(tables).reindex(columns=["no_gradient", "best_step", "last_step"])
        known = table.dropna(subset=["best_step", "last_step"])
        if kind_of(experiment).steps_fall:
            known = known[:0]
        return {
            "no_gradient": float(table["no_gradient"].mean()),
            "best_is_last": float((known["best_step"] == known["last_step"]).mean()),
        }

    @cached_property
    def retrained(self) -> dict[Experiment, list[list[np.ndarray]] | None]:
        """Attacked items in each user's list after retraining, by training and seed; None if missing."""
        return {of: self._lists_after(of) for of in self.attacked}

    def _lists_after(self, experiment: Experiment) -> list[list[np.ndarray]] | None:
        lists = [
            [
                retrained_lists(subject, experiment, self._shown(subject.layout, experiment))
                for subject in seeds
            ]
            for seeds in self.subjects
        ]
        return None if any(of is None for seeds in lists for of in seeds) else lists

    def _shown(self, layout: Layout, experiment: Experiment) -> np.ndarray:
        """Return the items that lists are counted for: the attacked ones, or the target."""
        if self.target_item is None:
            return attacked_ids(layout, experiment)
        return np.array([self.target_item])


def subjects_of(
    layouts: Sequence[Layout],
    models: Sequence[str],
    epochs: int,
    seeds: Sequence[int],
    k: int,
    options: Collection[str] | None = None,
    target_item: int | None = None,
) -> list[Trainings]:
    """Read the recommenders on every extractor that has attacked experiments in all data sets.

    ``options`` are labels of options of recommenders, one of which each has; None allows any. Extractors
    may lack some of the recommenders; those that lack all of them are left out, and a line names them.
    Recommenders whose users read images shall show ``target_item`` to the buyers of attacked items.

    Raises ``UserError`` for a recommender that does not look at images or is trained on no extractor, and
    where nothing has been attacked.
    """
    for model in models:
        if not Model.parse(model).kind.reads_images:
            raise UserError(f"{model} does not look at images: no attack on them moves its lists")
        require_target(model, target_item)
    if target_item is not None and not any(Model.parse(of).kind.moves_users for of in models):
        raise UserError(f"--target_item: {models[0]} reads an image for its own item")
    dirs = {of.model_dir for of in measurable(layouts[0])}
    if not dirs:
        raise UserError(
            f"nothing is attacked in {layouts[0].data}: run classify_extract_attack.py first"
        )
    labels = [Model.parse(model).label for model in models]

    def is_trained(run: Run) -> bool:
        of_seeds = [replace(run, seed=seed) for seed in seeds]
        return any(
            only_training(layout, of, options).is_file() for layout in layouts for of in of_seeds
        )

    runs = [
        Run(Experiment(model_dir), label, epochs)
        for model_dir in sorted(dirs, key=lambda of: of or "")
        for label in labels
    ]
    trained = [run for run in runs if is_trained(run)]
    for label in labels:
        if label not in {of.model for of in trained}:
            # Reading it names the missing weights.
            trained.append(Run(runs[0].experiment, label, epochs))
    for experiment in dict.fromkeys(run.experiment for run in runs):
        if experiment not in {of.experiment for of in trained}:
            chosen = f" with {' or '.join(options)}" if options else ""
            print(f"left out {experiment.name}: no {' or '.join(labels)}{chosen} is trained on it")
    return [_read_trainings(layouts, run, seeds, k, options, target_item) for run in trained]


def _read_trainings(
    layouts: Sequence[Layout],
    run: Run,
    seeds: Sequence[int],
    k: int,
    options: Collection[str] | None,
    target_item: int | None,
) -> Trainings:
    """Read the recommender of ``run`` with all ``seeds`` in all data sets."""
    kind = Model.parse(run.model).kind
    data = [
        load_training_data(layout, run.experiment, pixels=kind.reads_pixels) for layout in layouts
    ]
    subjects = [
        [Subject.read(layout, replace(run, seed=seed), of, k, options) for seed in seeds]
        for layout, of in zip(layouts, data, strict=True)
    ]
    return Trainings(subjects, target_item=target_item if kind.moves_users else None)


def inputs_of(trainings: Sequence[Trainings]) -> dict[Layout, list[Path]]:
    """Return the files that the table is made of, by data set."""
    files: dict[Layout, dict[Path, None]] = {}
    for of in trainings:
        for layout, of_layout in files_of(of, of.attacked).items():
            files[layout] = files.get(layout, {}) | dict.fromkeys(of_layout)
    return {layout: list(of_layout) for layout, of_layout in files.items()}


def files_of(
    trainings: Trainings, experiments: Collection[Experiment], *, retrained: bool = True
) -> dict[Layout, list[Path]]:
    """Return the files of some experiments from which rows of one recommender and extractor are made."""
    files: dict[Layout, list[Path]] = {}
    for subject in (subject for seeds in trainings.subjects for subject in seeds):
        layout = subject.layout
        of_layout = files.setdefault(layout, [])
        of_layout += [layout.training_set, *layout.held_out_sets]
        of_layout += [layout.weights(subject.run), *files_read(layout, subject.run)]
        for experiment in experiments:
            attacked = replace(subject.run, experiment=experiment)
            of_layout += [layout.attack_report(experiment), *files_read(layout, attacked)]
            weights = layout.weights(attacked)
            if retrained and weights.is_file():
                of_layout.append(weights)
    return files
