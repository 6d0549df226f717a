"""Reader of tables of interactions: text with or without a header, RecBole's ``.inter``, parquet."""

import csv
import gzip
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from src.artifacts.errors import UserError
from src.datasets.splitting import Feedback, Split, binarise

COLUMNS = ("user", "item", "rating", "time")
"""Columns of a table without a header, in this order; the last two may be missing."""
LABEL = "label"
"""Column that gives the part of each row: 0 training, 1 validation, 2 test (MMRec)."""
_USERS = ("user", "customer", "client", "reviewer", "buyer", "visitor", "member", "account")
_ITEMS = (
    *("item", "article", "product", "movie", "film", "book", "song", "track", "video", "game"),
    *("app", "recipe", "business"),
)
_NAMES = {
    "user": (*_USERS, *(f"{name}id" for name in _USERS), "uid"),
    "item": (
        *_ITEMS,
        *(f"{name}id" for name in _ITEMS),
        "iid",
        "sku",
        "isbn",
        "asin",
        "parentasin",
    ),
    "rating": ("rating", "score", "stars", "overall"),
    "time": (
        *("time", "timestamp", "date", "datetime", "createdat", "orderdate", "purchasedate"),
        *("tdat", "unixreviewtime"),
    ),
    LABEL: ("xlabel",),
}
"""Names of columns in headers: lower case, without blanks, underscores, hyphens and types."""
_COLUMN_OF_NAME = {name: column for column, names in _NAMES.items() for name in names}
_HEADER_HINT = "use --header if the first line names the columns"
_ROWS_AT_ONCE = 2**20
"""Rows whose text is in memory together."""
_PARQUET_READERS = ("pyarrow", "fastparquet")


def read_feedback(
    path: Path, *, ratings: bool = True, min_rating: float | None = None, header: bool = False
) -> Feedback:
    """Read users and items and, if the table has them, ratings and times.

    A header with common names of a user and an item column is recognised; its columns may be in any
    order, and others are left out. Without one the columns are ``COLUMNS``, and ``header`` skips a first
    line of other names. Text is separated by tabs, semicolons or commas, may be gzipped, and ``.parquet``
    is read by its names. Ids are text. Times are numbers or ISO dates, which become seconds since 1970 in
    UTC. ``min_rating`` drops lower ratings; ``ratings=False`` reads only the ids.

    Raises ``UserError`` with the row for a missing id, for a rating or a time that is none, for a header
    without users or items, and for unknown column names among numeric ids.
    """
    frame, first_row = _read_table(path, header, COLUMNS if ratings else COLUMNS[:2])
    times = _times(frame["time"], path, first_row) if "time" in frame else None
    if "rating" in frame:
        rating = _numbers(frame["rating"], path, first_row)
        if min_rating is not None:
            high = rating >= min_rating
            frame, times = frame[high], times[high] if times is not None else None
    elif min_rating is not None:
        raise UserError(f"{path} has no third column with ratings for --min_rating")
    return _feedback(frame, times)


def read_given_split(path: Path) -> Split:
    """Read a table whose column ``x_label`` gives the part of each row, as MMRec writes it.

    Users without training rows lose their held-out rows, as in MMRec. Raises ``UserError`` as
    ``read_feedback`` does, for a table without the column, and for a label that is not 0, 1 or 2.
    """
    frame, first_row = _read_table(path, False, ("user", "item", LABEL))
    if LABEL not in frame:
        raise UserError(f"{path} has no column x_label (0 training, 1 validation, 2 test)")
    labels = _numbers(frame[LABEL], path, first_row)
    if (wrong := ~np.isin(labels, (0, 1, 2))).any():
        row = int(np.argmax(wrong))
        raise UserError(f"{path}, row {row + first_row}: x_label {labels[row]:g} is not 0, 1 or 2")
    feedback = _feedback(frame, None)
    train, *held_out = (binarise(feedback.rows(labels == label)) for label in (0, 2, 1))
    return Split(train, *(part.with_users(train.present_users) for part in held_out))


def read_sequences(path: Path) -> Feedback:
    """Read lines of a user, a tab and the user's items from oldest to newest, separated by blanks.

    This is MicroLens' ``_pairs.tsv``. Raises ``UserError`` with the number of a line without items.
    """
    users: list[str] = []
    items: list[str] = []
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            user, tab, sequence = line.rstrip("\r\n").partition("\t")
            of_user = sequence.split()
            if not (user and tab and of_user):
                raise UserError(f"{path}, line {number}: not a user, a tab and items")
            users += [user] * len(of_user)
            items += of_user
    return Feedback.of(users, items)


def _feedback(frame: pd.DataFrame, times: np.ndarray | None) -> Feedback:
    users, items = frame["user"].cat, frame["item"].cat
    return Feedback(
        users.codes.to_numpy(np.int64),
        items.codes.to_numpy(np.int64),
        users.categories.tolist(),
        items.categories.tolist(),
        times,
    )


def _read_table(path: Path, header: bool, wanted: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Return the ``wanted`` columns that the table has, as text categories, and its first row's number.

    A category is stored once, so that millions of rows need a few bytes each.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    if path.suffix == ".parquet":
        frame, first_row = _read_parquet(path, wanted), 1
    else:
        frame, first_row = _read_text(path, header, wanted)
    for name in ("user", "item"):
        if (missing := (frame[name] == "").to_numpy(bool)).any():
            raise UserError(f"{path}, row {int(np.argmax(missing)) + first_row}: no {name} id")
    return frame, first_row


def _read_text(path: Path, header: bool, wanted: Sequence[str]) -> tuple[pd.DataFrame, int]:
    try:
        with _opened(path) as stream:
            line = stream.readline()
        separator = next((mark for mark in "\t;" if mark in line), ",")
        quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
        fields = next(csv.reader([line], delimiter=separator, quoting=quoting), [])
        named = _named_columns(path, fields)
        skipped = int(header or bool(named))
        chunks = pd.read_csv(
            path,
            sep=separator,
            quoting=quoting,
            header=None,
            skiprows=skipped,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            usecols=sorted(named[column] for column in wanted if column in named) or None,
            chunksize=_ROWS_AT_ONCE,
        )
        frame = _joined([chunk.fillna("").astype("category") for chunk in chunks])
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty") from error
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, csv.Error) as error:
        raise UserError(f"{path} is not a table: {error}") from error
    if named:
        names = {number: column for column, number in named.items()}
        frame.columns = pd.Index([names[number] for number in frame])
    elif not 2 <= frame.shape[1] <= len(COLUMNS):
        raise UserError(
            f"{path} has {frame.shape[1]} columns; expected user, item[, rating[, time]], "
            "separated by tabs, semicolons or commas, or a header that names user and item"
        )
    else:
        frame.columns = pd.Index(COLUMNS[: frame.shape[1]])
        if not header:
            _refuse_column_names(frame, path)
    frame = frame[[column for column in wanted if column in frame]]
    return frame, 1 + skipped


def _read_parquet(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    if not any(importlib.util.find_spec(reader) for reader in _PARQUET_READERS):
        raise UserError(f"{path}: parquet needs a reader: pip install pyarrow")
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a parquet table: {error}") from error
    fields = [str(name) for name in frame]
    named = _named_columns(path, fields)
    if not named:
        raise UserError(f"{path} has no columns of users and items among {', '.join(fields)}")
    columns = {column: frame.iloc[:, named[column]] for column in wanted if column in named}
    return pd.DataFrame(columns).astype(str).fillna("").astype("category")


def _joined(chunks: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join chunks of a table, whose columns have a category for each distinct text."""
    if len(chunks) == 1:
        return chunks[0]
    columns = {name: union_categoricals([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return pd.DataFrame(columns)


def _named_columns(path: Path, fields: Sequence[str]) -> dict[str, int]:
    """Return the position of each column that a header names, none if ``fields`` is no header.

    Raises ``UserError`` for a header of several known names without a user or an item.
    """
    found: dict[str, int] = {}
    for number, field in enumerate(fields):
        name = field.strip().lower().partition(":")[0]
        column = _COLUMN_OF_NAME.get("".join(letter for letter in name if letter not in " _-"))
        if column is not None:
            found.setdefault(column, number)
    missing = [column for column in ("user", "item") if column not in found]
    if not missing:
        return found
    if len(found) >= 2 or any(":token" in field for field in fields):
        names = ", ".join(field.strip() for field in fields)
        raise UserError(
            f"{path} has no column of {missing[0]} ids among {names}: name it {missing[0]}"
        )
    return {}


def _refuse_column_names(frame: pd.DataFrame, path: Path) -> None:
    """Raise ``UserError`` if the first row looks like column names, which would pass for ids."""
    ids = frame[["user", "item"]]
    first = [str(value) for value in ids.iloc[0]]
    if any(text.isdecimal() for text in first):
        return
    others = ids.iloc[1:]
    used = (others[name].cat.remove_unused_categories().cat.categories for name in others)
    if len(others) and all(str(text).isdecimal() for categories in used for text in categories):
        user, item = first
        raise UserError(
            f"{path}, row 1: {user!r} and {item!r} among ids that are numbers: {_HEADER_HINT}"
        )


def _numbers(column: pd.Series, path: Path, first_row: int) -> np.ndarray:
    """Return the numbers (n,) float64 of a column of text categories."""
    values = pd.to_numeric(pd.Series(column.cat.categories), errors="coerce")
    numbers = values.to_numpy(np.float64)[column.cat.codes]
    if (wrong := ~np.isfinite(numbers)).any():
        row = int(np.argmax(wrong))
        hint = f" ({_HEADER_HINT})" if row == 0 and first_row == 1 else ""
        raise UserError(
            f"{path}, row {row + first_row}: {column.name} {column.iloc[row]!r} is not a number{hint}"
        )
    return numbers


def _times(column: pd.Series, path: Path, first_row: int) -> np.ndarray:
    """Return the times (n,) float64: numbers as they are, or seconds since 1970 of ISO dates."""
    texts = pd.Series(column.cat.categories, dtype=object)
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).any():
        dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        since = dates - pd.Timestamp(0, tz="UTC")
        values = (since / pd.Timedelta(seconds=1)).to_numpy(np.float64)
    times = values[column.cat.codes]
    if (wrong := ~np.isfinite(times)).any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}, row {row + first_row}: time {column.iloc[row]!r} is not a number, nor one of "
            "all dates like 2026-07-14"
        )
    return times


def _opened(path: Path):
    """Open a text file, gzipped or not."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig")
