"""Hyperparameters of a training."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.parameter_attack import ParameterAttack
from src.recommenders.scores import Form


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of plain models and of the clean part of adversarial ones; defaults are VBPR's."""

    form: Form | None = "shared"
    """Form of the scores; see ``src.recommenders.scores``."""
    factors: int = 64
    batch: int = 512
    learning_rates: tuple[float, float, float] = (0.01, 1e-4, 1e-3)
    """Learning rates of the tables P, Q and E, each of which has its own Adagrad."""
    penalties: tuple[float, float, float] = (0.1, 1e-3, 0.0)
    """Weights of the regulariser of P, Q and E."""
    regulariser: Literal["squared", "mean", "signed"] = "squared"
    """Regulariser. ``squared``: half the squared L2 norm of the batch's rows. ``mean``: the mean of the
    squares of the users', the positives' and the negatives' entries, each (batch, columns), summed: B d /
    2 times weaker. ``signed``: the sum of the entries, as published for VBPR."""
    negatives: int = 1
    """Number of uniform negatives of which a step takes the one that scores highest: dynamic negative
    sampling (Zhang et al., SIGIR 2013). 1 is uniform sampling."""
    drop_last_batch: bool = False
    features: Literal["raw", "unit"] = "raw"
    """Form in which features are read: as extracted, or each divided by its length, so that longer
    features alone do not raise a score. Both are then divided by the largest entry."""

    def __post_init__(self) -> None:
        if min(self.learning_rates) <= 0 or not np.isfinite(self.learning_rates).all():
            raise UserError(f"learning rates must be positive, not {self.learning_rates}")
        if min(self.penalties) < 0 or not np.isfinite(self.penalties).all():
            raise UserError(f"regularisation must not be negative, but is {self.penalties}")


@dataclass(frozen=True)
class AdamHyperparameters(Hyperparameters):
    """Hyperparameters of recommenders whose tables one Adam trains at the first learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.learning_rates)) > 1:
            raise UserError(
                "DVBPR, ACF and LightGCN have one learning rate for all tables, not "
                f"{self.learning_rates}"
            )
        if self.negatives > 1 or self.regulariser != "squared":
            raise UserError(
                "DVBPR, ACF and LightGCN have one negative and the regulariser of squared norms"
            )


@dataclass(frozen=True)
class NetworkHyperparameters(AdamHyperparameters):
    """Hyperparameters of ACF and DVBPR."""

    hidden: int = 64
    """Width of hidden layers: of ACF's attention, or of the two last ones of DVBPR's network."""
    as_published: bool = False
    """True if ACF's attention and users learn by weight decay alone and features are read as extracted,
    as in the published code, which computes the users' rows outside of the gradient."""


@dataclass(frozen=True)
class GraphHyperparameters(AdamHyperparameters):
    """Hyperparameters of LightGCN."""

    layers: int = 3
    """Number of layers K above the rows themselves; 0 is matrix factorisation."""


@dataclass(frozen=True)
class Adversary:
    """Perturbation that AMR and AMF train against: loss + weight * loss under ``attack``."""

    weight: float
    """Weight lambda of the loss under perturbation beside the clean loss."""
    attack: ParameterAttack
    """Attack that makes each perturbation. AMR has one step, or a random direction."""
    perturb: Literal["features", "promotion", "tables"]
    """Arrays to perturb. ``features``: each item's features, divided by their largest entry (AMR).
    ``promotion``: those of the negatives alone, so that all users score them higher (RankAMR).
    ``tables``: the rows of P and Q (AMF; He et al., SIGIR 2018)."""
    scope: Literal["batch", "full"] = "batch"
    """Loss that the perturbation raises: that of the batch (He et al.), or for each batch that of all
    training pairs, each with a new negative."""
    stale_clean_term: bool = False
    """True, only in scope ``full``, if the clean term is computed under the perturbation of the batch
    before, as in a published notebook."""
    keep_accumulators: bool = False
    """True if Adagrad continues with the plain model's accumulators."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < np.inf:
            raise UserError(f"the adversarial loss's weight must not be negative: {self.weight}")
        if self.perturb != "tables" and self.attack.kind not in ("fgsm", "random"):
            raise UserError("AMR perturbs features in one step, by the gradient or at random")

    @property
    def variant(self) -> str:
        """Part of an AMF's name for a perturbation other than He et al.'s; others have none."""
        if self.perturb != "tables":
            return ""
        kind = "" if self.attack.kind == "fgsm" else self.attack.kind
        return "-".join(filter(None, ("full" if self.scope == "full" else "", kind)))
