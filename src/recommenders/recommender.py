"""Contract of recommenders: how they learn, score and are stored.

A recommender is a class in a file of its own and a row of ``RECOMMENDERS`` (``registry.py``). Lists,
ranks, both protocols, attacks on parameters, studies and the report follow from these methods. Each
file chooses its framework and imports it inside ``fit``; only arrays go in and out.
"""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np

from src.artifacts.arrays import read_arrays
from src.artifacts.errors import UserError
from src.recommenders.data import TrainingData
from src.recommenders.parameter_attack import Parameter, parameters_of
from src.recommenders.scores import Form

Factors = tuple[np.ndarray, np.ndarray]
"""Finite float32 matrices (users, d) and (items, d), whose product is the matrix of scores."""


@dataclasses.dataclass(frozen=True)
class Recommender(ABC):
    """Fitted recommender. A subclass is a frozen dataclass whose fields are arrays.

    A subclass with other fields also defines ``save`` and ``load``.
    """

    reads_images: ClassVar[bool] = False
    """True if it scores by images' features. Then it can be attacked through images, and its state is
    stored for the test-time protocol."""
    reads_pixels: ClassVar[bool] = False
    """True if it reads images through a network of its own. Its features are then the images' grey
    levels: (items, side * side * 3), 0 to 255, uint8 or float32."""
    moves_users: ClassVar[bool] = False
    """True if the features of the items that a user has change the user's row. An item that alone is
    changed then keeps its place for all who do not have it, and moves the lists of those who do."""
    framework: ClassVar[Literal["tensorflow", "torch"] | None] = None
    """Framework that ``fit`` imports."""
    continues: ClassVar[str | None] = None
    """Plain recommender that an adversarial one continues and is compared with."""
    forms: ClassVar[dict[str, Form | None]] = {"": None}
    """Forms, by their text in names of runs. The first form is the default."""

    @classmethod
    @abstractmethod
    def fit(cls, data: TrainingData, seed: int) -> Self:
        """Learn from ``data``; the same data and ``seed`` give the same bytes.

        ``data.features`` are not None if images are read. The recommender's own options follow by
        name, each with its default.
        """

    @abstractmethod
    def factors(self, features: np.ndarray | None) -> Factors:
        """Return users and items whose products are the scores for images with these ``features``.

        ``features`` are (items, features) float32 as extracted, clean or attacked; None if no images are
        read. Raises ``UserError`` for features of another shape than those of the training.
        """

    @property
    def unit(self) -> bool:
        """True if it reads each image's features divided by their length."""
        return False

    def embedded(self, features: np.ndarray) -> np.ndarray:
        """Return the features (items, d) in which ``slopes`` are: ``features`` unless it reads pixels."""
        return features

    def slopes(self, users: np.ndarray | slice = slice(None)) -> np.ndarray | None:
        """Return the slopes (users, features) of the scores of some users (default: all) in features.

        Features are those that the score reads. Slopes are equal for all items and features if a score is
        linear in features. None stands for other scores, for recommenders that read no images and for
        those without this method, which attacks on lists cannot use.
        """
        del users
        return None

    def directions(self, features: np.ndarray, item: int) -> np.ndarray | None:
        """Return the gradient (users, features) of every user's score of ``item`` in its features.

        ``features`` are those of ``factors``. None stands for recommenders that read no images or have
        no slopes. For features f that are read as f / |f| it is the slope's part orthogonal to f,
        divided by |f|.
        """
        slopes = self.slopes()
        return None if slopes is None else self.through_length(slopes, features[item])

    def through_length(self, slopes: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return gradients (users, d) in ``features`` (d,) from slopes in features as they are read."""
        if not self.unit:
            return slopes
        length = np.linalg.norm(features) or np.float32(1)
        along = features / length
        return (slopes - np.outer(slopes @ along, along)) / length

    def parameters(self, factors: Factors) -> dict[str, Parameter]:
        """Return the tables that ``audits.parameters`` can move, by name: the two factor matrices."""
        users, items = factors
        return parameters_of("mf", {"P": users, "Q": items})

    def save(self, path: Path) -> None:
        """Write the fields to an ``.npz`` archive."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        with path.open("wb") as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: Path, data: TrainingData) -> Self:
        """Read a file of ``save`` for a data set of this size; ``UserError`` if it does not fit."""
        names = [field.name for field in dataclasses.fields(cls)]
        arrays = read_arrays(path, names)
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
                raise UserError(f"{path}: {name} holds NaN, infinite values or no numbers")
        loaded = cls(**arrays)
        users, items = loaded.factors(data.features)
        size = data.interactions.n_users, data.interactions.n_items
        if (len(users), len(items)) != size:
            raise UserError(
                f"{path} is of {len(users)} users and {len(items)} items, this data set has "
                f"{size[0]} and {size[1]}"
            )
        return loaded


def require_features(features: np.ndarray | None, n_items: int, n_features: int) -> np.ndarray:
    """Return ``features`` if they are (n_items, n_features); otherwise raise ``UserError``."""
    shape = None if features is None else features.shape
    if shape != (n_items, n_features):
        raise UserError(f"features are {shape}, the recommender needs {(n_items, n_features)}")
    return features
