"""Stage 2b: one run's category metrics and accuracy, against the clean run where it is attacked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_output
from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.metrics import category_hit_ratio as category
from src.metrics import ranking, significance
from src.reporting.runs import (
    Categories,
    HeldOut,
    Lists,
    held_out_files,
    read_categories,
    read_held_out,
    read_lists,
    require_same_users,
)

METRICS = ("chr", "ncdcg", "accuracy")


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one run at each of ``ks`` (ascending); what they need is read once."""

    layout: Layout
    run: Run
    ks: tuple[int, ...]

    @cached_property
    def baseline(self) -> Run | None:
        """The clean run that an attacked one is compared with, where it exists."""
        if self.run.experiment.attack is None:
            return None
        return self.run.clean if self.layout.recommendations(self.run.clean).is_file() else None

    @cached_property
    def categories(self) -> Categories:
        return read_categories(self.layout, self.run.experiment)

    @cached_property
    def lists(self) -> Lists:
        return read_lists(self.layout, self.run, len(self.categories.of_item))

    @cached_property
    def baseline_lists(self) -> Lists | None:
        if self.baseline is None:
            return None
        lists = read_lists(self.layout, self.baseline, len(self.categories.of_item))
        require_same_users(self.layout, self.lists.users, self.run, lists.users, self.baseline)
        return lists

    def inputs(self, metric: str) -> list[Path]:
        """The files that ``table(metric)`` reads."""
        runs = [self.run] if self.baseline is None else [self.run, self.baseline]
        if metric == "accuracy":
            files = [file for run in runs for file in held_out_files(self.layout, run)]
            return list(dict.fromkeys(files))
        classes = self.layout.classes(self.run.experiment.clean)
        return [classes, *map(self.layout.recommendations, runs)]

    def table(self, metric: str) -> pd.DataFrame:
        """The rows of ``<metric>/<dataset>/<run>.tsv``."""
        if metric == "accuracy":
            return self._accuracy()
        return self._categories(metric)

    def _categories(self, metric: str) -> pd.DataFrame:
        """CHR or nCDCG of every class at every K, by K and then by position."""
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
        """Gains summed over the users of each group (groups, ks, classes), and their ideal."""
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
        """What a hit at each position is worth: (largest K,)."""
        return np.ones(self.ks[-1]) if metric == "chr" else category.discounts(self.ks[-1])

    def _category_changes(
        self, metric: str, score: np.ndarray, groups: tuple[np.ndarray, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The clean run's score, and the paired tests of what changed."""
        n_users = len(self.lists.users)
        # Summed in the same order as the score, so that equal lists differ by exactly 0.
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
        # Every user's gain is divided by the same ideal, which no test of a class notices.
        p_t, p_wilcoxon = significance.tests_of_changes(column, change, n_users, score.size)
        return {
            "score_before": before,
            "change": score - before,
            "p_value_t": p_t.reshape(score.shape),
            "p_value_wilcoxon": p_wilcoxon.reshape(score.shape),
        }

    def _accuracy(self) -> pd.DataFrame:
        """HR and nDCG at every K, and AUC where the ranks among all candidates are known."""
        held_out = read_held_out(self.layout, self.run)
        after = accuracy_values(held_out, self.ks)
        names = list(after)
        values = np.stack(list(after.values()), axis=1)
        low, high = significance.bootstrap_interval(values)
        table = pd.DataFrame(
            {
                "metric": [metric for metric, _ in names],
                "k": pd.array([k for _, k in names], dtype="Int64"),
                "score": values.mean(axis=0),
                "ci_low": low,
                "ci_high": high,
            }
        )
        if self.baseline is None:
            return table
        clean = read_held_out(self.layout, self.baseline)
        require_same_users(self.layout, held_out.users, self.run, clean.users, self.baseline)
        before = accuracy_values(clean, self.ks)
        unknown = np.full(len(clean.users), np.nan)
        values_before = np.stack([before.get(name, unknown) for name in names], axis=1)
        table["before"] = values_before.mean(axis=0)
        table["change"] = table["score"] - table["before"]
        known = table["before"].notna()
        p_values = significance.paired_tests(values_before[:, known], values[:, known])
        table.loc[known, ["p_value_t", "p_value_wilcoxon"]] = np.stack(p_values, axis=1)
        return table


def accuracy_values(
    held_out: HeldOut, ks: Sequence[int]
) -> dict[tuple[str, int | None], np.ndarray]:
    """Per-user accuracy by (metric, k); ``auc`` has no k, and needs the number of negatives."""
    measures: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "hr": ranking.hit_ratio,
        "ndcg": ranking.ndcg,
    }
    values: dict[tuple[str, int | None], np.ndarray] = {
        (name, k): measure(held_out.ranks, k) for name, measure in measures.items() for k in ks
    }
    if held_out.negatives is not None:
        values["auc", None] = ranking.auc(held_out.ranks, held_out.negatives)
    return values


def evaluate(evaluation: Evaluation, metric: str, *, force: bool) -> pd.DataFrame:
    """Make ``<metric>/<dataset>/<run>.tsv`` unless it is current, say where it is, return its rows."""
    path = evaluation.layout.metric(metric, evaluation.run)
    options = {"metric": metric, "ks": evaluation.ks, "resamples": significance.RESAMPLES}
    manifest = Manifest.of("evaluate_rec", options, evaluation.inputs(metric))
    if not force and manifest.is_current([path]):
        print(f"{path} is up to date (use --force to redo)")
        return pd.read_csv(path, sep="\t", dtype={"className": str, "k": "Int64"})
    table = evaluation.table(metric)
    with atomic_output(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.9g")
    manifest.write([path])
    print(f"wrote {path}")
    return table
