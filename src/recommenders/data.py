"""Interactions and features of an experiment, shared by all recommenders trained on it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.experiments import CLEAN, Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.datasets.catalogue import count_items
from src.datasets.interactions import Interactions, load_interactions
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.pixels import read_pixels
from src.recommenders.sampling import TripleSampler
from src.recommenders.weights import feature_scale, scaled, table_shapes


@dataclass(frozen=True)
class TrainingData:
    """Interactions and, for visual recommenders, the features of one experiment."""

    interactions: Interactions
    features: np.ndarray | None = None
    """Features (items, features) float32, as extracted; uint8 grey levels for those that read pixels."""
    unit: bool = False
    """True if a recommender reads each image's features divided by their length."""

    @cached_property
    def sampler(self) -> TripleSampler:
        return TripleSampler.of(self.interactions, cold_items=self.features is None)

    @cached_property
    def scale(self) -> float:
        return 1.0 if self.features is None else feature_scale(self.features, self.unit)

    @cached_property
    def scaled_features(self) -> np.ndarray | None:
        return None if self.features is None else scaled(self.features, self.scale, self.unit)

    @cached_property
    def at_test_time(self) -> Interactions:
        """Data for the final lists and ranks, with validation rows among the training rows."""
        interactions = self.interactions
        known = np.concatenate([interactions.train, interactions.validation])
        known = known[np.lexsort((known[:, 1], known[:, 0]))]
        return replace(interactions, train=known, validation=known[:0])

    @cached_property
    def at_validation(self) -> Interactions:
        """Data with the validation rows in the place of the test rows."""
        held_out = self.interactions.validation
        return replace(self.interactions, test=held_out, validation=held_out[:0])

    def shapes(self, hyperparameters: Hyperparameters) -> tuple[tuple[int, int], ...]:
        """Shapes of the tables of a recommender of this data."""
        n_features = 0 if self.features is None else self.features.shape[1]
        sizes = self.interactions.n_users, self.interactions.n_items, n_features
        return table_shapes(*sizes, hyperparameters)


def load_training_data(
    layout: Layout,
    experiment: Experiment,
    visual: bool = True,
    unit: bool = False,
    pixels: bool = False,
) -> TrainingData:
    """Read and check one experiment; ``UserError`` if features and interactions do not fit.

    A recommender that is not ``visual`` has no features; its only experiment is the clean one. With
    ``pixels`` features are the grey levels of the experiment's images.
    """
    layout.require_data()
    if pixels:
        features = read_pixels(layout, experiment)
        return TrainingData(load_interactions(layout, len(features)), features)
    if visual:
        features = read_features(layout.features(experiment), count_items(layout))
        return TrainingData(load_interactions(layout, len(features)), features, unit)
    if experiment != Experiment():
        raise UserError(
            f"{experiment.name}: this recommender does not look at images, its only experiment is "
            f"{CLEAN}"
        )
    return TrainingData(load_interactions(layout, count_items(layout)))
