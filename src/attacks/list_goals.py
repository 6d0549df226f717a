"""Goals of attacks on lists: what users are shown, instead of what a classifier sees.

A recommender crosses into torch as the arrays of ``recommenders.audience``: its scores are linear in
features, so an image needs one backward pass through the extractor, whatever the number of users.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.experiments import DEMOTE
from src.extractors.extractor import Prediction
from src.recommenders.audience import Audience

_BELOW_A_USER = 1e-6
"""Weight of the objective beside exposure: it only orders images that equally many users are shown."""
_OF_THE_MEDIAN = 1 / 12
"""T of the smooth count, as a share of the median distance of scores from their thresholds.

A wide count suits catalogues where the attack reaches half of the users, a narrow one those where it
reaches few. A twelfth costs the former a tenth of the exposure of 3/4, and gives the latter a quarter
more.
"""


@dataclass(frozen=True)
class ListGoal:
    """Raise what N items' images are worth to the users who may be shown them; subclasses say how.

    Whatever the objective is, images are compared by exposure: the share of these users whose K best the
    image enters when it alone is changed.
    """

    slopes: Tensor
    """(U, D): slopes of the users' scores in features as they are read; shared by all images."""
    offsets: Tensor
    """(N, U): scores at features of zero."""
    thresholds: Tensor
    """(N, U): the scores to beat."""
    weights: Tensor
    """(N, U): 1 / number of users who may be shown the item, 0 for the others."""
    clean: Tensor
    """(N,): exposure of the clean images."""
    temperature: Tensor
    """(N, 1): the distance from a threshold within which the smooth count has a slope."""
    sign: int = 1
    """-1: the items are to be shown to fewer users."""
    unit: bool = False
    """Whether features are read at length 1."""

    @classmethod
    def of(cls, audience: Audience, device: torch.device, *, demote: bool = False) -> Self:
        """The goal of the items of an ``audience``, in its order."""
        slopes, features, scores, thresholds, may_see = (
            torch.from_numpy(values).to(device)
            for values in (
                audience.slopes,
                audience.features,
                audience.scores,
                audience.thresholds,
                audience.may_see,
            )
        )
        margins = scores - thresholds
        known = may_see & thresholds.isfinite()
        distance = (
            margins.abs().masked_fill(~known, torch.nan).nanmedian(dim=1, keepdim=True).values
        )
        temperature = (_OF_THE_MEDIAN * distance).nan_to_num(1.0)
        weights = may_see / may_see.sum(dim=1, keepdim=True)
        return cls(
            slopes,
            scores - features @ slopes.T,
            thresholds,
            weights,
            ((margins > 0) * weights).sum(dim=1),
            temperature.clamp_min(torch.finfo(scores.dtype).tiny),
            -1 if demote else 1,
            audience.unit,
        )

    def scores(self, prediction: Prediction) -> Tensor:
        """Return the score (N, U) that every user gives to every image."""
        features = prediction.features
        if self.unit:
            features = functional.normalize(features, dim=1)
        return features @ self.slopes.T + self.offsets

    def worth(self, prediction: Prediction, scores: Tensor) -> Tensor:
        """Return the objective (N,), larger where an item is nearer to the lists.

        ``scores`` (N, U) are those of the ``prediction``.
        """
        raise NotImplementedError

    def exposure(self, prediction: Prediction) -> Tensor:
        """Return the share (N,) of the users who may be shown the item whose K best it enters."""
        return self._shown(self.scores(prediction))

    def _shown(self, scores: Tensor) -> Tensor:
        return ((scores > self.thresholds) * self.weights).sum(dim=1)

    def __call__(self, prediction: Prediction) -> Tensor:
        return -self.sign * self.worth(prediction, self.scores(prediction))

    def achieved(self, prediction: Prediction) -> Tensor:
        """Return exposure (N,) for comparisons; the objective decides between equal values."""
        scores = self.scores(prediction)
        worth = self.worth(prediction, scores)
        return self.sign * (self._shown(scores) + _BELOW_A_USER * worth / (1 + worth.abs()))

    def missed_by(self, prediction: Prediction) -> Tensor:
        """Return the loss of exposure (N,) against the clean image; negative where it rose."""
        return self.sign * (self.clean - self.exposure(prediction))

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        """Return whether exposure changed as wanted by more than ``confidence``, (N,) bool."""
        return self.missed_by(prediction) < -confidence

    def __getitem__(self, rows: Tensor) -> Self:
        own = {of.name: getattr(self, of.name)[rows] for of in fields(self) if of.name in _OF_ITEMS}
        return replace(self, **own)

    def to(self, device: torch.device) -> Self:
        tensors = {of.name: getattr(self, of.name) for of in fields(self)}
        moved = {name: of.to(device) for name, of in tensors.items() if isinstance(of, Tensor)}
        return replace(self, **moved)


_OF_ITEMS = {"offsets", "thresholds", "weights", "clean", "temperature", "hooks", "own"}


@dataclass(frozen=True)
class ScoreGoal(ListGoal):
    """The mean score over users (WBSign; Cohen et al., WSDM 2021)."""

    def worth(self, prediction: Prediction, scores: Tensor) -> Tensor:
        return (scores * self.weights).sum(dim=1)


@dataclass(frozen=True)
class InsaGoal(ListGoal):
    """Log of the mean of exp(score) over users (AIP's INSA; Liu and Larson, WWW 2021).

    Users who score the item highest count most.
    """

    def worth(self, prediction: Prediction, scores: Tensor) -> Tensor:
        return torch.logsumexp(scores + self.weights.log(), dim=1)


@dataclass(frozen=True)
class RankGoal(ListGoal):
    """The smooth count of the users who are shown the item: mean of sigmoid((s_u - t_u) / T)."""

    def worth(self, prediction: Prediction, scores: Tensor) -> Tensor:
        margins = (scores - self.thresholds) / self.temperature
        return (margins.sigmoid() * self.weights).sum(dim=1)


@dataclass(frozen=True)
class FeatureGoal(ListGoal):
    """Minus the squared distance to the features of a popular item (AIP's EXPA)."""

    hooks: Tensor | None = None
    """(N, D)."""

    def worth(self, prediction: Prediction, scores: Tensor) -> Tensor:
        return -(prediction.features - self.hooks).square().sum(dim=1)


@dataclass(frozen=True)
class PlaceGoal(ListGoal):
    """Goal of an attacker who knows only the places of his items in the lists of his own accounts.

    The mean over accounts of K / (K + place), a smooth count of the accounts that are shown the item. It
    reads places alone: no score, no slope. Images are compared by it too, since exposure among few
    accounts is a coarse measure.
    """

    rivals: Tensor | None = None
    """(U, I): each account's scores of the clean items, ascending."""
    own: Tensor | None = None
    """(N, U): scores of the clean items that are attacked."""
    k: int = 1
    """Length of the lists."""

    def places(self, scores: Tensor) -> Tensor:
        """Return the place (N, U) int64 of each image in each account's list; 1 is the first.

        ``scores`` (N, U) are the accounts'. Equal scores count against the image, and its clean image is
        no rival of it.
        """
        below = torch.searchsorted(self.rivals, scores.T.contiguous()).T
        return 1 + self.rivals.shape[1] - below - (self.own >= scores).long()

    def worth(self, prediction: Prediction, scores: Tensor) -> Tensor:
        return (self.k / (self.k + self.places(scores)) * self.weights).sum(dim=1)

    def achieved(self, prediction: Prediction) -> Tensor:
        return -self(prediction)


_OBJECTIVES: dict[str, type[ListGoal]] = {
    "score": ScoreGoal,
    "rank": RankGoal,
    "insa": InsaGoal,
    "expa": FeatureGoal,
}
"""By the names of ``artifacts.experiments.LIST_OBJECTIVES``."""


def list_goal(objective: str, audience: Audience, device: torch.device) -> ListGoal:
    """The goal that ``objective`` names (``rank``, ``demote-score``) for the items of an audience."""
    kind = _OBJECTIVES[objective.removeprefix(DEMOTE)]
    goal = kind.of(audience, device, demote=objective.startswith(DEMOTE))
    if kind is FeatureGoal:
        hook = torch.from_numpy(audience.hook).to(device)
        goal = replace(goal, hooks=hook.expand(len(goal.clean), -1))
    return goal


def place_goal(objective: str, accounts: Audience, k: int, device: torch.device) -> PlaceGoal:
    """The goal of ``objective`` (``rank``, ``demote-rank``) for who asks ``accounts`` for places.

    ``k`` is the length of the lists.
    """
    goal = PlaceGoal.of(accounts, device, demote=objective.startswith(DEMOTE))
    rivals, own = (
        torch.from_numpy(values).to(device) for values in (accounts.rivals, accounts.scores)
    )
    return replace(goal, rivals=rivals, own=own, k=k)
