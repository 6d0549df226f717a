"""Table of robust extractors: accuracy, robustness of rankings, and the effect of PGD on lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.classes import Classes, read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.datasets.image_set import ImageSet
from src.datasets.retrieval import open_retrieval_set
from src.measures.ranking_attacks import read_record
from src.measures.table_files import manifest_of, tabulated
from src.measures.terminal import format_table
from src.metrics.significance import mean_interval

LIST_METRICS = ("chr", "ncdcg", "hr")
"""CHR and nCDCG of the attacked class, and the hits of the held-out items."""
STATES = {
    "before": "before",
    "after": "after",
    "change": "change",
    "low": "change_low",
    "high": "change_high",
    "noise_effect": "noise",
    "net_effect": "net",
    "net_low": "net_low",
    "net_high": "net_high",
    "verdict": "verdict",
}
"""Columns of the summary, and what they are called after a metric's name."""
_SCORES = ("accuracy", "r1", "ers")
OF_EXTRACTOR = (
    *(f"{score}{end}" for score in _SCORES for end in ("", "_low", "_high")),
    "collapsed",
)
OF_SUMMARY = ("extractor_seeds", "recommender_seeds", "success_rate", "feature_loss")
OF_ATTACK = ("items", "success_rate", "feature_loss", "auc")
COLUMNS = (
    *("extractor", "attack", "recommender", "k", "extractor_seeds", "recommender_seeds"),
    *OF_EXTRACTOR,
    *OF_ATTACK,
    *(f"{metric}_{state}" for metric in LIST_METRICS for state in STATES.values()),
)


def ranking_record(layout: Layout, extractor: str) -> Path:
    """Return the file of ``audits.rankings``' results for an extractor, which this table reads."""
    return layout.result(f"attack_ranking_{extractor}.json")


def extractors_table(
    layouts: Sequence[Layout], summary: pd.DataFrame, extractors: Sequence[str], k: int
) -> pd.DataFrame:
    """Return ``COLUMNS``: a row for each of the ``extractors``, attack and recommender, in order.

    Values are means over the trainings of an extractor, one in each of the ``layouts``; bounds are those
    of Student's interval over trainings. With one training only the score of ``audits.rankings`` has
    bounds, over its repeats. An extractor is collapsed if one training is.

    The protocol is test time, in which only the features differ: retraining adds changes of its own.
    ``summary`` is that of ``write_summary`` and has ``k``. ``accuracy`` (percent) is measured on held-out
    pictures of the catalogue's categories, NaN for an extractor of other classes; ``items`` counts the
    attacked items, which the extractor assigns to the origin class; ``auc`` is the recommender's before
    the attack. Raises ``UserError`` for an extractor without results.
    """
    of_lists = (summary["k"] == k) | (summary["metric"] == "auc")
    attacked = summary[
        (summary["protocol"] == "test_time")
        & ~summary["attack"].str.startswith("noise_")
        & (summary["pairs"] == 1)
        & (summary["placebo"] == "")
        & of_lists.fillna(False)
    ]
    held_out = open_retrieval_set("catalogue", layouts[0].data).test
    rows = []
    for name in extractors:
        own = attacked[attacked["extractor"] == name]
        if own.empty:
            raise UserError(
                f"no attack on {name} at test time in {layouts[0].summary}: run rec_generator.py with "
                "--load_weights_from"
            )
        trainings = [ExtractorResults.read(layout, name) for layout in layouts]
        described = over_trainings([of.described(held_out) for of in trainings])
        for (attack, recommender), measures in own.groupby(["attack", "recommender"]):
            key = {"extractor": name, "attack": attack, "recommender": recommender, "k": k}
            origin = Experiment.parse(attack).origin
            items = float(np.mean([len(of.classes.of(origin)) for of in trainings]))
            rows.append({**key, **described, "items": items, **_of_attack(measures)})
    table = pd.DataFrame(rows, columns=COLUMNS)
    # The record of a single repeat has no bounds.
    return table.astype({"k": "Int64", "ers_low": np.float64, "ers_high": np.float64})


def over_trainings(described: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return ``OF_EXTRACTOR`` over trainings of an extractor."""
    if len(described) == 1:
        return dict(described[0])
    scores = np.array([[of[score] for score in _SCORES] for of in described], np.float64)
    low, high = mean_interval(scores)
    rows = dict(zip(_SCORES, zip(scores.mean(axis=0), low, high, strict=True), strict=True))
    named = {
        f"{score}{end}": float(value)
        for score, values in rows.items()
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }
    return named | {"collapsed": any(of["collapsed"] for of in described)}


@dataclass(frozen=True)
class ExtractorResults:
    """Results of earlier stages for one extractor."""

    name: str
    classes: Classes
    """Classes of the clean catalogue."""
    ranking: Mapping[str, Any]
    """Record of ``audits.rankings``."""

    @classmethod
    def read(cls, layout: Layout, name: str) -> "ExtractorResults":
        """Read the results of an extractor; ``UserError`` if a file is missing."""
        record = ranking_record(layout, name)
        if not record.is_file():
            raise UserError(
                f"missing file: {record}: run python -m audits.rankings with --out "
                f"{record.with_suffix('.tsv')}"
            )
        return cls(name, read_classes(clean_classes(layout, name)), read_record(record))

    def described(self, held_out: ImageSet) -> dict[str, object]:
        """Return ``OF_EXTRACTOR``; ``UserError`` unless the record has one Empirical Robustness Score."""
        scores = self.ranking["robustness"]
        if len(scores) != 1:
            raise UserError(
                f"{self.name} has {len(scores)} robustness scores, and its row shows one: run "
                "python -m audits.rankings with --profile rob28 or rob224"
            )
        return {
            "accuracy": held_out_accuracy(self.classes, held_out),
            **dict.fromkeys(("accuracy_low", "accuracy_high", "r1_low", "r1_high"), np.nan),
            "r1": self.ranking["benign"]["r1"],
            **{column: scores[0][column] for column in ("ers", "ers_low", "ers_high")},
            "collapsed": self.ranking["collapsed"],
        }


def clean_classes(layout: Layout, extractor: str) -> Path:
    """Return stage 1's file of an extractor by its name in the summary."""
    known = extractor == Experiment().extractor
    return layout.classes(Experiment(None if known else extractor))


def held_out_accuracy(predicted: Classes, held_out: ImageSet) -> float:
    """Return the percentage of held-out pictures in their own category; NaN without shared names.

    Categories are compared by name, since another training set may number classes differently.
    """
    names = np.array(held_out.labels)
    labels = pd.Series(predicted.labels, index=predicted.image_ids)
    if not labels.isin(names).any():
        return np.nan
    seen = labels.loc[held_out.ids].to_numpy()
    return float(100 * (seen == names[held_out.classes]).mean())


def _of_attack(measures: pd.DataFrame) -> dict[str, object]:
    """Return ``OF_ATTACK`` without ``items``, and columns of ``LIST_METRICS``, from summary rows."""
    by_metric = measures.set_index("metric")
    row = dict(by_metric.loc["chr", list(OF_SUMMARY)])
    row["auc"] = by_metric["before"].get("auc", np.nan)
    for metric in LIST_METRICS:
        row |= {f"{metric}_{said}": by_metric.loc[metric, of] for of, said in STATES.items()}
    return row


def write_extractors_table(
    layouts: Sequence[Layout],
    summary: pd.DataFrame,
    extractors: Sequence[str],
    k: int,
    *,
    force: bool,
) -> pd.DataFrame:
    """Make ``robust_extractors.tsv`` of the first data set unless it is current; return its rows."""
    first = layouts[0]
    inputs = {first: [first.summary, first.item_categories]}
    for layout in layouts:
        for name in extractors:
            files = [ranking_record(layout, name), clean_classes(layout, name)]
            inputs.setdefault(layout, []).extend(files)
    present = {layout: list(filter(Path.is_file, files)) for layout, files in inputs.items()}
    options = {"names": list(extractors), "k": k}
    return tabulated(
        first.result("robust_extractors.tsv"),
        manifest_of("summarize_extractors", options, present),
        lambda: extractors_table(layouts, summary, extractors, k),
        force=force,
    )


_SHOWN = {
    "extractor": "extractor",
    "attack": "attack",
    "recommender": "recommender",
    "accuracy": "accuracy",
    "r1": "R@1",
    "ers": "ERS",
    "auc": "AUC",
    "items": "items",
    "success_rate": "SR %",
    "feature_loss": "FL",
    **{
        f"{metric}_{state}": f"{title}{suffix}"
        for metric, title in (("chr", "CHR"), ("ncdcg", "nCDCG"), ("hr", "HR"))
        for state, suffix in (
            ("before", ""),
            ("change", " +"),
            ("noise", " noise"),
            ("net", " net"),
        )
    },
}


def extractors_overview(table: pd.DataFrame) -> str:
    """Return a text table of each metric's value before, its change, and its change under noise."""
    rows = table[list(_SHOWN)].astype(object)
    text = format_table(list(_SHOWN.values()), rows.to_numpy().tolist())
    if collapsed := table["extractor"][table["collapsed"].astype(bool)].unique().tolist():
        text += f"\n\ncollapsed, their ERS says nothing: {', '.join(collapsed)}"
    return text
