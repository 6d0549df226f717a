"""Stage 2b: category metrics, accuracy and bias of a run, and their changes in an attacked run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.artifacts.tables import read_ids
from src.datasets.catalogue import count_items
from src.datasets.interactions import Interactions, load_interactions
from src.measures.comparable import require_same_recommenders
from src.measures.measures import (
    accuracy_values,
    bias_values,
    diversity_values,
    table_of_lists,
    table_of_users,
)
from src.measures.runs import (
    Categories,
    HeldOut,
    Lists,
    held_out_files,
    read_categories,
    read_held_out,
    read_lists,
    require_same_users,
)
from src.metrics import category_hit_ratio as category
from src.metrics import significance

CATEGORY_METRICS = ("chr", "ncdcg")
"""Metrics of the classes that stage 1 finds."""
METRIC_TABLES = (*CATEGORY_METRICS, "accuracy", "bias")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one run at each of ``ks`` (ascending); every file is read once."""

    layout: Layout
    run: Run
    ks: tuple[int, ...]

    @cached_property
    def baseline(self) -> Run | None:
        """Clean run that an attacked one is compared with, if it exists."""
        if self.run.experiment.attack is None:
            return None
        return self.run.clean if self.layout.recommendations(self.run.clean).is_file() else None

    @property
    def classes(self) -> Path:
        """File of classes that category metrics need."""
        return self.layout.classes(self.run.experiment.clean)

    @property
    def has_classes(self) -> bool:
        return self.classes.is_file()

    @property
    def possible_metrics(self) -> list[str]:
        """Names in ``METRIC_TABLES``, without category metrics if classes are unknown."""
        return [name for name in METRIC_TABLES if self.has_classes or name not in CATEGORY_METRICS]

    @cached_property
    def categories(self) -> Categories:
        return read_categories(self.layout, self.run.experiment)

    @cached_property
    def interactions(self) -> Interactions:
        known = len(self.categories.of_item) if self.has_classes else count_items(self.layout)
        return load_interactions(self.layout, known)

    @cached_property
    def n_items(self) -> int:
        """Size of the catalogue, also if no extractor has read it."""
        return len(self.categories.of_item) if self.has_classes else self.interactions.n_items

    @cached_property
    def lists(self) -> Lists:
        return read_lists(self.layout, self.run, self.n_items)

    @cached_property
    def baseline_lists(self) -> Lists | None:
        if self.baseline is None:
            return None
        lists = read_lists(self.layout, self.baseline, self.n_items)
        require_same_users(self.layout, self.lists.users, self.run, lists.users, self.baseline)
        return lists

    def inputs(self, metric: str) -> list[Path]:
        """Return the files that ``table(metric)`` reads; ``UserError`` if the classes are unknown."""
        runs = [self.run] if self.baseline is None else [self.run, self.baseline]
        if metric == "accuracy":
            files = [file for run in runs for file in held_out_files(self.layout, run)]
            cold_items = self.layout.cold_items
            return list(dict.fromkeys([*files, *([cold_items] if cold_items.is_file() else [])]))
        lists = map(self.layout.recommendations, runs)
        if metric == "bias":
            return [self.layout.training_set, *lists]
        if not self.has_classes:
            raise UserError(
                f"{metric} needs {self.classes}: run classify_extract.py (stage 1) first"
            )
        return [self.classes, *lists]

    def options(self, metric: str) -> dict[str, object]:
        """Return the options that, besides ``inputs(metric)``, determine ``table(metric)``."""
        options = {"metric": metric, "ks": self.ks, "resamples": significance.RESAMPLES}
        return options | {"items": self.n_items} if metric == "bias" else options

    def table(self, metric: str) -> pd.DataFrame:
        """Return the rows of ``<metric>/<dataset>/<run>.tsv``."""
        if metric == "accuracy":
            return self._accuracy()
        if metric == "bias":
            return self._bias()
        return self._categories(metric)

    def _categories(self, metric: str) -> pd.DataFrame:
        """Return CHR or nCDCG of every class at every K, by K and then by position."""
        groups = significance.random_groups(len(self.lists.users))
        sums, ideal = self._sums(metric, self.lists, *groups)
        low, high = significance.interval_of_sums(sums, groups[1])
        score = sums.sum(axis=0) / ideal / len(self.lists.users)
        columns = {"score": score, "ci_low": low / ideal, "ci_high": high / ideal}
        if metric == "chr":
            columns["score_normalised"] = score / np.array(self.ks)[:, None]
        if self.baseline_lists is not None:
            columns |= self._category_changes(metric, score, groups)

        k_index, position = np.indices(score.shape)
        order = np.argsort(-score, axis=1, kind="stable")
        labels = np.array(self.categories.labels, dtype=object)
        table = pd.DataFrame(
            {
                "experiment": self.run.experiment.name,
                "classId": self.categories.numbers[order].ravel(),
                "className": labels[order].ravel(),
                "k": np.array(self.ks)[k_index].ravel(),
                "position": position.ravel() + 1,
                "items": self.categories.sizes[order].ravel(),
            }
            | {
                name: np.take_along_axis(values, order, axis=1).ravel()
                for name, values in columns.items()
            }
        )
        first = ["experiment", "classId", "className", "k", "position", "score"]
        first += ["score_normalised"] if metric == "chr" else []
        return table[[*first, *(name for name in table if name not in first)]]

    def _sums(
        self, metric: str, lists: Lists, groups: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return gains summed over the users of each group (groups, ks, classes), and their ideal."""
        n_classes = len(self.categories.numbers)
        gains = self._gains(metric)
        of_item = self.categories.of_item
        sums = category.category_sums(
            lists.items, of_item, n_classes, self.ks, gains, groups, len(sizes)
        )
        if metric == "chr":
            return sums, np.ones(sums.shape[1:])
        return sums, np.stack([category.ideal_dcg(self.categories.sizes, k) for k in self.ks])

    def _gains(self, metric: str) -> np.ndarray:
        """Return the gain of a hit at each position: (largest K,)."""
        return np.ones(self.ks[-1]) if metric == "chr" else category.discounts(self.ks[-1])

    def _category_changes(
        self, metric: str, score: np.ndarray, groups: tuple[np.ndarray, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the clean run's scores, and paired tests over users for the origin and target class.

        The other classes are not tested: hundreds of tests without a hypothesis find some by chance.
        """
        n_users = len(self.lists.users)
        # The order of the sum is that of the score, so that equal lists differ by exactly 0.
        sums, ideal = self._sums(metric, self.baseline_lists, *groups)
        before = sums.sum(axis=0) / ideal / n_users
        column, change = category.category_changes(
            self.baseline_lists.items,
            self.lists.items,
            self.categories.of_item,
            len(self.categories.numbers),
            self.ks,
            self._gains(metric),
        )
        # Every user's gain is divided by the same ideal, which changes no test of a class.
        p_t, p_wilcoxon = significance.tests_of_changes(column, change, n_users, score.size)
        numbers, attack = self.categories.numbers, self.run.experiment
        tested = (numbers == attack.origin) | (numbers == attack.target)
        p_t, p_wilcoxon = (
            np.where(tested, p.reshape(score.shape), np.nan) for p in (p_t, p_wilcoxon)
        )
        return {
            "score_before": before,
            "change": score - before,
            "p_within_run_t": p_t,
            "p_within_run_wilcoxon": p_wilcoxon,
        }

    def _accuracy(self) -> pd.DataFrame:
        """Return HR and nDCG at every K, and AUC if the ranks among all candidates are known.

        If items were held out of training, the rows are those of all items, of warm and of cold ones, by
        the column ``items``; all three rank the whole catalogue.
        """
        held_out = read_held_out(self.layout, self.run)
        clean = None
        if self.baseline is not None:
            clean = read_held_out(self.layout, self.baseline)
            require_same_users(self.layout, held_out.users, self.run, clean.users, self.baseline)
        if not self.layout.cold_items.is_file():
            return self._accuracy_of(held_out, clean, held_out.has_several)
        cold = np.isin(held_out.items, read_ids(self.layout.cold_items))
        tables = []
        for name, rows in {"all": np.ones_like(cold), "warm": ~cold, "cold": cold}.items():
            if rows.any():
                table = self._accuracy_of(
                    held_out.rows(rows), clean and clean.rows(rows), held_out.has_several
                )
                table.insert(0, "items", name)
                tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def _accuracy_of(
        self, held_out: HeldOut, clean: HeldOut | None, has_several: bool
    ) -> pd.DataFrame:
        before = None if clean is None else accuracy_values(clean, self.ks, has_several)
        return table_of_users(accuracy_values(held_out, self.ks, has_several), before)

    def _bias(self) -> pd.DataFrame:
        """Return ARP, APLT, coverage and Gini index at every K."""
        runs = (self.lists, self.baseline_lists)
        compared = [lists.items for lists in runs if lists is not None]
        popularity = self.interactions.popularity
        of_users = [bias_values(items, popularity, self.ks) for items in compared]
        of_all = [diversity_values(items, self.n_items, self.ks) for items in compared]
        return pd.concat([table_of_users(*of_users), table_of_lists(*of_all)], ignore_index=True)


def evaluate(evaluation: Evaluation, metric: str, *, force: bool) -> pd.DataFrame:
    """Make ``<metric>/<dataset>/<run>.tsv`` unless it is current, print its path, return its rows.

    Raises ``UserError`` for a clean run of another recommender.
    """
    if evaluation.baseline is not None:
        require_same_recommenders(evaluation.layout, (evaluation.baseline, evaluation.run))
    path = evaluation.layout.metric(metric, evaluation.run)
    options, inputs = evaluation.options(metric), evaluation.inputs(metric)
    stage = Stage(Manifest.of("evaluate_rec", options, inputs), [path])
    if stage.is_up_to_date(force):
        return pd.read_csv(path, sep="\t", dtype={"className": str, "k": "Int64"})
    table = evaluation.table(metric)
    stage.publish_tables(table, numbers="%.9g")
    print(f"written: {path}")
    return table
