"""Matrix of features with a row for each item: ``features.npy``."""

from pathlib import Path

import numpy as np

from src.artifacts.arrays import read_array, write_array
from src.artifacts.errors import UserError

_ROWS_AT_ONCE = 8192
"""Number of rows that are checked together."""


def write_features(path: Path, features: np.ndarray) -> None:
    """Write an (items, dimensions) matrix as float32; ``UserError`` if a row is not finite."""
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise UserError(
            f"the features of item {int(np.argmin(finite))} are NaN or infinite, so {path.name} is not "
            "written: is the checkpoint damaged, or --precision too low?"
        )
    write_array(path, features.astype(np.float32, copy=False))


def require_features(path: Path) -> None:
    """Raise ``UserError`` if no stage has written the matrix."""
    if not path.is_file():
        raise UserError(
            f"missing file: {path}: run classify_extract.py first, or for attacked images "
            "classify_extract_attack.py"
        )


def read_features(path: Path, n_items: int | None = None) -> np.ndarray:
    """Map and check an (items, dimensions) float32 matrix; what is written to it stays in memory.

    Memory holds what is used of it, and for files of another dtype a float32 copy.

    Raises ``UserError`` if the file is missing, is not a matrix of numbers that are finite in float32, or
    does not have ``n_items`` rows.
    """
    features = read_array(path, in_memory=False)
    _check_matrix(path, features, n_items)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = features[start : start + _ROWS_AT_ONCE]
        with np.errstate(over="ignore"):  # what overflows is refused
            _check_finite(path, rows.astype(np.float32, copy=False), start + np.arange(len(rows)))
    return np.asarray(features).astype(np.float32, copy=False)


def read_feature_rows(path: Path, rows: np.ndarray) -> np.ndarray:
    """Read some ``rows`` (n,) of a matrix as (n, dimensions) float32, without the others.

    Raises ``UserError`` as ``read_features`` does, and for a row that the matrix does not have.
    """
    features = read_array(path, in_memory=False)
    _check_matrix(path, features, None)
    if (beyond := rows >= len(features)).any():
        raise UserError(f"{path} has {len(features)} rows, and no row {rows[np.argmax(beyond)]}")
    with np.errstate(over="ignore"):
        chosen = np.array(features[rows], np.float32)
    _check_finite(path, chosen, rows)
    return chosen


def count_features(path: Path) -> int:
    """Return the number of rows of a matrix from its header; ``UserError`` as ``read_features``."""
    features = read_array(path, in_memory=False)
    _check_matrix(path, features, None)
    return len(features)


def _check_matrix(path: Path, features: np.ndarray, n_items: int | None) -> None:
    if features.ndim != 2 or 0 in features.shape or not np.issubdtype(features.dtype, np.floating):
        raise UserError(
            f"{path} must be a matrix of floats, not {features.dtype} of shape {features.shape}"
        )
    if n_items is not None and len(features) != n_items:
        raise UserError(
            f"{path} has {len(features)} rows but the catalogue has {n_items} items: "
            "it belongs to another data set"
        )


def _check_finite(path: Path, features: np.ndarray, rows: np.ndarray) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        row = int(rows[np.argmin(finite)])
        raise UserError(f"{path}: row {row} holds NaN or infinite features (in float32)")
