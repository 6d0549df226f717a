"""Data sets of features alone, as tests of promotion write them."""

from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import FactorModel


def write_shop(root: Path, recommender: FactorModel, data: TrainingData, run: Run) -> Layout:
    """Write the data set ``shop`` with its clean features, interactions and trained recommender."""
    layout = Layout("shop", root)
    (layout.data / "original").mkdir(parents=True)
    np.save(layout.features(Experiment()), data.features)
    for path, pairs in (
        (layout.training_set, data.interactions.train),
        (layout.test_set, data.interactions.test),
    ):
        np.savetxt(path, pairs, fmt="%d", delimiter="\t")
    layout.weights(run).parent.mkdir(parents=True)
    recommender.save(layout.weights(run))
    return layout


def write_attack(layout: Layout, name: str, ids: np.ndarray, features: np.ndarray) -> None:
    """Write an attacked experiment on the items ``ids``; ``features`` are those of all items."""
    folder = layout.data / name
    folder.mkdir()
    np.save(folder / "features.npy", features)
    pd.DataFrame({"image": ids}).to_csv(folder / "attack.tsv", sep="\t", index=False)
