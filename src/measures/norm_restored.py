"""Lists under attacks at test time whose features are changed before the recommender reads them.

``norm_restored``: the features of ReLU networks grow under any high-frequency pattern, and the scores of
VBPR and AMR are linear in them. If each attacked feature is scaled back to the length of the clean one,
only the effect of its direction remains. ``displaced``, a placebo: the clean features are moved as far as
the attack moves them, in random directions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from src.artifacts.classes import read_attacked_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.tables import TopK
from src.datasets.interactions import load_interactions
from src.recommenders.data import TrainingData
from src.recommenders.delta import Changed
from src.recommenders.factor_models import VBPR
from src.recommenders.models import Model

FeatureChange = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Features (n, d) of attacked items from their attacked ones and their clean ones."""


def can_restore(layout: Layout, run: Run) -> bool:
    """Return whether ``run`` has a linear recommender at test time, with weights and features."""
    kind = Model.parse(run.model).kind
    linear = issubclass(kind, VBPR)
    return (
        run.protocol == "test_time" and linear and all(map(Path.is_file, read_files(layout, run)))
    )


def read_files(layout: Layout, run: Run) -> list[Path]:
    """Return the files that ``Restored`` reads, but for the interactions."""
    experiment = run.experiment
    features = [layout.features(experiment.clean), layout.features(experiment)]
    return [layout.weights(run.clean), layout.classes(experiment), *features]


@dataclass(frozen=True)
class Restored:
    """A recommender of clean features that ranks again what attacks on some items leave."""

    layout: Layout
    run: Run
    """The clean run."""
    ids: tuple[int, ...]
    """The attacked items, ascending."""
    length: int
    """Length of the lists."""

    @classmethod
    def of(cls, layout: Layout, run: Run, length: int) -> "Restored":
        """Describe what the attacked ``run`` needs: equal for runs that can share its ranking."""
        attacked, _ = read_attacked_classes(layout.classes(run.experiment))
        return cls(layout, run.clean, tuple(sorted(attacked.image_ids.tolist())), length)

    def lists(self, experiment: Experiment, changed: FeatureChange) -> np.ndarray:
        """Return the lists (users, length) of items, all attacked features as ``changed`` makes them."""
        clean = self._data.features
        ids = np.array(self.ids)
        features = read_features(self.layout.features(experiment), len(clean))
        moved = clean.copy()
        moved[ids] = changed(features[ids], clean[ids])
        _, items = self._recommender.factors(moved)
        return self._changed.lists(items[self._changed.ids], self._others).items

    @cached_property
    def _data(self) -> TrainingData:
        clean = read_features(self.layout.features(self.run.experiment))
        return TrainingData(load_interactions(self.layout, len(clean)), clean)

    @cached_property
    def _recommender(self) -> VBPR:
        model = Model.parse(self.run.model)
        return model.kind.load(self.layout.weights(self.run), self._data, model.form)

    @cached_property
    def _changed(self) -> Changed:
        users, items = self._recommender.factors(self._data.features)
        interactions, ids = self._data.at_test_time, np.array(self.ids)
        shown = ids[interactions.popularity[ids] < interactions.n_users]
        return Changed(users, items, interactions, shown, self.length)

    @cached_property
    def _others(self) -> TopK:
        """The best items that no attack changes, ranked once for all attacks."""
        return self._changed.others()


def at_clean_length(features: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Scale the rows of ``features`` (n, d) to the L2 norms of those of ``clean``."""
    lengths, wanted = (np.linalg.norm(of, axis=1, keepdims=True) for of in (features, clean))
    return features * np.divide(wanted, lengths, out=np.ones_like(wanted), where=lengths > 0)


def displaced(features: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Move the rows of ``clean`` (n, d) as far as those of ``features`` are, in random directions.

    The directions are the same for all attacks on the same items.
    """
    directions = np.random.default_rng(0).standard_normal(clean.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances = np.linalg.norm(features - clean, axis=1, keepdims=True)
    return (clean + distances * directions).astype(clean.dtype)


RANKED_AGAIN: dict[str, FeatureChange] = {"norm_restored": at_clean_length, "displaced": displaced}
"""Changes of attacked features for which lists are ranked again, by the names of their effects."""
