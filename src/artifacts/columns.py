"""Checks of the columns of tables, which name the file, the row and what it must hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.manifest import require_as_written

LARGEST_ID = 2**31 - 1
_READING_ERRORS = (ValueError, OverflowError, pd.errors.ParserError, RecursionError)
"""Errors that pandas raises on arbitrary bytes; a decoding error is a ValueError."""


@dataclass(frozen=True)
class Column:
    """Column of numbers: its name and the numbers that it may hold."""

    name: str
    whole: bool = False
    """True if it holds whole numbers only."""
    low: float = -np.inf
    high: float = np.inf
    optional: bool = False
    """True if a cell may be empty."""

    @property
    def meaning(self) -> str:
        """Return what a cell must hold, as messages say it."""
        if self.whole and (self.low, self.high) == (0, LARGEST_ID):
            return "an id (0, 1, 2, ...)"
        kind = "a whole number" if self.whole else "a number"
        if np.isfinite(self.low) and np.isfinite(self.high):
            return f"{kind} from {self.low:g} to {self.high:g}"
        return (
            f"{kind} of at least {self.low:g}" if np.isfinite(self.low) else f"a finite {kind[2:]}"
        )


def id_column(name: str) -> Column:
    """Return a column of ids: 0, 1, 2, ..."""
    return Column(name, whole=True, low=0, high=LARGEST_ID)


def read_headed(
    path: Path,
    columns: Sequence[Column],
    *,
    if_present: Sequence[Column] = (),
    sep: str = "\t",
    text: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table with a header, all of its columns, and check ``columns``.

    Those of ``if_present`` may be missing. Columns of ``text`` are read as text. Returns whole numbers
    as int64 and other numbers as float64; a column with empty cells is float64. Columns that are not
    named stay as pandas reads them. Raises ``UserError`` for a missing file, a file that is no table, a
    missing column, a table without rows, and the first cell that a column may not hold.
    """
    frame = _read(path, sep, dtype=dict.fromkeys(text, str))
    if missing := [column.name for column in columns if column.name not in frame]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    present = [column for column in if_present if column.name in frame]
    return check_columns(path, frame, [*columns, *present], first_row=2)


def read_text(path: Path) -> pd.DataFrame:
    """Read a table with a header, all cells as text, empty ones too; ``UserError`` as ``read_headed``."""
    return _read(path, "\t", dtype=str, keep_default_na=False)


def _read(path: Path, sep: str, **options: Any) -> pd.DataFrame:
    """Read a table with a header and rows that are no longer than it."""
    if not path.is_file():
        raise UserError(f"missing file: {path} (run the stage that writes it first)")
    try:
        frame = pd.read_csv(path, sep=sep, **options)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty: run the stage that writes it again") from error
    except _READING_ERRORS as error:
        raise UserError(f"{path} is not a table: {str(error).strip()}") from error
    if frame.empty:
        raise UserError(f"{path} has no rows: run the stage that writes it again")
    if not isinstance(frame.index, pd.RangeIndex):
        raise UserError(f"{path} has rows that are longer than its header")
    return frame


def read_results(
    path: Path,
    needs: Sequence[str],
    *,
    text: Sequence[str] = (),
    numbers: Sequence[str] = (),
    sep: str = "\t",
) -> pd.DataFrame:
    """Read a table of results; columns of ``text`` are read as text.

    Raises ``UserError`` for a missing file, a file that is no table with a header, a table without rows,
    a missing column of ``needs``, a cell of ``numbers`` (if there) that is neither a number nor empty,
    and a table that was changed after a stage wrote it (``require_as_written``).
    """
    table = read_headed(path, (), text=text, sep=sep)
    require_as_written(path)
    if missing := [name for name in needs if name not in table]:
        raise UserError(
            f"{path} lacks the columns {', '.join(missing)}: it is another kind of table"
        )
    require_numbers(path, table, numbers)
    return table


def require_numbers(path: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise ``UserError`` for the first cell of the columns ``names`` that is no number and not empty."""
    for name in table.columns.intersection(list(names)):
        if not pd.api.types.is_numeric_dtype(table[name]):
            cells = table[name]
            wrong = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
            row = int(np.argmax(wrong))
            raise UserError(f"{path}, row {row + 2}: {name} {cells.iloc[row]!r} is not a number")


def check_columns(
    path: Path, frame: pd.DataFrame, columns: Sequence[Column], first_row: int
) -> pd.DataFrame:
    """Return ``frame`` with the ``columns`` as numbers; ``UserError`` for the first wrong cell.

    ``first_row`` is the number of the frame's first row in the file.
    """
    numbers = {}
    for column in columns:
        cells = frame[column.name]
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        wrong = ~np.isfinite(values) | (values < column.low) | (values > column.high)
        if column.whole:
            with np.errstate(invalid="ignore"):
                wrong |= values % 1 != 0
        if column.optional:
            wrong &= ~cells.isna().to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            value = cells.iloc[[row]].tolist()[0]
            raise UserError(
                f"{path}, row {row + first_row}: {column.name} {value!r} is not {column.meaning}"
            )
        whole = column.whole and not np.isnan(values).any()
        numbers[column.name] = values.astype(np.int64) if whole else values
    return frame.assign(**numbers)


def require_unique(path: Path, what: str, ids: np.ndarray, first_row: int) -> None:
    """Raise ``UserError`` for the first of ``ids`` (n,) that an earlier row has."""
    first = np.unique(ids, return_index=True)[1]
    if len(first) < len(ids):
        repeated = np.ones(len(ids), bool)
        repeated[first] = False
        row = int(np.argmax(repeated))
        raise UserError(
            f"{path}, row {row + first_row}: {what} {ids[row]} appears twice; run the stage that "
            "writes the file again"
        )


def require_dense(path: Path, what: str, ids: np.ndarray) -> None:
    """Raise ``UserError`` unless at least half of the numbers from 0 to the largest of ``ids`` are used.

    Tables are made with a row for each number, so a stray id would take memory for all below it.
    """
    last = int(ids.max())
    # Counting is far faster than sorting, and safe unless the numbers are sparse for sure.
    sparse = last >= 2 * len(ids)
    n_used = len(np.unique(ids)) if sparse else int(np.count_nonzero(np.bincount(ids)))
    if 2 * n_used <= last:
        raise UserError(
            f"{path}: {what} {last} is the last, but only {n_used} of the {last + 1} numbers up to it "
            "are in use; number them without gaps, as prepare_dataset.py interactions does"
        )
