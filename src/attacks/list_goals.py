"""Goals of attacks on lists: what users are shown, instead of what a classifier sees.

A recommender crosses into torch as the arrays of ``recommenders.audience``: its scores are linear in
features, so an image needs one backward pass through the extractor, whatever the number of users. One
whose users read the images of their own items crosses as the arrays of ``recommenders.buyers``.
"""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.experiments import DEMOTE
from src.extractors.extractor import Prediction
from src.recommenders.audience import Audience
from src.recommenders.buyers import Buyers, numbers_in_groups

_BELOW_A_USER = 1e-6
"""Weight of the objective beside exposure: it only orders images that equally many users are shown."""
_OF_THE_MEDIAN = 1 / 12
"""T of the smooth count, as a share of the median distance of scores from their thresholds.

A wide count suits catalogues where the attack reaches half of the users, a narrow one those where it
reaches few. A twelfth costs the former a tenth of the exposure of 3/4, and gives the latter a quarter
more.
"""


class _Tensors:
    """Base of frozen dataclasses of tensors, whose first axis is that of the N images.

    Fields in ``shared`` are equal for all images.
    """

    shared: ClassVar[frozenset[str]] = frozenset()

    def __getitem__(self, rows: Tensor) -> Self:
        """Return the part of some images."""
        own = {name: of for name, of in self._tensors().items() if name not in self.shared}
        return replace(self, **{name: of[rows] for name, of in own.items()})

    def to(self, device: torch.device) -> Self:
        return replace(self, **{name: of.to(device) for name, of in self._tensors().items()})

    def _tensors(self) -> dict[str, "Tensor | _Tensors"]:
        values = {of.name: getattr(self, of.name) for of in fields(self)}
        return {name: of for name, of in values.items() if isinstance(of, Tensor | _Tensors)}


@dataclass(frozen=True)
class OwnScores(_Tensors):
    """Scores of the attacked items, which are linear in features as they are read."""

    shared: ClassVar = frozenset({"slopes"})

    slopes: Tensor
    """(U, D): slopes of the users' scores."""
    offsets: Tensor
    """(N, U): scores at features of zero."""
    thresholds: Tensor
    """(N, U): the scores to beat."""
    unit: bool
    """Whether features are read at length 1."""

    @classmethod
    def of(cls, audience: Audience) -> Self:
        slopes, features, scores, thresholds = (
            torch.from_numpy(values)
            for values in (
                audience.slopes,
                audience.features,
                audience.scores,
                audience.thresholds,
            )
        )
        return cls(slopes, scores - features @ slopes.T, thresholds, audience.unit)

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return every user's score of every image, and the score to beat, (N, U) each."""
        if self.unit:
            features = functional.normalize(features, dim=1)
        return features @ self.slopes.T + self.offsets, self.thresholds


@dataclass(frozen=True)
class TargetScores(_Tensors):
    """Scores of one target item by the users who have an attacked item (``recommenders.buyers``).

    B is the largest number of buyers of an item; other items are filled up with pairs that do not count.
    """

    shared: ClassVar = frozenset({"maps", "out"})

    maps: Tensor
    """(D, H): from features to the hidden layer of the attention."""
    out: Tensor
    """(H,): from the hidden layer to the logit."""
    hidden: Tensor
    """(N, B, H): hidden layer before its relu, at features of zero."""
    rest: Tensor
    """(N, B): log of the sum of exp(logit) over the buyer's other items."""
    ends: Tensor
    """(N, B, 2): scores of the target where the attacked item has weight 0 and 1."""
    thresholds: Tensor
    """(N, B, knots): scores that the target has to beat, where that weight is 0, ..., 1."""
    unit: bool
    """Whether features are read at length 1."""

    @classmethod
    def of(cls, buyers: Buyers) -> Self:
        weights = buyers.recommender.weights
        maps = weights.tables["A_features"] / np.float32(weights.scale)
        parts = (buyers.hidden, buyers.rest, buyers.ends, buyers.thresholds)
        return cls(
            torch.from_numpy(maps),
            torch.from_numpy(weights.tables["A_out"]),
            *(_filled_up(buyers, of) for of in parts),
            weights.unit,
        )

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return every buyer's score of the target, and the score to beat, (N, B) each.

        The scores to beat are interpolated between the knots.
        """
        if self.unit:
            features = functional.normalize(features, dim=1)
        hidden = (self.hidden + (features @ self.maps)[:, None]).relu()
        alpha = (hidden @ self.out - self.rest).sigmoid()
        scores = self.ends[..., 0] + alpha * (self.ends[..., 1] - self.ends[..., 0])
        last = self.thresholds.shape[2] - 1
        left = (alpha.detach() * last).long().clamp_max(last - 1)[..., None]
        start, stop = (self.thresholds.gather(2, at)[..., 0] for at in (left, left + 1))
        # Lists with fewer than K candidates have -inf at all knots.
        rise = (stop - start).nan_to_num(0.0)
        return scores, start + (alpha * last - left[..., 0]) * rise


def _filled_up(buyers: Buyers, values: np.ndarray) -> Tensor:
    """Return ``values`` (pairs, ...) as (N, B, ...), with zeros where an item has fewer buyers."""
    counts = np.bincount(buyers.row, minlength=buyers.n)
    filled = np.zeros((buyers.n, counts.max(), *values.shape[1:]), values.dtype)
    filled[buyers.row, numbers_in_groups(counts)] = values
    return torch.from_numpy(filled)


@dataclass(frozen=True)
class ListGoal(_Tensors):
    """Goal of an attack on lists: to raise N items in the lists of the users whom their images reach.

    Subclasses say what is raised. The users are those who may be shown the item. For a recommender
    whose users read the images of their own items they are the item's buyers, who shall be shown a
    target item. Whatever the objective is, images are compared by exposure: the share of these
    users whose K best hold the item, or the target, when the image alone is changed.
    """

    scored: OwnScores | TargetScores
    weights: Tensor
    """(N, U): 1 / number of users whom the image reaches, 0 for the others."""
    clean: Tensor
    """(N,): exposure of the clean images."""
    temperature: Tensor
    """(N, 1): the distance from a threshold within which the smooth count has a slope."""
    sign: int = 1
    """-1: the items are to be shown to fewer users."""

    @classmethod
    def of(cls, audience: Audience | Buyers, device: torch.device, *, demote: bool = False) -> Self:
        """Return the goal of the items of an ``audience``, in its order."""
        if isinstance(audience, Buyers):
            scored = TargetScores.of(audience)
            scores, thresholds = scored(torch.from_numpy(audience.features))
            reached = _filled_up(audience, np.ones(len(audience.row), bool))
        else:
            scored, scores = OwnScores.of(audience), torch.from_numpy(audience.scores)
            thresholds, reached = scored.thresholds, torch.from_numpy(audience.may_see)
        margins = scores - thresholds
        known = reached & thresholds.isfinite()
        distance = (
            margins.abs().masked_fill(~known, torch.nan).nanmedian(dim=1, keepdim=True).values
        )
        temperature = (_OF_THE_MEDIAN * distance).nan_to_num(1.0)
        weights = reached / reached.sum(dim=1, keepdim=True)
        goal = cls(
            scored,
            weights,
            ((margins > 0) * weights).sum(dim=1),
            temperature.clamp_min(torch.finfo(scores.dtype).tiny),
            -1 if demote else 1,
        )
        return goal.to(device)

    def worth(self, prediction: Prediction, scores: Tensor, thresholds: Tensor) -> Tensor:
        """Return the objective (N,), larger where an item is nearer to the lists.

        ``scores`` and ``thresholds`` (N, U) are those of the ``prediction``.
        """
        raise NotImplementedError

    def exposure(self, prediction: Prediction) -> Tensor:
        """Return the share (N,) of the reached users whose K best hold the item, or the target item."""
        return self._shown(*self.scored(prediction.features))

    def _shown(self, scores: Tensor, thresholds: Tensor) -> Tensor:
        return ((scores > thresholds) * self.weights).sum(dim=1)

    def __call__(self, prediction: Prediction) -> Tensor:
        return -self.sign * self.worth(prediction, *self.scored(prediction.features))

    def achieved(self, prediction: Prediction) -> Tensor:
        """Return exposure (N,) for comparisons; the objective decides between equal values."""
        scored = self.scored(prediction.features)
        worth = self.worth(prediction, *scored)
        return self.sign * (self._shown(*scored) + _BELOW_A_USER * worth / (1 + worth.abs()))

    def missed_by(self, prediction: Prediction) -> Tensor:
        """Return the loss of exposure (N,) against the clean image; negative where it rose."""
        return self.sign * (self.clean - self.exposure(prediction))

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        """Return whether exposure changed as wanted by more than ``confidence``, (N,) bool."""
        return self.missed_by(prediction) < -confidence


@dataclass(frozen=True)
class ScoreGoal(ListGoal):
    """The mean score over users (WBSign; Cohen et al., WSDM 2021)."""

    def worth(self, prediction: Prediction, scores: Tensor, thresholds: Tensor) -> Tensor:
        return (scores * self.weights).sum(dim=1)


@dataclass(frozen=True)
class InsaGoal(ListGoal):
    """Log of the mean of exp(score) over users (AIP's INSA; Liu and Larson, WWW 2021).

    Users who score the item highest count most.
    """

    def worth(self, prediction: Prediction, scores: Tensor, thresholds: Tensor) -> Tensor:
        return torch.logsumexp(scores + self.weights.log(), dim=1)


@dataclass(frozen=True)
class RankGoal(ListGoal):
    """The smooth count of the users who are shown the item: mean of sigmoid((s_u - t_u) / T)."""

    def worth(self, prediction: Prediction, scores: Tensor, thresholds: Tensor) -> Tensor:
        margins = (scores - thresholds) / self.temperature
        return (margins.sigmoid() * self.weights).sum(dim=1)


@dataclass(frozen=True)
class FeatureGoal(ListGoal):
    """Minus the squared distance to the features of a popular item (AIP's EXPA)."""

    hooks: Tensor | None = None
    """(N, D)."""

    def __call__(self, prediction: Prediction) -> Tensor:
        # The distance needs no scores, which cost a product with all users in every step.
        return self.sign * self._distance(prediction)

    def worth(self, prediction: Prediction, scores: Tensor, thresholds: Tensor) -> Tensor:
        return -self._distance(prediction)

    def _distance(self, prediction: Prediction) -> Tensor:
        return (prediction.features - self.hooks).square().sum(dim=1)


@dataclass(frozen=True)
class PlaceGoal(ListGoal):
    """Goal of an attacker who knows only the places of his items in the lists of his own accounts.

    The mean over accounts of K / (K + place), a smooth count of the accounts that are shown the item. It
    reads places alone: no score, no slope. Images are compared by it too, since exposure among few
    accounts is a coarse measure.
    """

    shared: ClassVar = frozenset({"rivals"})

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

    def worth(self, prediction: Prediction, scores: Tensor, thresholds: Tensor) -> Tensor:
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


def list_goal(objective: str, audience: Audience | Buyers, device: torch.device) -> ListGoal:
    """Return the goal that ``objective`` names (``rank``, ``demote-score``) for an audience's items."""
    kind = _OBJECTIVES[objective.removeprefix(DEMOTE)]
    goal = kind.of(audience, device, demote=objective.startswith(DEMOTE))
    if kind is FeatureGoal:
        hook = torch.from_numpy(audience.hook).to(device)
        goal = replace(goal, hooks=hook.expand(len(goal.clean), -1))
    return goal


def place_goal(objective: str, accounts: Audience, k: int, device: torch.device) -> PlaceGoal:
    """Return the goal of an attacker who asks ``accounts`` for places, to raise or demote his items.

    ``k`` is the length of the lists.
    """
    goal = PlaceGoal.of(accounts, device, demote=objective.startswith(DEMOTE))
    rivals, own = (
        torch.from_numpy(values).to(device) for values in (accounts.rivals, accounts.scores)
    )
    return replace(goal, rivals=rivals, own=own, k=k)
