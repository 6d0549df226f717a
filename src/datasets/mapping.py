"""Mapping between source ids of any kind and the row numbers 0..n-1 of the pipeline's matrices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.columns import read_text
from src.artifacts.errors import UserError
from src.artifacts.tables import write_table


@dataclass(frozen=True)
class IdMap:
    """Numbering of ids: ``originals[n]`` is the source's id of row n."""

    originals: tuple[str, ...]

    @classmethod
    def of(cls, ids: Iterable[str]) -> "IdMap":
        """Number the distinct ``ids``: whole numbers by size, anything else by alphabet.

        Ids that already are 0..n-1 keep their numbers.
        """
        distinct = set(ids)
        numeric = all(text.isascii() and text.isdecimal() for text in distinct)
        ordered = sorted(distinct, key=(lambda text: (int(text), text)) if numeric else None)
        return cls(tuple(ordered))

    def __len__(self) -> int:
        return len(self.originals)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.originals, dtype=object)

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """Return row numbers (len(ids),) int64; -1 for an id that is not in the map."""
        return self._index.get_indexer(pd.Index(ids, dtype=object)).astype(np.int64)

    def write(self, path: Path) -> None:
        """Write a table with the columns id and original."""
        write_table(path, pd.DataFrame({"id": range(len(self)), "original": self.originals}))

    @classmethod
    def read(cls, path: Path) -> "IdMap":
        """Read a table of ``write``."""
        frame = read_text(path)
        if list(frame) != ["id", "original"]:
            raise UserError(f"{path} must have the columns id and original")
        return cls(tuple(frame["original"]))
