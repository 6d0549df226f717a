"""Attacks on the parameters of a trained recommender.

One step in the direction of each row's gradient: He et al., "Adversarial Personalized Ranking for
Recommendation" (APR), SIGIR 2018. Many steps: Anelli et al., "MSAP: Multi-Step Adversarial
Perturbations on Recommender Systems Embeddings", FLAIRS 2021.

An attacker shifts rows of the tables, each row within its own budget, so that the BPR loss grows.
Every recommender folds to two matrices ``users`` (n_users, d) and ``items`` (n_items, d). A
``Parameter`` says where in them a shifted table arrives; all else is common to all models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.pairwise_loss import PairwiseLoss

KINDS = ("fgsm", "bim", "pgd", "random")
PROJECTIONS = ("l2", "box")
SMALLEST_NORM = 1e-6
"""Rows of gradients below this length are divided by it, so that rows of zeros stay."""


@dataclass(frozen=True)
class Parameter:
    """Table whose rows an attacker shifts, and its place in the folded matrices."""

    side: Literal["users", "items"]
    """Folded matrix whose rows are the table's."""
    columns: slice | np.ndarray
    """Columns of the folded matrix that hold the table or its projection."""
    projection: np.ndarray | None = None
    """Projection (width, columns) float32 by which the table is multiplied; None leaves it unchanged."""

    def gradient(self, of_folded: np.ndarray) -> np.ndarray:
        """Return the table's gradient (rows, width) from that of the folded matrix (rows, d)."""
        of_columns = of_folded[:, self.columns]
        return of_columns if self.projection is None else of_columns @ self.projection.T

    def effect(self, shift: np.ndarray) -> np.ndarray:
        """Return the change of its columns in the folded matrix under a ``shift`` (rows, width)."""
        return shift if self.projection is None else shift @ self.projection

    def shape_in(self, folded: np.ndarray) -> tuple[int, int]:
        """Return the shape (rows, width) of the table behind a folded matrix."""
        if self.projection is not None:
            return len(folded), len(self.projection)
        return folded[:, self.columns].shape


def parameters_of(form: str, tables: Mapping[str, np.ndarray]) -> dict[str, Parameter]:
    """Return the parameters that can be attacked: P, Q and, in visual models, ``features``.

    A row holds all that is stored for a user or an item, its bias included. The constants that multiply
    biases are no parameters. Shifts of features are in units of scaled features.
    """
    p_width, q_width = tables["P"].shape[1], tables["Q"].shape[1]
    of_p: slice | np.ndarray = slice(p_width)
    if form == "full":  # [gamma_u, 1, theta_u, 1]
        of_p = np.delete(np.arange(p_width + 2), (p_width // 2, p_width + 1))
    parameters = {"P": Parameter("users", of_p), "Q": Parameter("items", slice(q_width))}
    if "E" in tables:
        # f E stands beside Q in the full form, [gamma_i, b_i, f E], and is added to it in the shared.
        of_features = slice(q_width, 2 * q_width) if form == "full" else slice(q_width)
        parameters["features"] = Parameter("items", of_features, tables["E"])
    return parameters


@dataclass(frozen=True)
class Attacked:
    """Recommender under attack; all arrays are float32."""

    users: np.ndarray
    """Folded matrix (n_users, d)."""
    items: np.ndarray
    """Folded matrix (n_items, d)."""
    shifts: dict[str, np.ndarray]
    """Shift of each parameter's rows, by name."""


@dataclass(frozen=True)
class ParameterAttack:
    """Gradient ascent on a BPR loss; each row of each parameter has the same budget.

    One step moves every row by step_size * g / max(|g|, 1e-6), with g the row's gradient, and then
    projects it back onto the budget; all parameters move at once.
    """

    kind: Literal["fgsm", "bim", "pgd", "random"] = "fgsm"
    """Kind of attack. ``fgsm``: one step of length epsilon (the L2 direction of each row, as APR has it,
    not signs). ``bim``: many steps. ``pgd``: many steps from a uniformly random point of the budget.
    ``random``: the control, length epsilon in a uniformly random direction."""
    epsilon: float = 0.5
    """Budget of a row, in units of the table (of features divided by their scale)."""
    steps: int = 25
    """Number of gradient steps of bim and pgd; always 1 for fgsm and 0 for random."""
    step_size: float | None = None
    """L2 length of a row's step in bim and pgd; None is epsilon / 4, as in MSAP. It is always epsilon for
    fgsm and random."""
    projection: Literal["l2", "box"] = "l2"
    """Projection of bim and pgd. ``l2``: rows stay in their L2 ball of radius epsilon. ``box``: entries
    stay in [-epsilon, epsilon], as in MSAP; a row of width d may reach the length epsilon * sqrt(d)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"no attack {self.kind!r} on parameters: choose from {', '.join(KINDS)}"
            )
        if self.projection not in PROJECTIONS:
            raise UserError(f"no projection {self.projection!r}: choose l2 or box")
        if not 0 <= self.epsilon < np.inf:
            raise UserError(f"the attack's epsilon must not be negative, but is {self.epsilon}")
        self._settle()
        if self.has_many_steps and self.steps < 1:
            raise UserError(f"{self.kind} takes at least one step, not {self.steps}")
        if not 0 <= self.step_size < np.inf or self.step_size == 0 < self.epsilon:
            raise UserError(f"the attack's step must be a number above 0, not {self.step_size}")

    def _settle(self) -> None:
        """Set options without effect to one value, so that equivalent attacks are equal."""
        settled = {"steps": 1 if self.kind == "fgsm" else 0, "projection": "l2"}
        step_size = self.epsilon
        if self.has_many_steps:
            settled = {}
            step_size = self.epsilon / 4 if self.step_size is None else self.step_size
        # NumPy scalars would turn float32 tables into float64, Python's floats do not.
        settled |= {"epsilon": float(self.epsilon), "step_size": float(step_size)}
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def has_many_steps(self) -> bool:
        return self.kind in ("bim", "pgd")

    @property
    def name(self) -> str:
        """Name in files and tables, such as ``fgsm_eps0.5`` or ``bim25_eps0.5_box``."""
        budget = f"eps{self.epsilon:g}"
        if not self.has_many_steps:
            return f"{self.kind}_{budget}"
        step = "" if self.step_size == self.epsilon / 4 else f"_step{self.step_size:g}"
        box = "_box" if self.projection == "box" else ""
        return f"{self.kind}{self.steps}_{budget}{step}{box}"

    def __call__(
        self,
        users: np.ndarray,
        items: np.ndarray,
        parameters: Mapping[str, Parameter],
        loss: PairwiseLoss,
        rng: np.random.Generator,
        attacked_users: np.ndarray | None = None,
    ) -> Attacked:
        """Shift ``parameters`` of the recommender that folds to float32 ``users`` and ``items``.

        Step t uses the loss's draw t of negatives. ``rng`` draws random starts and the control. Only
        the training pairs of the user ids ``attacked_users`` count, and no other user's row moves; None
        is all. The inputs are not changed.
        """
        if attacked_users is not None:
            loss = loss.restricted_to(attacked_users)
        folded = {"users": users, "items": items}
        shifts = {}
        for name, parameter in parameters.items():
            shifts[name] = self._start(parameter.shape_in(folded[parameter.side]), rng)
            if parameter.side == "users" and attacked_users is not None:
                shifts[name][np.setdiff1d(np.arange(len(users)), attacked_users)] = 0
        attacked = shifted(users, items, parameters, shifts)
        for step in range(self.steps):
            of_users, of_items = loss.gradient(*attacked, step)
            of_folded = {"users": of_users, "items": of_items}
            for name, parameter in parameters.items():
                direction = _unit_rows(parameter.gradient(of_folded[parameter.side]))
                shifts[name] = self._project(shifts[name] + self.step_size * direction)
            attacked = shifted(users, items, parameters, shifts)
        return Attacked(*attacked, shifts)

    def _start(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Return first shifts: uniform on the sphere for the control, uniform in the budget for PGD."""
        if self.kind in ("fgsm", "bim"):
            return np.zeros(shape, np.float32)
        if self.kind == "pgd" and self.projection == "box":
            return rng.uniform(-self.epsilon, self.epsilon, shape).astype(np.float32)
        on_sphere = self.epsilon * _unit_rows(rng.standard_normal(shape, np.float32))
        if self.kind == "random":
            return on_sphere
        rows, width = shape  # a ball's volume grows with the radius to the power of its dimension
        return on_sphere * rng.random((rows, 1), np.float32) ** np.float32(1 / width)

    def _project(self, shift: np.ndarray) -> np.ndarray:
        if self.projection == "box":
            return np.clip(shift, -self.epsilon, self.epsilon)
        return shift * np.minimum(1, self.epsilon / np.maximum(_norms(shift), SMALLEST_NORM))


def shifted(
    users: np.ndarray,
    items: np.ndarray,
    parameters: Mapping[str, Parameter],
    shifts: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of the folded matrices with each of ``shifts`` added to its parameter.

    The shifts may come from an attack on another recommender of the same shape.
    """
    folded = {"users": users.copy(), "items": items.copy()}
    for name, shift in shifts.items():
        parameter = parameters[name]
        folded[parameter.side][:, parameter.columns] += parameter.effect(shift)
    return folded["users"], folded["items"]


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(_norms(rows), SMALLEST_NORM)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Return L2 norms (n, 1) of rows (n, d)."""
    return np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
