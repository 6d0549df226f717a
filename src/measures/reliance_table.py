"""Table of how recommenders read images: accuracy, what swapped and permuted features do to each."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.measures.reliance import swapped_features, visual_reliance
from src.metrics.ranking import auc, hit_ratio
from src.recommenders.data import TrainingData, load_training_data
from src.recommenders.fitting import Fitting, files_read
from src.recommenders.models import Model
from src.recommenders.ranking import test_ranks
from src.recommenders.read_out import load_recommender
from src.recommenders.recommender import Recommender
from src.recommenders.registry import RECOMMENDERS

COLUMNS = ("recommender", "options", "epochs", "seeds", "reads", "auc", "hit_rate")
CHANGES = ("lost_hits", "own", "others")
"""Columns of ``Reliance`` and ``Swapped``, means over seeds as auc and hit_rate are."""


@dataclass(frozen=True)
class Trained:
    """One recommender with the seeds of its trainings."""

    run: Run
    """Run of the first seed."""
    seeds: tuple[int, ...]

    def runs(self) -> Iterator[Run]:
        return (replace(self.run, seed=seed) for seed in self.seeds)


def trained_recommenders(
    layout: Layout, experiment: Experiment, names: Collection[str]
) -> list[Trained]:
    """Find the recommenders ``names`` that are trained on a clean experiment, in the table's order.

    Among trainings that differ only in their epochs the longest one is taken. A recommender that no
    framework trains is fitted with the seeds of the others. Raises ``UserError`` if nothing is trained.
    """
    found: dict[Run, set[int]] = {}
    for path in sorted(layout.weights(Run(experiment)).parent.glob(f"{experiment.name}_step*.npz")):
        try:
            run = Run.parse_weights_name(path.stem)
            kind = Model.parse(run.model).kind
        except UserError:
            continue  # a file of the user's own
        if run.experiment == experiment and kind.framework:
            found.setdefault(replace(run, seed=0), set()).add(run.seed)
    longest: dict[Run, int] = {}
    for run in found:
        alike = replace(run, epochs=0)
        longest[alike] = max(longest.get(alike, 0), run.epochs)
    trained = []
    seeds = sorted(set().union(*found.values())) if found else [0]
    for name in (of for of in RECOMMENDERS if of in names):
        if not RECOMMENDERS[name].framework:
            trained.append(Trained(Run(experiment, name, 0), tuple(seeds)))
            continue
        for alike, epochs in longest.items():
            run = replace(alike, epochs=epochs)
            if Model.parse(run.model).name == name:
                trained.append(Trained(run, tuple(sorted(found[run]))))
    if not trained:
        raise UserError(
            f"no recommender is trained on {experiment.name} of {layout.dataset}: run rec_generator.py"
        )
    return trained


def inputs_of(layout: Layout, trained: Collection[Trained]) -> list[Path]:
    """Return the files that the table is made of."""
    files: dict[Path, None] = dict.fromkeys((layout.training_set, *layout.held_out_sets))
    for of in trained:
        for run in of.runs():
            files |= dict.fromkeys(files_read(layout, run))
            if run.epochs:
                files[layout.weights(run)] = None
    return list(files)


def reliance_table(layout: Layout, trained: Collection[Trained], k: int) -> pd.DataFrame:
    """Return a row for each of ``trained``: ``COLUMNS`` and ``CHANGES``."""
    data: dict[tuple[bool, bool], TrainingData] = {}
    rows = []
    for of in trained:
        kind = Model.parse(of.run.model).kind
        reads = kind.reads_images, kind.reads_pixels
        if reads not in data:
            experiment = of.run.experiment if kind.reads_images else Experiment()
            data[reads] = load_training_data(layout, experiment, reads[0], pixels=reads[1])
        values = [
            _measured(_recommender(layout, run, data[reads]), data[reads], k) for run in of.runs()
        ]
        ways = sorted({way for way, _ in values})
        means = pd.DataFrame([numbers for _, numbers in values]).mean()
        said = {
            "recommender": of.run.model,
            "options": of.run.options.removeprefix("_"),
            "epochs": of.run.epochs,
            "seeds": len(of.seeds),
            "reads": " or ".join(ways),
        }
        rows.append(said | means.to_dict())
    return pd.DataFrame(rows, columns=[*COLUMNS, *CHANGES])


def _recommender(layout: Layout, run: Run, data: TrainingData) -> Recommender:
    if run.epochs:
        return load_recommender(layout.weights(run), data)[1]
    return Fitting(layout, run).fitted(data)


def _measured(recommender: Recommender, data: TrainingData, k: int) -> tuple[str, dict[str, float]]:
    ranks = test_ranks(*recommender.factors(data.features), data.at_test_time)
    swapped = swapped_features(recommender, data)
    return swapped.reads, {
        "auc": float(np.mean(auc(ranks.users, ranks.ranks, ranks.negatives))),
        "hit_rate": float(np.mean(hit_ratio(ranks.users, ranks.ranks, k))),
        "lost_hits": visual_reliance(recommender, data, k).lost_hits,
        "own": swapped.own,
        "others": swapped.others,
    }


def read_reliance(path: Path) -> pd.DataFrame:
    """Read ``reliance.tsv``."""
    numbers = ("epochs", "auc", "hit_rate", *CHANGES)
    return read_results(path, COLUMNS, numbers=numbers).fillna({"options": ""})


def markdown(table: pd.DataFrame, k: int) -> str:
    """Return the table in Markdown."""
    changes = "hits lost", "own score", "others"
    head = ("recommender", "options", "reads images", f"HR@{k}", "AUC", *changes, "seeds")
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for _, row in table.iterrows():
        cells = (
            row["recommender"],
            f"`{row['options']}`" if row["options"] else "",
            row["reads"],
            f"{row['hit_rate']:.3f}",
            f"{row['auc']:.3f}",
            f"{round(row['lost_hits'], 2) + 0.0:.0%}",  # no sign before 0
            f"{row['own']:.2f}",
            f"{row['others']:.3f}",
            str(row["seeds"]),
        )
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)
