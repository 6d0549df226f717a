"""Data sets and results that tests write by hand, and data sets as their source had them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.tables import (
    TestRanks,
    TopK,
    read_pairs,
    write_pairs,
    write_table,
    write_tables,
    write_test_ranks,
    write_top_k,
)
from src.datasets.mapping import IdMap
from src.measures.promotion import COLUMNS
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import FactorModel


def write_data(
    layout: Layout,
    train: np.ndarray,
    test: np.ndarray,
    validation: np.ndarray | None = None,
    features: Mapping[str, np.ndarray] | None = None,
) -> Layout:
    """Write interactions (n, 2), and the features (items, D) of each experiment by its name."""
    layout.data.mkdir(parents=True, exist_ok=True)
    write_pairs(layout.training_set, np.asarray(train))
    write_pairs(layout.test_set, np.asarray(test))
    if validation is not None:
        write_pairs(layout.validation_set, np.asarray(validation))
    for name, of_items in (features or {}).items():
        file = layout.features(Experiment.parse(name))
        file.parent.mkdir(exist_ok=True)
        write_features(file, of_items)
    return layout


def write_shop(root: Path, recommender: FactorModel, data: TrainingData, run: Run) -> Layout:
    """Write the data set ``shop`` with its clean features, interactions and trained recommender."""
    interactions, clean = data.interactions, {"original": data.features}
    layout = Layout("shop", root)
    write_data(layout, interactions.train, interactions.test, features=clean)
    layout.weights(run).parent.mkdir(parents=True)
    recommender.save(layout.weights(run))
    return layout


def write_attack(layout: Layout, name: str, ids: np.ndarray, features: np.ndarray) -> None:
    """Write an attacked experiment on the items ``ids``; ``features`` are those of all items."""
    experiment = Experiment.parse(name)
    layout.experiment(experiment).mkdir()
    write_features(layout.features(experiment), features)
    write_table(layout.attack_report(experiment), pd.DataFrame({"image": ids}))


def write_promotion(root: Path, rows: Iterable[Mapping[str, object]]) -> Layout:
    """Write ``promotion.tsv`` of the data set ``shop``; columns that no row has are empty."""
    layout = Layout("shop", root)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    write_tables({layout.result("promotion.tsv"): table})
    return layout


def write_run(
    layout: Layout,
    run: Run,
    items: np.ndarray,
    ranks: np.ndarray | None = None,
    negatives: int = 10,
) -> None:
    """Write the lists ``items`` (users, K) with falling scores, and a held-out item of each user.

    ``ranks`` (users,) are theirs among so many ``negatives``; None writes none.
    """
    path, users = layout.recommendations(run), np.arange(len(items))
    (path.parent / "test_ranks").mkdir(parents=True, exist_ok=True)
    falling = np.arange(items.shape[1], 0, -1.0)
    write_top_k(path, TopK(items, np.tile(falling, (len(items), 1))))
    if ranks is not None:
        counted = np.full(len(items), negatives)
        write_test_ranks(
            layout.test_ranks(run), TestRanks(users, users, np.asarray(ranks), counted)
        )


def source_rows(layout: Layout, path: Path) -> list[tuple[str, str]]:
    """Read the (user, item) rows of a file of the data set in its order, in the ids of the source."""
    users, items = IdMap.read(layout.user_map), IdMap.read(layout.item_map)
    return [(users.originals[user], items.originals[item]) for user, item in read_pairs(path)]
