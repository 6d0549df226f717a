"""What a training depends on, beside its data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from src.artifacts.errors import UserError


@dataclass(frozen=True)
class Hyperparameters:
    """Of VBPR, and of the clean part of AMR. The defaults are the published ones."""

    form: Literal["shared", "full"] = "shared"
    """How a user meets an item; see ``src.recommenders.scores``."""
    factors: int = 64
    batch: int = 512
    learning_rates: tuple[float, float, float] = (0.01, 1e-4, 1e-3)
    """Of the tables P, Q and E, each under its own Adagrad."""
    penalties: tuple[float, float, float] = (0.1, 1e-3, 0.0)
    """Weights of the regulariser's parts for P, Q and E."""
    regulariser: Literal["squared", "signed"] = "squared"
    """``squared``: half the squared L2 norm. ``signed``: the sum of the entries, as published."""
    drop_last_batch: bool = False

    def __post_init__(self) -> None:
        if min(self.learning_rates) <= 0 or not np.isfinite(self.learning_rates).all():
            raise UserError(f"learning rates must be positive, not {self.learning_rates}")
        if min(self.penalties) < 0 or not np.isfinite(self.penalties).all():
            raise UserError(f"regularisation must not be negative, but is {self.penalties}")


@dataclass(frozen=True)
class Adversary:
    """The perturbation of features that AMR trains against. The defaults are the published ones."""

    weight: float = 0.1
    """lambda: how much the loss under perturbation counts beside the clean loss."""
    epsilon: float = 1.0
    """L2 norm of each item's perturbation, in units of features divided by their largest entry."""
    direction: Literal["grad", "rand"] = "grad"
    """``grad``: the gradient of the clean loss. ``rand``: uniform over all directions."""

    def __post_init__(self) -> None:
        if not (0 <= self.weight < np.inf and 0 <= self.epsilon < np.inf):
            raise UserError(
                f"AMR's lambda and epsilon must not be negative: {self.weight}, {self.epsilon}"
            )
