"""The table of what attacks do to the lists: exposure and places, beside noise, with intervals.

A row of ``promotion.tsv`` is one (extractor, recommender, threat, objective, norm, eps, scope, k), as
``exposure.py`` measures it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.experiments import DEMOTE, Experiment, Run
from src.artifacts.layout import Layout
from src.attacks.given import GIVEN
from src.attacks.registry import ATTACKS
from src.measures.changes import SEED, TRAINING, USER
from src.measures.exposure import Measuring, Pushed, Subject, retrained_lists
from src.measures.summary import recorded_budget, resembles
from src.measures.terminal import format_table
from src.measures.verdicts import CONTROL
from src.metrics.effects import Factor, Interval, nested_interval, verdict
from src.recommenders.data import load_training_data
from src.recommenders.models import Model
from src.recommenders.read_out import weights_text
from src.recommenders.reliance import HARDLY

COLUMNS = (
    *("extractor", "recommender", "threat", "objective", "norm", "eps", "scope", "k"),
    *("before", "after", "change", "low", "high", "control", "control_low", "control_high"),
    *("reliance", "indicator", "items", "extractor_seeds", "recommender_seeds"),
    *("net", "net_low", "net_high", "verdict", "weakest_level"),
    *("restored", "place_before", "place_after", "score_shift", "improved", "attack"),
)
"""Columns of ``promotion.tsv``; ``restored`` is the change with the clean length of features."""
MARGIN = 0.005
"""Exposure within which an attack counts as doing no more than noise."""
_CONVERGED = 0.02
_TEXT_OF_RECOMMENDER = re.compile(r"[A-Z][A-Za-z-]*-ep\d+[A-Za-z0-9.+-]*")
_SIZES = re.compile(r"(eps_it|eps|nb_iter|nb_it|restarts)(\d+(?:\.\d+)?)_?")
_JUDGE = ["extractor", "recommender", "scope", "k"]
_AIM = ["objective", "norm", "eps", "items"]

ITEM = Factor("item")

Threat = Literal[
    "white_box",
    "other_seed",
    "other_recommender",
    "ranks_only",
    "unaware",
    "transfer",
    "retrained",
]
_KNOWING_LESS = ("other_recommender", "ranks_only", "unaware", "transfer")
"""Other seeds are left out: attacks on them do as well as on the own one, by chance a little better."""


def threat_of(experiment: Experiment, run: Run) -> Threat:
    """What the attacker of ``experiment`` knew, where the recommender of ``run`` ranks."""
    parts = experiment.parameters.split("_")
    if experiment.attack == GIVEN:
        return "transfer"
    if "unaware" in parts:
        return "unaware"
    if not experiment.objective:
        return "white_box"
    attacked = next(part for part in parts if _TEXT_OF_RECOMMENDER.fullmatch(part))
    own = weights_text(run)
    if attacked == own:
        return "ranks_only" if ATTACKS[experiment.attack].asks_places else "white_box"
    same = re.sub(r"-seed\d+$", "", attacked) == re.sub(r"-seed\d+$", "", own)
    return "other_seed" if same else "other_recommender"


def is_control(experiment: Experiment) -> bool:
    """Return whether the images of ``experiment`` hold noise, of this extractor or another one."""
    given = experiment.attack == GIVEN and CONTROL in experiment.parameters.split("_")
    return experiment.attack == CONTROL or given


@dataclass(frozen=True)
class Trainings:
    """The subjects of one recommender on one extractor, by training and seed."""

    subjects: Sequence[Sequence[Subject]]

    @property
    def first(self) -> Subject:
        return self.subjects[0][0]

    @cached_property
    def attacked(self) -> list[Experiment]:
        """Attacked experiments of the extractor that every training has, by name."""
        found = [set(measurable(of[0].layout)) for of in self.subjects]
        common = set.intersection(*found)
        model_dir = self.first.run.experiment.model_dir
        return sorted((of for of in common if of.model_dir == model_dir), key=lambda of: of.name)

    @cached_property
    def ids(self) -> dict[Experiment, np.ndarray]:
        """Attacked items (n,) of each experiment on the first training, ascending."""
        return {of: attacked_ids(self.first.layout, of) for of in self.attacked}

    @cached_property
    def pushed(self) -> dict[Experiment, list[list[Pushed]]]:
        """Measured effects of each attack, by training and seed."""
        pushed: dict[Experiment, list[list[Pushed]]] = {of: [] for of in self.attacked}
        for seeds in self.subjects:
            measuring: dict[tuple[int, bytes], Measuring] = {}
            for experiment in self.attacked:
                ids = attacked_ids(seeds[0].layout, experiment)
                features = np.load(seeds[0].layout.features(experiment), mmap_mode="r")[ids]
                of_seeds = []
                for number, subject in enumerate(seeds):
                    key = number, ids.tobytes()
                    if key not in measuring:
                        measuring[key] = Measuring(subject, ids)
                    of_seeds.append(measuring[key].push(features))
                pushed[experiment].append(of_seeds)
        return pushed

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

    @cached_property
    def retrained(self) -> dict[Experiment, list[list[np.ndarray]] | None]:
        """Attacked items in each user's list after retraining, by training and seed; None if missing."""
        return {of: self._lists_after(of) for of in self.attacked}

    def _lists_after(self, experiment: Experiment) -> list[list[np.ndarray]] | None:
        lists = [
            [
                retrained_lists(subject, experiment, attacked_ids(subject.layout, experiment))
                for subject in seeds
            ]
            for seeds in self.subjects
        ]
        return None if any(of is None for seeds in lists for of in seeds) else lists


def measurable(layout: Layout) -> list[Experiment]:
    """Attacked experiments of a data set whose images and features stage 3 has reported."""
    return [
        of
        for of in layout.attacked_experiments()
        if layout.attack_report(of).is_file() and layout.features(of).is_file()
    ]


def attacked_ids(layout: Layout, experiment: Experiment) -> np.ndarray:
    """(n,) int64, ascending."""
    table = pd.read_csv(layout.attack_report(experiment), sep="\t", usecols=["image"])
    return np.sort(table["image"].to_numpy(np.int64))


def promotion_rows(trainings: Trainings) -> list[dict[str, object]]:
    """The rows of one recommender on one extractor: ``COLUMNS``, indicators still empty."""
    rows = []
    for experiment, pushed in trainings.pushed.items():
        noise = trainings.noise(experiment)
        by_noise = trainings.pushed[noise] if noise else None
        said = _said(trainings, experiment)
        one = _compared(
            *_values(pushed, "before", "after", ITEM),
            by_noise and _values(by_noise, "before", "after", ITEM),
        )
        flat = [of for seeds in pushed for of in seeds]
        rows.append(
            said
            | {"scope": "one"}
            | one
            | {
                "restored": float(np.mean([(of.restored - of.before).mean() for of in flat])),
                "place_before": float(np.mean([of.places[0].mean() for of in flat])),
                "place_after": float(np.mean([of.places[1].mean() for of in flat])),
                "score_shift": float(np.mean([of.shift.mean() for of in flat])),
                "improved": float(np.mean([(of.after > of.before).mean() for of in flat])),
            }
        )
        lists = "listed_before", "listed"
        rows.append(
            said
            | {"scope": "all"}
            | _compared(
                *_values(pushed, *lists, USER), by_noise and _values(by_noise, *lists, USER)
            )
        )
        if after := trainings.retrained[experiment]:
            rows.append(
                said
                | {"scope": "all", "threat": "retrained"}
                | _retrained(pushed, after, by_noise, noise and trainings.retrained[noise])
            )
    return rows


def _said(trainings: Trainings, experiment: Experiment) -> dict[str, object]:
    subject = trainings.first
    budget = recorded_budget(subject.layout, experiment)
    objective = experiment.objective or "class"
    return {
        "extractor": experiment.extractor,
        "recommender": subject.run.model + subject.run.options,
        "threat": threat_of(experiment, subject.run),
        "objective": CONTROL if is_control(experiment) else objective,
        "norm": budget[1] if budget else "2",
        "eps": budget[0] if budget else np.nan,
        "k": subject.k,
        "reliance": subject.reliance.lost_hits,
        "indicator": "",
        "items": len(trainings.ids[experiment]),
        "extractor_seeds": len(trainings.subjects),
        "recommender_seeds": len(trainings.subjects[0]),
        "attack": replace(experiment, model_dir=None).name,
    }


def _values(
    pushed: Sequence[Sequence[Pushed]], before: str, after: str, unit: Factor
) -> tuple[np.ndarray, np.ndarray, Factor]:
    """Before and after by training, seed and unit; means over units where trainings have other ones."""
    of_items = [[(getattr(of, before), getattr(of, after)) for of in seeds] for seeds in pushed]
    same = unit is USER or all(
        np.array_equal(of.ids, pushed[0][0].ids) for seeds in pushed for of in seeds
    )
    if not same:
        of_items = [
            [tuple(values.mean(keepdims=True) for values in pair) for pair in seeds]
            for seeds in of_items
        ]
    values = np.array(of_items, np.float64)
    return values[:, :, 0], values[:, :, 1], unit


def _compared(
    before: np.ndarray,
    after: np.ndarray,
    unit: Factor,
    noise: tuple[np.ndarray, np.ndarray, Factor] | None,
) -> dict[str, object]:
    """Before, after, the change, that of noise, and their difference, with intervals."""
    factors = (TRAINING, SEED, unit)
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
    pushed: Sequence[Sequence[Pushed]],
    lists: list[list[np.ndarray]],
    noise: Sequence[Sequence[Pushed]] | None,
    noise_lists: list[list[np.ndarray]] | None,
) -> dict[str, object]:
    before, _, unit = _values(pushed, "listed_before", "listed", USER)
    control = None
    if noise and noise_lists:
        control = before, np.array(noise_lists, np.float64), unit
    return _compared(before, np.array(lists, np.float64), unit, control)


def promotion_table(trainings: Sequence[Trainings]) -> pd.DataFrame:
    """``promotion.tsv``: the rows of all recommenders and extractors, with indicators."""
    rows = [row for of in trainings for row in promotion_rows(of)]
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table["verdict"] = table["verdict"].fillna("")
    table["indicator"] = indicators(table)
    return table


def indicators(table: pd.DataFrame) -> list[str]:
    """Signs that an attack failed to optimise, by row; a row with one is not evaluated.

    After Pintor et al., "Indicators of attack failure", NeurIPS 2022: twice the steps or restarts gain
    more than 2 %, a smaller budget does more, an attack that knows less does more, or noise does more
    than an attack on this very recommender.
    """
    attacks = [Experiment.parse(name) for name in table["attack"]]
    sign = np.array([-1 if of.objective.startswith(DEMOTE) else 1 for of in attacks])
    told = table.assign(
        family=[_family(of) for of in attacks],
        effort=[_effort(of) for of in attacks],
        gain=sign * table["change"],
        net_gain=sign * table["net"],
    )
    return ["; ".join(_signs_of_failure(row, told)) for _, row in told.iterrows()]


def _signs_of_failure(row: pd.Series, told: pd.DataFrame) -> list[str]:
    if row["objective"] == CONTROL or row["threat"] == "retrained":
        return []
    rivals = told[told[_JUDGE].eq(row[_JUDGE]).all(axis=1)]
    rivals = rivals[rivals["gain"] > row["gain"] + _CONVERGED * abs(row["gain"])]
    alike = rivals[(rivals["threat"] == row["threat"]) & (rivals["family"] == row["family"])]
    longer = (alike["eps"] == row["eps"]) & (alike["effort"] >= 2 * max(row["effort"], 1))
    found = ["not converged: more steps gain"] if longer.any() else []
    if (alike["eps"] < row["eps"]).any():
        found.append("a smaller budget gains more")
    if row["objective"] == "class":
        return found  # no attack on classes is after exposure
    same = rivals[_AIM].eq(row[_AIM]).all(axis=1) & np.isclose(rivals["before"], row["before"])
    if row["threat"] == "white_box" and (same & rivals["threat"].isin(_KNOWING_LESS)).any():
        found.append("an attack that knows less gains more")
    # Images that were made for another recommender or extractor may well do no more than noise.
    own = row["threat"] in ("white_box", "ranks_only")
    if own and row["scope"] == "one" and row["net_gain"] < 0:
        found.append("noise gains more")
    return found


def _family(experiment: Experiment) -> str:
    """Return the name without budget, steps and restarts."""
    aim = experiment.objective or experiment.target
    parameters = _SIZES.sub("", experiment.parameters).strip("_")
    return f"{experiment.attack} {experiment.items or experiment.origin} {aim} {parameters}"


def _effort(experiment: Experiment) -> int:
    """Steps of all restarts; 0 where the name shows no steps."""
    numbers = {kind: float(number) for kind, number in _SIZES.findall(experiment.parameters)}
    steps = numbers.get("nb_iter", numbers.get("nb_it", 0))
    return int(steps * numbers.get("restarts", 1))


def evaluated(table: pd.DataFrame) -> pd.Series:
    """Return which rows have no indicator, bool."""
    return table["indicator"] == ""


def sentence(table: pd.DataFrame) -> str:
    """Say how far the strongest attack on a single item got, for the terminal and the report.

    An attack that is not evaluated gives a lower bound, and the sentence says so.
    """
    rows = table[(table["scope"] == "one") & (table["objective"] != CONTROL)]
    if rows.empty:
        return "No attack was measured."
    best = rows.loc[rows["change"].idxmax()]
    norm = "L-inf" if best["norm"] == "inf" else f"L{best['norm']}"
    said = (
        f"The strongest attack ({best['objective']}, {best['eps']:g}/255 in {norm}) on "
        f"{best['recommender']} with the extractor {best['extractor']} shows an item in the "
        f"top {best['k']:g} of {best['after']:.1%} of the users who may be shown it, "
        f"instead of {best['before']:.1%}"
    )
    if np.isfinite(best["control"]):
        said += f"; noise of the same size reaches {best['before'] + best['control']:.1%}"
    if best["indicator"]:
        said += f". This is a lower bound ({best['indicator']})"
    return said + "."


def subjects_of(
    layouts: Sequence[Layout],
    models: Sequence[str],
    epochs: int,
    seeds: Sequence[int],
    k: int,
    options: Collection[str] | None = None,
) -> list[Trainings]:
    """Every recommender on every extractor that has attacked experiments in all data sets.

    ``options`` are labels of options of recommenders, one of which each has; None allows any.

    Raises ``UserError`` for a recommender that does not look at images, for missing weights, and where
    nothing has been attacked.
    """
    for model in models:
        if not Model.parse(model).kind.reads_images:
            raise UserError(f"{model} does not look at images: no attack on them moves its lists")
    dirs = {of.model_dir for of in measurable(layouts[0])}
    if not dirs:
        raise UserError(
            f"nothing is attacked in {layouts[0].data}: run classify_extract_attack.py first"
        )
    trainings = []
    for model_dir in sorted(dirs, key=lambda of: of or ""):
        clean = Experiment(model_dir)
        data = [load_training_data(layout, clean) for layout in layouts]
        for model in models:
            label = Model.parse(model).label
            subjects = [
                [
                    Subject.read(layout, Run(clean, label, epochs, seed=seed), of, k, options)
                    for seed in seeds
                ]
                for layout, of in zip(layouts, data, strict=True)
            ]
            trainings.append(Trainings(subjects))
    return trainings


def inputs_of(trainings: Sequence[Trainings]) -> dict[Layout, list[Path]]:
    """The files that the table is made of, by data set."""
    files: dict[Layout, dict[Path, None]] = {}
    for of in trainings:
        for layout, of_layout in files_of(of, of.attacked).items():
            files[layout] = files.get(layout, {}) | dict.fromkeys(of_layout)
    return {layout: list(of_layout) for layout, of_layout in files.items()}


def files_of(
    trainings: Trainings, attacked: Collection[Experiment], *, retrained: bool = True
) -> dict[Layout, list[Path]]:
    """The files of some experiments that the rows of one recommender on one extractor are made of."""
    files: dict[Layout, list[Path]] = {}
    for subject in (subject for seeds in trainings.subjects for subject in seeds):
        layout, clean = subject.layout, subject.run.experiment
        of_layout = files.setdefault(layout, [])
        of_layout += [layout.training_set, *layout.held_out_sets]
        of_layout += [layout.weights(subject.run), layout.features(clean)]
        for experiment in attacked:
            of_layout += [layout.attack_report(experiment), layout.features(experiment)]
            weights = layout.weights(replace(subject.run, experiment=experiment))
            if retrained and weights.is_file():
                of_layout.append(weights)
    return files


def read_promotion(path: Path) -> pd.DataFrame:
    """Read ``promotion.tsv``."""
    table = pd.read_csv(path, sep="\t", dtype={"norm": str})
    return table.fillna({"indicator": "", "verdict": "", "weakest_level": ""})


_SHOWN = {
    "extractor": "extractor",
    "recommender": "recommender",
    "threat": "threat",
    "objective": "objective",
    "eps": "eps",
    "scope": "scope",
    "before": "before",
    "after": "after",
    "low": "low",
    "high": "high",
    "control": "noise",
    "net": "net",
    "restored": "restored",
    "verdict": "verdict",
}


def blind_recommenders(table: pd.DataFrame) -> list[str]:
    """Return a line for each recommender that hardly looks at images, and so can hardly be attacked."""
    blind = table[table["reliance"] < HARDLY].drop_duplicates(["extractor", "recommender"])
    return [
        f"{of['recommender']} with {of['extractor']} hardly looks at images: permuted features cost "
        f"{of['reliance']:.0%} of its hits"
        for _, of in blind.iterrows()
    ]


def promotion_overview(table: pd.DataFrame) -> str:
    """The table for the terminal, strongest attacks first within a recommender and scope."""
    order = table.sort_values(
        ["extractor", "recommender", "scope", "threat", "change"],
        ascending=[True, True, False, True, False],
    )
    rows = order[list(_SHOWN)].astype(object).where(order[list(_SHOWN)].notna(), np.nan)
    text = format_table(list(_SHOWN.values()), rows.to_numpy().tolist())
    raised = order[~evaluated(order)]
    notes = [
        f"not evaluated: {of['extractor']}, {of['recommender']}, {of['attack']}, {of['scope']}: "
        f"{of['indicator']}"
        for _, of in raised.iterrows()
    ]
    notes += blind_recommenders(order)
    return "\n".join([text, "", *notes]) if notes else text
