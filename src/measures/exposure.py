"""Exposure of attacked items in the lists of one recommender, before and after an attack.

All values are exact over the users who may be shown an item, except places, which are those of a sample
of users.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_feature_rows, read_features
from src.artifacts.layout import Layout
from src.artifacts.tables import TopK
from src.attacks.items import popularity_thirds
from src.measures.norm_restored import at_clean_length
from src.measures.reliance import Reliance, visual_reliance
from src.recommenders.buyers import buyers_of
from src.recommenders.data import TrainingData
from src.recommenders.delta import Changed
from src.recommenders.models import Model
from src.recommenders.pixels import read_pixels
from src.recommenders.ranking import top_k
from src.recommenders.read_out import load_recommender, only_training
from src.recommenders.recommender import Recommender

_PLACED_USERS = 500


@dataclass(frozen=True)
class Subject:
    """One training of a recommender on one extractor's clean features."""

    layout: Layout
    run: Run
    recommender: Recommender
    data: TrainingData
    k: int

    @classmethod
    def read(
        cls,
        layout: Layout,
        wanted: Run,
        data: TrainingData,
        k: int,
        options: Collection[str] | None = None,
    ) -> "Subject":
        """Read the weights of ``wanted``, whatever its options are or with one of ``options``.

        ``UserError`` where there are none, or several.
        """
        run, recommender = load_recommender(only_training(layout, wanted, options), data)
        return cls(layout, run, recommender, data, k)

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        return self.recommender.factors(self.data.features)

    @cached_property
    def reliance(self) -> Reliance:
        return visual_reliance(self.recommender, self.data, self.k)

    def changed(self, ids: np.ndarray) -> Changed:
        return Changed(*self.factors, self.data.at_test_time, ids, self.k)

    def inputs(self, experiment: Experiment, ids: np.ndarray | None = None) -> np.ndarray:
        """Return the rows (n, D) that the recommender reads of images, of all or of the items ``ids``.

        They are features, or grey levels for a recommender that reads pixels.
        """
        if self.recommender.reads_pixels:
            pixels = read_pixels(self.layout, experiment)
            return pixels if ids is None else pixels[ids]
        file = self.layout.features(experiment)
        return read_features(file) if ids is None else read_feature_rows(file, ids)

    def lists(self, features: np.ndarray, ids: np.ndarray, of: np.ndarray) -> TopK:
        """Return the lists of users ``of``, ascending, when the items have their ``features`` (n, D)."""
        moved = self.data.features.copy()
        moved[ids] = features
        users, items = self.recommender.factors(moved)
        return top_k(users[of], items, self.data.at_test_time.of_users(of), self.k)

    def rows(self, features: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return the items' rows (n, d) when they have their ``features`` (n, D)."""
        moved = self.data.features.copy()
        moved[ids] = features
        return self.recommender.factors(moved)[1][ids]


@dataclass(frozen=True)
class Pushed:
    """Effect of one attack on n items of one recommender at test time.

    Exposure, places and scores are those of each item among the users who may be shown it. Measured by
    ``MeasuringBuyers`` they are those of the target among the item's buyers.
    """

    ids: np.ndarray
    popularity: np.ndarray
    """Third (n,) of each item by training interactions, or cold."""
    before: np.ndarray
    """Exposure (n,) of each clean item, a share of the users who may be shown it."""
    after: np.ndarray
    """Exposure (n,) of each item when it alone is attacked."""
    restored: np.ndarray
    """Exposure (n,) with the attacked features scaled back to their clean length; NaN for pixels."""
    places: tuple[np.ndarray, np.ndarray]
    """Medians (n,) over sampled users of the place before and after."""
    shift: np.ndarray
    """Change (n,) of the mean score."""
    listed_before: np.ndarray
    """Number (users,) of the items in each list when all are clean."""
    listed: np.ndarray
    """Number (users,) of the items in each list when all are attacked at once."""


class MeasuringBuyers:
    """Measures what attacks on the items of one subject show to their buyers: one target item.

    Exposure is the share of an item's buyers whose K best hold the target, and places and scores are the
    target's, where the item alone is attacked. Lists are those of all users; an attack changes those of
    the users who have an attacked item.
    """

    def __init__(self, subject: Subject, ids: np.ndarray, target: int) -> None:
        self.subject, self.ids = subject, ids
        self.buyers = buyers_of(subject.recommender, subject.data, ids, subject.k, target)
        self.popularity = popularity_thirds(subject.data.interactions.popularity)[ids]
        self.clean = subject.data.features[ids]
        self.places = self.buyers.places(self.clean)
        self.means = self.buyers.means(self.buyers.scores(self.clean))
        train = subject.data.interactions.train
        self.readers = np.unique(train[np.isin(train[:, 1], ids), 0])
        self.listed = self._listed(self.clean, np.arange(subject.data.interactions.n_users))

    def push(self, features: np.ndarray) -> Pushed:
        """Measure the items with their attacked ``features`` (n, D)."""
        listed = self.listed.copy()
        listed[self.readers] = self._listed(features, self.readers)
        places = self.buyers.places(features)
        restored = self.buyers.places(at_clean_length(features, self.clean))
        return Pushed(
            self.ids,
            self.popularity,
            self._exposure(self.places),
            self._exposure(places),
            self._exposure(restored),
            (self._medians(self.places), self._medians(places)),
            self.buyers.means(self.buyers.scores(features)) - self.means,
            self.listed,
            listed,
        )

    def _exposure(self, places: np.ndarray) -> np.ndarray:
        return self.buyers.means(places <= self.subject.k)

    def _medians(self, places: np.ndarray) -> np.ndarray:
        return pd.Series(places).groupby(self.buyers.row).median().to_numpy()

    def _listed(self, features: np.ndarray, users: np.ndarray) -> np.ndarray:
        lists = self.subject.lists(features, self.ids, users)
        return (lists.items == self.buyers.target).sum(axis=1)


class Measuring:
    """Measures attacks on the items of one subject; what the clean run needs is computed once."""

    def __init__(self, subject: Subject, ids: np.ndarray) -> None:
        self.subject, self.ids = subject, ids
        self.changed = subject.changed(ids)
        self.best, self.others = self.changed.best(), self.changed.others()
        interactions = subject.data.interactions.popularity
        self.popularity = popularity_thirds(interactions)[ids]
        self.clean_rows = subject.factors[1][ids]
        n_users = len(subject.factors[0])
        rng = np.random.default_rng(0)
        self.sample = np.sort(rng.choice(n_users, min(_PLACED_USERS, n_users), replace=False))
        self.before = self._exposure(self.clean_rows)
        self.places = self._places(self.clean_rows)
        self.listed = self._listed(self.clean_rows)
        self.means = self.changed.mean_scores(self.clean_rows)

    def push(self, features: np.ndarray) -> Pushed:
        """Measure the items with their attacked ``features`` (n, D)."""
        rows = self.subject.rows(features, self.ids)
        if self.subject.recommender.reads_pixels:
            restored = np.full(len(self.ids), np.nan)
        else:
            clean = self.subject.data.features[self.ids]
            restored = self._exposure(self.subject.rows(at_clean_length(features, clean), self.ids))
        return Pushed(
            self.ids,
            self.popularity,
            self.before,
            self._exposure(rows),
            restored,
            (self.places, self._places(rows)),
            self.changed.mean_scores(rows) - self.means,
            self.listed,
            self._listed(rows),
        )

    def _exposure(self, rows: np.ndarray) -> np.ndarray:
        return self.changed.users_shown(rows, self.best) / self.changed.audience

    def _places(self, rows: np.ndarray) -> np.ndarray:
        return np.nanmedian(self.changed.places(rows, self.sample), axis=0)

    def _listed(self, rows: np.ndarray) -> np.ndarray:
        lists = self.changed.lists(rows, self.others)
        return np.isin(lists.items, self.ids).sum(axis=1)


def require_target(model: str, target_item: int | None) -> None:
    """Raise ``UserError`` for a recommender whose users read images, without a ``target_item``."""
    if target_item is None and Model.parse(model).kind.moves_users:
        raise UserError(
            f"{model}: an image moves the lists of the users who have its item, and not the item's own "
            "place: audits.promotion measures another item in their lists, --target_item"
        )


def retrained_lists(subject: Subject, experiment: Experiment, ids: np.ndarray) -> np.ndarray | None:
    """Return the attacked items (users,) in the lists of the recommender trained on attacked images.

    None if it has not been trained.
    """
    run = replace(subject.run, experiment=experiment)
    if not subject.layout.weights(run).is_file():
        return None
    features = subject.inputs(experiment)
    data = replace(subject.data, features=features)
    _, recommender = load_recommender(subject.layout.weights(run), data)
    lists = top_k(*recommender.factors(features), data.at_test_time, subject.k)
    return np.isin(lists.items, ids).sum(axis=1)
