"""What every recommender trained on one experiment shares: interactions and features."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.datasets.catalogue import image_files
from src.datasets.interactions import Interactions, load_interactions
from src.recommenders.sampling import TripleSampler
from src.recommenders.weights import feature_scale


@dataclass(frozen=True)
class TrainingData:
    """Interactions and the features of one experiment."""

    interactions: Interactions
    features: np.ndarray
    """(items, features) float32, as the extractor left them."""

    @cached_property
    def sampler(self) -> TripleSampler:
        return TripleSampler.of(self.interactions)

    @cached_property
    def scale(self) -> float:
        return feature_scale(self.features)

    @cached_property
    def scaled_features(self) -> np.ndarray:
        return self.features / np.float32(self.scale)


def load_training_data(layout: Layout, experiment: Experiment) -> TrainingData:
    """Read and check one experiment; ``UserError`` where features and interactions do not fit."""
    layout.require_data()
    features = read_features(layout.features(experiment), _n_images(layout))
    return TrainingData(load_interactions(layout, len(features)), features)


def _n_images(layout: Layout) -> int | None:
    """How many items the catalogue has; None where the images themselves are not there."""
    if not layout.images.is_dir():
        return None
    return len(image_files(layout.images))
