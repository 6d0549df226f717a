"""Reader of a table of interactions with or without ratings, times and a header."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.datasets.splitting import Feedback

COLUMNS = ("user", "item", "rating", "time")
_HEADER_HINT = "use --header if the first line names the columns"


def read_feedback(
    path: Path, *, ratings: bool = True, min_rating: float | None = None, header: bool = False
) -> Feedback:
    """Read columns user, item[, rating[, time]], separated by tabs or else by commas.

    Ids are text. ``min_rating`` drops lower ratings; ``ratings=False`` reads only the ids. Raises
    ``UserError`` with the row for a missing id, for a rating or a time that is no number, and for column
    names among numeric ids.
    """
    frame = _read_table(path, header)
    first_row = 2 if header else 1
    for name in ("user", "item"):
        if (missing := frame[name] == "").any():
            raise UserError(f"{path}, row {int(np.argmax(missing)) + first_row}: no {name} id")
    if not header:
        _refuse_column_names(frame, path)
    times = None
    if ratings and "time" in frame:
        times = _numbers(frame["time"], path, first_row)
    if ratings and "rating" in frame:
        rating = _numbers(frame["rating"], path, first_row)
        if min_rating is not None:
            high = rating >= min_rating
            frame, times = frame[high], times[high] if times is not None else None
    elif min_rating is not None:
        raise UserError(f"{path} has no third column with ratings for --min_rating")
    return Feedback.of(frame["user"].to_numpy(), frame["item"].to_numpy(), times)


def _refuse_column_names(frame: pd.DataFrame, path: Path) -> None:
    """Raise ``UserError`` if the first row looks like column names, which would pass for ids."""
    numeric = frame[["user", "item"]].apply(lambda ids: ids.str.isdecimal()).to_numpy(bool)
    if len(frame) > 1 and numeric[1:].all() and not numeric[0].any():
        user, item = frame.loc[0, ["user", "item"]]
        raise UserError(
            f"{path}, row 1: {user!r} and {item!r} among ids that are numbers: {_HEADER_HINT}"
        )


def _read_table(path: Path, header: bool) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        with path.open(encoding="utf-8") as stream:
            separator = "\t" if "\t" in stream.readline() else ","
        frame = pd.read_csv(
            path,
            sep=separator,
            quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,
            header=None,
            skiprows=int(header),
            dtype=str,
            keep_default_na=False,
        ).fillna("")
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table: {error}") from error
    if not 2 <= frame.shape[1] <= len(COLUMNS):
        raise UserError(
            f"{path} has {frame.shape[1]} columns; expected user, item[, rating[, time]], "
            "separated by tabs or commas"
        )
    frame.columns = pd.Index(COLUMNS[: frame.shape[1]])
    return frame


def _numbers(column: pd.Series, path: Path, first_row: int) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if (wrong := ~np.isfinite(numbers)).any():
        row = int(np.argmax(wrong))
        hint = f" ({_HEADER_HINT})" if row == 0 else ""
        raise UserError(
            f"{path}, row {row + first_row}: {column.name} {column.iloc[row]!r} is not a number{hint}"
        )
    return numbers
