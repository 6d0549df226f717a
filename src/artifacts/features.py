"""Matrix of features with a row for each item: ``features.npy``."""

from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError

_ROWS_AT_ONCE = 8192
"""Number of rows that are checked together."""


def write_features(path: Path, features: np.ndarray) -> None:
    """Write an (items, dimensions) matrix as float32."""
    with path.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(features, dtype=np.float32), allow_pickle=False)


def require_features(path: Path) -> None:
    """Raise ``UserError`` if no stage has written the matrix."""
    if not path.is_file():
        raise UserError(f"missing file: {path} (run the stage that writes it first)")


def read_features(path: Path, n_items: int | None = None) -> np.ndarray:
    """Map and check an (items, dimensions) float32 matrix; what is written to it stays in memory.

    Memory holds what is used of it, and for files of another dtype a float32 copy.

    Raises ``UserError`` if the file is missing, is not a matrix of finite numbers, or does not have
    ``n_items`` rows.
    """
    require_features(path)
    try:
        features = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is not a plain NumPy array: {error}") from error
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise UserError(
            f"{path} must be a matrix of floats, not {features.dtype} of shape {features.shape}"
        )
    if n_items is not None and len(features) != n_items:
        raise UserError(
            f"{path} has {len(features)} rows but the catalogue has {n_items} items: "
            "it belongs to another data set"
        )
    for start in range(0, len(features), _ROWS_AT_ONCE):
        finite = np.isfinite(features[start : start + _ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise UserError(f"{path}: row {row} holds NaN or infinite features")
    return np.asarray(features).astype(np.float32, copy=False)
