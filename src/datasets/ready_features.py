"""Features of items that come ready with a data set, as MMRec's and RecBole's ``image_feat.npy``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.artifacts.errors import UserError
from src.artifacts.features import read_features
from src.datasets.mapping import IdMap


@dataclass(frozen=True)
class ReadyFeatures:
    """Matrix of features with a row for each item."""

    path: Path
    """Matrix (items, dimensions) of finite floats, ``.npy``."""
    items: Path | None = None
    """Item of each row, one id a line; None if the items' ids are their rows 0..n-1."""

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.path, self.items) if path]

    def read(self, named: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Return the ids of all items in the order of their numbers, and their features (n, d) float32.

        ``named`` are the items of the tables of interactions; others are kept if ``items`` names them.
        Raises ``UserError`` for features that are not finite or of another number of items, for ids that
        are missing or repeated, and for a ``named`` item without a row.
        """
        features = read_features(self.path)
        ids = self._ids(len(features))
        catalogue = IdMap.of(ids)
        unknown = np.flatnonzero(catalogue.numbers(named) < 0)
        if len(unknown):
            raise UserError(
                f"{self.path} has {len(features)} rows and none of item {named[unknown[0]]!r}: "
                + ("it belongs to other interactions" if self.items else _IDS_HINT)
            )
        if self.items is None and (n_named := max(map(int, named)) + 1) != len(features):
            raise UserError(
                f"{self.path} has {len(features)} rows, but the interactions are of items 0 to "
                f"{n_named - 1}: if further rows are items without interactions, name the item of each "
                "row with --feature_items"
            )
        rows = np.empty(len(ids), np.int64)
        rows[catalogue.numbers(ids)] = np.arange(len(ids))
        return list(catalogue.originals), features[rows]

    def _ids(self, n_rows: int) -> list[str]:
        if self.items is None:
            return [str(number) for number in range(n_rows)]
        if not self.items.is_file():
            raise UserError(f"missing file: {self.items}")
        ids = self.items.read_text(encoding="utf-8").split()
        if len(ids) != n_rows or len(set(ids)) != n_rows:
            raise UserError(
                f"{self.items} has {len(ids)} ids, {len(set(ids))} of them distinct, but {self.path} "
                f"has {n_rows} rows"
            )
        return ids


_IDS_HINT = "ids that are not rows 0..n-1 need --feature_items"
