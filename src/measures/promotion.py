"""The table of what attacks do to the lists: exposure and places, beside noise, with intervals.

A row of ``promotion.tsv`` is one (extractor, recommender, threat, objective, norm, eps, scope,
popularity, k), as ``exposure.py`` measures it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.attack_report import read_attack_report
from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.experiments import DEMOTE, Experiment, Run
from src.artifacts.layout import Layout
from src.attacks.items import POPULARITIES
from src.attacks.settings import KINDS
from src.measures.attack_failures import evaluated, indicators
from src.measures.changes import SEED, TRAINING, USER
from src.measures.exposure import (
    Measuring,
    MeasuringBuyers,
    Pushed,
    Subject,
    require_target,
    retrained_lists,
)
from src.measures.summary import recorded_budget, resembles
from src.measures.threats import WORST, Threat, is_control, threat_of
from src.measures.verdicts import CONTROL
from src.metrics.effects import Factor, Interval, nested_interval, verdict
from src.recommenders.data import load_training_data
from src.recommenders.fitting import files_read
from src.recommenders.models import Model
from src.recommenders.read_out import only_training

COLUMNS = (
    *("extractor", "recommender", "threat", "objective", "norm", "eps", "scope", "k"),
    *("before", "after", "change", "low", "high", "control", "control_low", "control_high"),
    *("reliance", "indicator", "items", "extractor_seeds", "recommender_seeds"),
    *("net", "net_low", "net_high", "verdict", "weakest_level"),
    *("restored", "place_before", "place_after", "score_shift", "improved", "attack"),
    *("popularity", "no_gradient", "best_is_last"),
)
"""Columns of ``promotion.tsv``; ``restored`` is the change with the clean length of features."""
NOT_EVALUATED = "not evaluated"
"""The verdict on an attack that failed to optimise."""
ANY = "any"
"""The popularity of rows on all attacked items; others are those of a third of them, or of cold ones."""
MARGIN = 0.005
"""Exposure within which an attack counts as doing no more than noise."""

Measured = Sequence[Sequence[Pushed]]
"""Effects of one attack by training and seed."""

ITEM = Factor("item")


@dataclass(frozen=True)
class Trainings:
    """The subjects of one recommender on one extractor, by training and seed."""

    subjects: Sequence[Sequence[Subject]]
    attacks: Collection[str] | None = None
    """Names of the measured experiments, without the extractor; None means all that are there."""
    target_item: int | None = None
    """Item that buyers of the attacked items are shown, of recommenders whose users read images."""

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
            and (self.attacks is None or replace(of, model_dir=None).name in self.attacks)
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
                features = seeds[0].attacked_features(experiment, ids)
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
        """The noise on the same items that an attack is compared with; None where there is none."""
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

        NaN where stage 3 does not know, and for the best step of an attack whose steps fall to nothing.
        """
        tables = [
            read_attack_report(of[0].layout.attack_report(experiment)) for of in self.subjects
        ]
        table = pd.concat(tables).reindex(columns=["no_gradient", "best_step", "last_step"])
        known = table.dropna(subset=["best_step", "last_step"])
        if KINDS[experiment.attack].steps_fall:
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


def measurable(layout: Layout) -> list[Experiment]:
    """Attacked experiments of a data set whose images and features stage 3 has reported."""
    return [
        of
        for of in layout.attacked_experiments()
        if layout.attack_report(of).is_file() and layout.features(of).is_file()
    ]


def attacked_ids(layout: Layout, experiment: Experiment) -> np.ndarray:
    """(n,) int64, ascending."""
    return np.sort(read_attack_report(layout.attack_report(experiment))["image"].to_numpy())


def promotion_rows(trainings: Trainings) -> list[dict[str, object]]:
    """Return the rows of one recommender on one extractor: ``COLUMNS`` without indicators, and ids."""
    rows = []
    for experiment, pushed in trainings.pushed.items():
        noise = trainings.noise(experiment)
        for threat, seeds in trainings.seeds_by_threat(experiment).items():
            judged = _of_seeds(pushed, seeds)
            by_noise = _of_seeds(trainings.pushed[noise], seeds) if noise else None
            said = _said(trainings, experiment) | {
                "threat": threat,
                "recommender_seeds": len(seeds),
            }
            rows += [
                said
                | {"scope": "one", "popularity": popularity}
                | _one(judged, by_noise, popularity)
                for popularity in (ANY, *_groups(judged))
            ]
            listed = _listed(judged), by_noise and _listed(by_noise)
            rows.append(said | {"scope": "all", "popularity": ANY} | _compared(*listed, USER))
        if after := trainings.retrained[experiment]:
            by_noise = noise and trainings.retrained[noise]
            rows.append(
                _said(trainings, experiment)
                | {"scope": "all", "popularity": ANY, "threat": "retrained"}
                | _retrained(pushed, after, by_noise)
            )
    return rows + worst_rows(trainings)


def worst_rows(trainings: Trainings) -> list[dict[str, object]]:
    """Return a row for each budget and choice of items: of each item its best image over all attacks.

    The row is named after the attack that is best for most items. A single attack has no such row.
    """
    rivals: dict[tuple, list[Experiment]] = {}
    for experiment in trainings.attacked:
        if not is_control(experiment):
            demotes = experiment.objective.startswith(DEMOTE)
            budget = recorded_budget(trainings.first.layout, experiment)
            key = budget, demotes, trainings.ids[experiment].tobytes()
            rivals.setdefault(key, []).append(experiment)
    return [
        _worst_row(trainings, of, demotes) for (_, demotes, _), of in rivals.items() if len(of) > 1
    ]


def _worst_row(
    trainings: Trainings, rivals: Sequence[Experiment], demotes: bool
) -> dict[str, object]:
    best = np.argmin if demotes else np.argmax
    chosen, pushed = [], []
    for of_seeds in zip(*(trainings.pushed[of] for of in rivals), strict=True):
        pushed.append([])
        for of_rivals in zip(*of_seeds, strict=True):
            after = np.stack([of.after for of in of_rivals])
            chosen.append(best(after, axis=0))
            after = np.take_along_axis(after, chosen[-1][None], axis=0)[0]
            pushed[-1].append(replace(of_rivals[0], after=after))
    named = rivals[int(np.bincount(np.concatenate(chosen)).argmax())]
    noise = trainings.noise(named)
    exposed = _exposures(pushed, ANY), noise and _exposures(trainings.pushed[noise], ANY)
    said = {
        "threat": WORST,
        "objective": f"{DEMOTE if demotes else ''}any",
        "scope": "one",
        "popularity": ANY,
        "improved": float(np.mean([(of.after > of.before).mean() for s in pushed for of in s])),
    }
    return _said(trainings, named) | said | _compared(*exposed, ITEM)


def _of_seeds(pushed: Measured, seeds: Sequence[int]) -> Measured:
    return [[of[seed] for seed in seeds] for of in pushed]


def _said(trainings: Trainings, experiment: Experiment) -> dict[str, object]:
    subject = trainings.first
    budget = recorded_budget(subject.layout, experiment)
    objective = experiment.objective or "class"
    return {
        "extractor": experiment.extractor,
        "recommender": trainings.recommender,
        "objective": CONTROL if is_control(experiment) else objective,
        "norm": budget[1] if budget else "2",
        "eps": budget[0] if budget else np.nan,
        "k": subject.k,
        "reliance": subject.reliance.lost_hits,
        "items": len(trainings.ids[experiment]),
        "extractor_seeds": len(trainings.subjects),
        "recommender_seeds": len(trainings.subjects[0]),
        "attack": replace(experiment, model_dir=None).name,
        "item_ids": tuple(trainings.ids[experiment].tolist()),
        **trainings.progress(experiment),
    }


def _groups(pushed: Measured) -> list[str]:
    """Return the groups of popularity that every training attacks, if there are several."""
    found = [set(of[0].popularity) for of in pushed]
    common = [name for name in POPULARITIES if all(name in of for of in found)]
    return common if len(set.union(*found)) > 1 else []


def _one(pushed: Measured, noise: Measured | None, popularity: str) -> dict[str, object]:
    """Return the effects on items of one popularity, each of which is attacked alone."""

    def mean(value: Callable[[Pushed], np.ndarray]) -> float:
        means = [value(of)[_in_group(of, popularity)].mean() for seeds in pushed for of in seeds]
        return float(np.mean(means))

    exposed = (of and _exposures(of, popularity) for of in (pushed, noise))
    return _compared(*exposed, ITEM) | {
        "items": int(_in_group(pushed[0][0], popularity).sum()),
        "restored": mean(lambda of: of.restored - of.before),
        "place_before": mean(lambda of: of.places[0]),
        "place_after": mean(lambda of: of.places[1]),
        "score_shift": mean(lambda of: of.shift),
        "improved": mean(lambda of: of.after > of.before),
    }


def _in_group(of: Pushed, popularity: str) -> np.ndarray:
    """Return which items have this popularity, (n,) bool."""
    return np.ones(len(of.ids), bool) if popularity == ANY else of.popularity == popularity


def _exposures(pushed: Measured, popularity: str) -> tuple[np.ndarray, np.ndarray]:
    """Return exposures before and after by training, seed and item.

    Where trainings have other items, the arrays are (trainings, seeds) and have means over items, which
    then are a part of what differs between trainings.
    """
    ids = [of.ids[_in_group(of, popularity)] for seeds in pushed for of in seeds]
    same = all(np.array_equal(of, ids[0]) for of in ids)

    def by_seed(values: np.ndarray, of: Pushed) -> np.ndarray:
        values = values[_in_group(of, popularity)]
        return values if same else values.mean()

    before = np.array([[by_seed(of.before, of) for of in seeds] for seeds in pushed])
    return before, np.array([[by_seed(of.after, of) for of in seeds] for seeds in pushed])


def _listed(pushed: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Return attacked items in the lists before and after by training, seed and user."""
    before = np.array([[of.listed_before for of in seeds] for seeds in pushed], np.float64)
    return before, np.array([[of.listed for of in seeds] for seeds in pushed], np.float64)


def _compared(
    effect: tuple[np.ndarray, np.ndarray], noise: tuple[np.ndarray, np.ndarray] | None, unit: Factor
) -> dict[str, object]:
    """Before, after, the change, that of noise, and their difference, with intervals."""
    before, after = effect
    factors = (TRAINING, SEED, unit)[: before.ndim]
    change = nested_interval(after - before, factors)
    row = {"before": before.mean(), "after": after.mean()} | _bounds(change, "change", "")
    row["weakest_level"] = change.weakest_level
    if noise is None:
        return row
    control = noise[1] - noise[0]
    row |= _bounds(nested_interval(control, factors), "control", "control_")
    net = nested_interval(after - before - control, factors)
    row |= _bounds(net, "net", "net_")
    row["verdict"] = verdict(float(net.low), float(net.high), MARGIN)
    return row


def _bounds(interval: Interval, name: str, prefix: str) -> dict[str, object]:
    return {
        name: float(interval.effect),
        f"{prefix}low": float(interval.low),
        f"{prefix}high": float(interval.high),
    }


def _retrained(
    pushed: Measured, lists: list[list[np.ndarray]], noise: list[list[np.ndarray]] | None
) -> dict[str, object]:
    before, _ = _listed(pushed)
    control = (before, np.array(noise, np.float64)) if noise else None
    return _compared((before, np.array(lists, np.float64)), control, USER)


def promotion_table(trainings: Sequence[Trainings]) -> pd.DataFrame:
    """Return ``promotion.tsv``: the rows of all recommenders and extractors, with indicators."""
    rows = pd.DataFrame([row for of in trainings for row in promotion_rows(of)])
    rows = rows.reindex(columns=[*COLUMNS, "item_ids"])
    rows["indicator"] = indicators(rows)
    rows["verdict"] = rows["verdict"].fillna("").where(evaluated(rows), NOT_EVALUATED)
    return rows[list(COLUMNS)]


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
    may lack some of the recommenders; those that lack all of them are left out, and it is said.
    ``target_item`` is what recommenders whose users read images shall show to buyers of attacked items.

    Raises ``UserError`` for a recommender that does not look at images or is trained on no extractor, and
    where nothing has been attacked.
    """
    for model in models:
        if not Model.parse(model).kind.reads_images:
            raise UserError(f"{model} does not look at images: no attack on them moves its lists")
        require_target(model, target_item)
    moving = [model for model in models if Model.parse(model).kind.moves_users]
    if target_item is not None and not moving:
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
            trained.append(
                Run(runs[0].experiment, label, epochs)
            )  # reading it names the missing weights
    for experiment in dict.fromkeys(run.experiment for run in runs):
        if experiment not in {of.experiment for of in trained}:
            chosen = f" with {' or '.join(options)}" if options else ""
            print(f"left out {experiment.name}: no {' or '.join(labels)}{chosen} is trained on it")
    trainings = []
    for run in trained:
        pixels = Model.parse(run.model).kind.reads_pixels
        data = [load_training_data(layout, run.experiment, pixels=pixels) for layout in layouts]
        subjects = [
            [Subject.read(layout, replace(run, seed=seed), of, k, options) for seed in seeds]
            for layout, of in zip(layouts, data, strict=True)
        ]
        target = target_item if Model.parse(run.model).kind.moves_users else None
        trainings.append(Trainings(subjects, target_item=target))
    return trainings


def inputs_of(trainings: Sequence[Trainings]) -> dict[Layout, list[Path]]:
    """The files that the table is made of, by data set."""
    files: dict[Layout, dict[Path, None]] = {}
    for of in trainings:
        for layout, of_layout in files_of(of, of.attacked).items():
            files[layout] = files.get(layout, {}) | dict.fromkeys(of_layout)
    return {layout: list(of_layout) for layout, of_layout in files.items()}


def files_of(
    trainings: Trainings, experiments: Collection[Experiment], *, retrained: bool = True
) -> dict[Layout, list[Path]]:
    """The files of some experiments that the rows of one recommender on one extractor are made of."""
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


def read_promotion(path: Path) -> pd.DataFrame:
    """Read ``promotion.tsv``."""
    numbers = [
        *COLUMNS[COLUMNS.index("k") : COLUMNS.index("indicator")],
        "net",
        "net_low",
        "net_high",
    ]
    table = read_results(path, COLUMNS, text=("norm",), numbers=numbers)
    return table.fillna({"indicator": "", "verdict": "", "weakest_level": ""})
