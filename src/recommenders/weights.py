"""Weights of a recommender: initial values and files.

Files are ``.npz`` archives of plain arrays. (The published code stores one pickled object array,
which runs code when it is loaded.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.artifacts.arrays import read_arrays
from src.artifacts.errors import UserError
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.scores import BIASED_FORMS, widths

TABLES = ("P", "Q", "E")
"""E is there in visual forms only."""
_ACCUMULATOR = "_accumulator"
_AGAIN = "train it again with rec_generator.py --force"
INITIAL_DEVIATION = 0.01
INITIAL_ACCUMULATOR = 0.1

Shapes = tuple[tuple[int | None, ...], ...]
"""Shapes of tables, in their order; None allows any length of an axis."""


@dataclass(frozen=True)
class Weights:
    """Recommender after ``epoch`` epochs; all arrays are float32."""

    tables: dict[str, np.ndarray]
    """Tables P (users, .), Q (items, .) and, in visual forms, E (features, .); their numbers of columns
    depend on the form. Recommenders that are networks have further tables, of any number of axes."""
    accumulators: dict[str, np.ndarray]
    """State of the optimiser for each table. Adagrad: the sum of squared gradients, of the table's shape.
    Adam: the running means of gradients and of their squares, (2, *shape)."""
    scale: float
    """Divisor of features: the largest absolute entry of those in training (1 without features)."""
    epoch: int = 0
    unit: bool = False
    """True if each image's features are first divided by their own length."""

    @property
    def shapes(self) -> Shapes:
        return tuple(table.shape for table in self.tables.values())


def feature_scale(features: np.ndarray, unit: bool = False) -> float:
    """Return the largest absolute entry, of rows of length 1 if ``unit``; 1 if all features are zero."""
    read = unit_length(features) if unit else features
    return max(float(read.max()), -float(read.min())) or 1.0


def unit_length(features: np.ndarray) -> np.ndarray:
    """Divide each row of ``features`` (items, features) by its L2 norm; rows of zeros stay zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, np.float32(1))


def scaled(features: np.ndarray, scale: float, unit: bool = False) -> np.ndarray:
    """Return ``features`` divided by ``scale``, as every recommender of tables reads them.

    With ``unit`` each row is first divided by its length.
    """
    return (unit_length(features) if unit else features) / np.float32(scale)


def table_shapes(
    n_users: int, n_items: int, n_features: int, hyperparameters: Hyperparameters
) -> tuple[tuple[int, int], ...]:
    """Return the shapes of P, Q and, in visual forms, E."""
    columns = widths(hyperparameters.form, hyperparameters.factors)
    return tuple(zip((n_users, n_items, n_features), columns, strict=False))


def initial_weights(
    shapes: tuple[tuple[int, int], ...], hyperparameters: Hyperparameters, scale: float, seed: int
) -> Weights:
    """Draw truncated normal entries (sd 0.01, cut at two sd); biases are 0, accumulators initial."""
    rng = np.random.default_rng(seed)
    tables = {
        name: _truncated_normal(rng, shape) for name, shape in zip(TABLES, shapes, strict=False)
    }
    if hyperparameters.form in BIASED_FORMS:
        for name in set(tables) - {"P"}:
            tables[name][:, -1] = 0  # the item biases, and the visual bias
    return Weights(tables, fresh_accumulators(tables), scale)


def fresh_accumulators(tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.full_like(table, INITIAL_ACCUMULATOR) for name, table in tables.items()}


def fresh_moments(tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return Adam's state before the first step, by table: zeros (2, *shape) float32."""
    return {name: np.zeros((2, *table.shape), np.float32) for name, table in tables.items()}


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw weights float32 uniformly as Glorot and Bengio (AISTATS 2010).

    ``shape`` is (outputs, inputs), or (outputs, inputs, height, width) of a convolution.
    """
    n_places = int(np.prod(shape[2:]))
    limit = (6 / (n_places * (shape[0] + shape[1]))) ** 0.5
    return np.float32(limit) * (2 * rng.random(shape, np.float32) - 1)


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    values = rng.standard_normal(shape, np.float32)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(np.count_nonzero(beyond), np.float32)
    return values * np.float32(INITIAL_DEVIATION)


def write_weights(path: Path, weights: Weights) -> None:
    with path.open("wb") as stream:
        np.savez(
            stream,
            **weights.tables,
            **{_accumulator(name): array for name, array in weights.accumulators.items()},
            scale=np.float64(weights.scale),
            epoch=np.int64(weights.epoch),
            unit=np.bool_(weights.unit),
        )


def read_weights(path: Path, shapes: Shapes, names: tuple[str, ...] = TABLES) -> Weights:
    """Read weights whose tables ``names`` must have ``shapes``; None allows any length of an axis.

    Raises ``UserError`` for other shapes, for a file that holds no weights, for values that are not
    finite, for negative accumulators and numbers of epochs, and for a scale that is not positive.
    """
    names = names[: len(shapes)]
    arrays = read_arrays(path)
    accumulators = [_accumulator(name) for name in names]
    if missing := [
        name for name in (*names, *accumulators, "scale", "epoch") if name not in arrays
    ]:
        raise UserError(f"{path} does not hold weights of a recommender: it lacks {missing[0]}")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN, infinite values or no numbers; {_AGAIN}")
    for name in names:
        squares, shape = arrays[_accumulator(name)], arrays[name].shape
        if squares.shape == (2, *shape):  # Adam keeps means before the means of squares
            squares = squares[1]
        if squares.shape != shape or (squares < 0).any():
            raise UserError(
                f"{path}: {_accumulator(name)} is negative or not of its table's shape; {_AGAIN}"
            )
    scale, epoch = arrays["scale"], arrays["epoch"]
    if scale.size != 1 or scale <= 0 or epoch.size != 1 or epoch < 0:
        raise UserError(f"{path}: its scale or its number of epochs is out of range; {_AGAIN}")
    weights = Weights(
        {name: arrays[name] for name in names},
        {name: arrays[_accumulator(name)] for name in names},
        float(scale),
        int(epoch),
        bool(arrays.get("unit", False)),
    )
    for name, shape, wanted in zip(names, weights.shapes, shapes, strict=True):
        fits = len(shape) == len(wanted) and all(
            length in (None, has) for has, length in zip(shape, wanted, strict=True)
        )
        if not fits:
            raise UserError(
                f"{path}: table {name} is {shape} but this data set and these options need {wanted}"
            )
    return weights


def _accumulator(table: str) -> str:
    return table + _ACCUMULATOR
