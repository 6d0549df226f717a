"""The contract of a recommender: what it learns from, what it scores by, and how it is stored.

A recommender is a class in a file of its own and a row of ``RECOMMENDERS`` (``registry.py``). Lists,
ranks, both protocols, attacks on parameters, studies and the report follow from these methods. Each
file chooses its framework and imports it inside ``fit``; only arrays go in and out.
"""

import dataclasses
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.data import TrainingData
from src.recommenders.parameter_attack import Parameter, parameters_of
from src.recommenders.scores import Form

Factors = tuple[np.ndarray, np.ndarray]
"""Finite float32 matrices (users, d) and (items, d), whose product is the matrix of scores."""


@dataclasses.dataclass(frozen=True)
class Recommender(ABC):
    """A fitted recommender. A subclass is a frozen dataclass whose fields are arrays.

    One that holds something else also writes ``save`` and ``load``.
    """

    reads_images: ClassVar[bool] = False
    """Whether it scores by images' features. Only then it can be attacked through images, and only then
    its state is stored: others have no test time."""
    continues: ClassVar[str | None] = None
    """The plain recommender that an adversarial one continues and is compared with."""
    forms: ClassVar[dict[str, Form | None]] = {"": None}
    """Its forms, by what names of runs show of them. The first one is the default."""

    @classmethod
    @abstractmethod
    def fit(cls, data: TrainingData, seed: int) -> Self:
        """Learn from ``data``; the same data and ``seed`` give the same bytes.

        ``data.features`` are there where images are read. Options of its own follow by name, each with
        its default.
        """

    @abstractmethod
    def factors(self, features: np.ndarray | None) -> Factors:
        """Users and items whose products are the scores, when the images have these ``features``.

        ``features``: (items, features) float32 as the extractor left them, clean or attacked; None
        where no images are read. Raises ``UserError`` for features of another shape than those learnt
        from.
        """

    @property
    def unit(self) -> bool:
        """Whether it reads each image's features divided by their length."""
        return False

    def slopes(self, users: np.ndarray | slice = slice(None)) -> np.ndarray | None:
        """Slopes of the scores of some users (all) in features as they are read: (users, features).

        They are the same for every item and all features, since a score is linear in features. None
        where it is not, where no images are read, or where nobody wrote it: there are no attacks on
        lists then.
        """
        del users
        return None

    def directions(self, features: np.ndarray, item: int) -> np.ndarray | None:
        """The gradient of every user's score of ``item`` in that item's features: (users, features).

        ``features`` are those of ``factors``. None where no images are read, or nobody wrote it. Of
        features f that are read as f / |f| it is the part of the slope across f, divided by |f|.
        """
        slopes = self.slopes()
        if slopes is None or not self.unit:
            return slopes
        length = np.linalg.norm(features[item]) or np.float32(1)
        along = features[item] / length
        return (slopes - np.outer(slopes @ along, along)) / length

    def parameters(self, factors: Factors) -> dict[str, Parameter]:
        """The tables that ``audits.parameters`` can move, by name; here the two factor matrices."""
        users, items = factors
        return parameters_of("mf", {"P": users, "Q": items})

    def save(self, path: Path) -> None:
        """Write the fields to an ``.npz`` archive."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        with path.open("wb") as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: Path, data: TrainingData) -> Self:
        """Read what ``save`` wrote for a data set of this size; ``UserError`` where it does not fit."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                loaded = cls(
                    **{field.name: archive[field.name] for field in dataclasses.fields(cls)}
                )
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} does not hold a fitted {cls.__name__}: {error}") from error
        users, items = loaded.factors(data.features)
        size = data.interactions.n_users, data.interactions.n_items
        if (len(users), len(items)) != size:
            raise UserError(
                f"{path} is of {len(users)} users and {len(items)} items, this data set has "
                f"{size[0]} and {size[1]}"
            )
        return loaded


def require_features(features: np.ndarray | None, n_items: int, n_features: int) -> np.ndarray:
    """``features`` if they are (n_items, n_features); otherwise ``UserError``."""
    shape = None if features is None else features.shape
    if shape != (n_items, n_features):
        raise UserError(f"features are {shape}, the recommender needs {(n_items, n_features)}")
    return features
