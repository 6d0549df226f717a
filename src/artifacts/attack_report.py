"""Outcome of an attack on each image: ``attack.tsv``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import Column, id_column, read_headed, require_unique
from src.artifacts.errors import UserError

_IMAGE = id_column("image")
_COLUMNS = {
    column.name: column
    for column in (
        *(
            Column(name, whole=True, low=0, high=1, optional=True)
            for name in ("success_before_rounding", "success", "no_gradient")
        ),
        *(
            Column(name, low=0, optional=True)
            for name in ("linf", "l2", "passes", "best_step", "last_step")
        ),
    )
}


def read_attack_report(
    path: Path, needs: Sequence[str] = (), images: np.ndarray | None = None
) -> pd.DataFrame:
    """Read a row for each attacked image, with the id in the column ``image`` (int64).

    Where the report has them, ``success_before_rounding``, ``success`` and ``no_gradient`` are 1, 0 or
    NaN, and ``linf``, ``l2``, ``passes``, ``best_step`` and ``last_step`` are at least 0, or NaN. Raises
    ``UserError`` for any other file, for a missing column of ``needs``, for an image that stands there
    twice, and unless the images are exactly ``images`` (n,), where these are given.
    """
    needed = [_COLUMNS[name] for name in needs]
    table = read_headed(path, [_IMAGE, *needed], if_present=tuple(_COLUMNS.values()))
    require_unique(path, "image", table["image"].to_numpy(), first_row=2)
    if images is not None and len(other := np.setxor1d(images, table["image"])):
        raise UserError(
            f"{path}: image {other[0]} is in it or among the attacked images, but not in both; run "
            "classify_extract_attack.py again with --force"
        )
    return table
