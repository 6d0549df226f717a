"""Lists under attacks at test time whose features keep their clean length.

The features of ReLU networks grow under any high-frequency pattern, and the scores of VBPR and AMR are
linear in them. If each attacked feature is scaled back to the length of the clean one, only the effect of
its direction remains.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.artifacts.classes import read_attacked_classes
from src.artifacts.experiments import Run
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.datasets.interactions import load_interactions
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import FactorModel
from src.recommenders.models import Model
from src.recommenders.ranking import top_k


def can_restore(layout: Layout, run: Run) -> bool:
    """Return whether ``run`` has a linear recommender at test time, with weights and features."""
    kind = Model.parse(run.model).kind
    linear = issubclass(kind, FactorModel) and kind.reads_images
    return (
        run.protocol == "test_time" and linear and all(map(Path.is_file, read_files(layout, run)))
    )


def read_files(layout: Layout, run: Run) -> list[Path]:
    """Return the files that ``restored_lists`` reads, without the interactions."""
    experiment = run.experiment
    features = [layout.features(experiment.clean), layout.features(experiment)]
    return [layout.weights(run.clean), layout.classes(experiment), *features]


def restored_lists(layout: Layout, run: Run, users: np.ndarray, length: int) -> np.ndarray:
    """Rank the catalogue with every attacked feature at its clean length: (len(users), length) items.

    ``users`` are the users with lists.
    """
    clean = read_features(layout.features(run.experiment.clean))
    features = read_features(layout.features(run.experiment), len(clean))
    attacked = read_attacked_classes(layout.classes(run.experiment))[0].image_ids
    features = at_clean_length(features, clean, attacked)
    data = TrainingData(load_interactions(layout, len(clean)), features)
    model = Model.parse(run.model)
    recommender = model.kind.load(layout.weights(run.clean), data, model.form)
    return top_k(*recommender.factors(features), data.at_test_time, length).items[users]


def at_clean_length(features: np.ndarray, clean: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Scale the rows ``ids`` of ``features`` (items, d) to the L2 norms of those of ``clean``."""
    lengths, wanted = (np.linalg.norm(of[ids], axis=1, keepdims=True) for of in (features, clean))
    restored = features.copy()
    restored[ids] *= np.divide(wanted, lengths, out=np.ones_like(wanted), where=lengths > 0)
    return restored
