"""Reader of tables of interactions: text with or without a header, RecBole's ``.inter``, parquet."""

import csv
import gzip
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
CATEGORIES = ("item", "category")
"""Columns of a table of categories without a header, in this order."""
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
    "category": ("category", "categoryname"),
}
"""Names of columns in headers: lower case, without blanks, underscores, hyphens and types."""
_COLUMN_OF_NAME = {name: column for column, names in _NAMES.items() for name in names}
_HEADER_HINT = "if this is a header, name its columns user, item, time, or skip it by --header"
_ROWS_AT_ONCE = 2**20
"""Rows whose text is in memory together."""
_PARQUET_READERS = ("pyarrow", "fastparquet")


@dataclass(frozen=True)
class _Source:
    """Place of the rows of a table, for messages."""

    path: Path
    first: int
    """Number of the first row below the header: its line in a text."""
    unit: str = "line"

    def place(self, row: int) -> str:
        return f"{self.path}, {self.unit} {row + self.first}"

    @property
    def header_hint(self) -> str:
        return f" ({_HEADER_HINT})" if self.first == 1 else ""


@dataclass(frozen=True)
class _Unreadable:
    """Rows in which a column cannot be read."""

    rows: np.ndarray
    """Mask (n,) bool."""
    reason: Callable[[int], str]


def read_feedback(
    path: Path, *, ratings: bool = True, min_rating: float | None = None, header: bool = False
) -> Feedback:
    """Read users and items and, if the table has them, ratings and times.

    A header with common names of a user and an item column is recognised; its columns may be in any
    order, and others are left out. Without one the columns are ``COLUMNS``, and ``header`` skips a first
    line of other names. Text is separated by tabs, semicolons or commas, may be gzipped, and ``.parquet``
    is read by its names. Ids are text. Times are numbers or ISO dates, which become seconds since 1970 in
    UTC. ``min_rating`` drops lower ratings; ``ratings=False`` reads only the ids.

    Raises ``UserError`` for rows with a missing id, or with a rating or a time that is none: it counts
    them and names the line of the first. Raises it too for a header without users or items, and for
    unknown column names among numeric ids.
    """
    frame, source = _read_table(path, header, COLUMNS if ratings else COLUMNS[:2])
    unreadable = _without_ids(frame)
    rating = times = None
    if "rating" in frame:
        rating, wrong = _numbers(frame["rating"], source)
        unreadable.append(wrong)
    if "time" in frame:
        times, wrong = _times(frame["time"])
        unreadable.append(wrong)
    _require_readable(unreadable, source)
    if min_rating is None:
        return _feedback(frame, times)
    if rating is None:
        raise UserError(f"{path} has no third column with ratings for --min_rating")
    high = rating >= min_rating
    return _feedback(frame[high], times[high] if times is not None else None)


def read_given_split(path: Path) -> Split:
    """Read a table whose column ``x_label`` gives the part of each row, as MMRec writes it.

    Users without training rows lose their held-out rows, as in MMRec. Raises ``UserError`` as
    ``read_feedback`` does, for a table without the column or without one of the labels, and for a label
    that is not 0, 1 or 2.
    """
    frame, source = _read_table(path, False, ("user", "item", LABEL))
    if LABEL not in frame:
        raise UserError(f"{path} has no column x_label (0 training, 1 validation, 2 test)")
    labels, no_numbers = _numbers(frame[LABEL], source)
    no_part = _Unreadable(
        ~no_numbers.rows & ~np.isin(labels, (0, 1, 2)),
        lambda row: f"x_label {labels[row]:g} is not 0, 1 or 2",
    )
    _require_readable([*_without_ids(frame), no_numbers, no_part], source)
    if missing := {0, 1, 2} - set(labels.tolist()):
        raise UserError(
            f"{path} has no row with x_label {min(missing)} (0 training, 1 validation, 2 test): a split "
            "without validation rows is given by --train and --test"
        )
    feedback = _feedback(frame, None)
    return Split(
        *(binarise(feedback.rows(labels == label)) for label in (0, 2, 1))
    ).of_known_users()


def read_categories(path: Path) -> dict[str, str]:
    """Read the category of each item of the source.

    The table is read as ``read_feedback`` reads one, with the columns item and category. Raises
    ``UserError`` for rows without an item or a category, and for an item that appears twice.
    """
    frame, source = _read_table(path, False, CATEGORIES, CATEGORIES)
    nameless = _Unreadable((frame["category"] == "").to_numpy(bool), lambda _: "no category")
    repeated = _Unreadable(
        frame["item"].duplicated().to_numpy(bool),
        lambda row: f"item {frame['item'].iloc[row]} appears twice",
    )
    _require_readable([*_without_ids(frame), nameless, repeated], source)
    return dict(zip(frame["item"].astype(str), frame["category"].astype(str), strict=True))


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


def _without_ids(frame: pd.DataFrame) -> list[_Unreadable]:
    """Return the rows that miss the id of a user or an item."""
    return [
        _Unreadable((frame[name] == "").to_numpy(bool), lambda _, name=name: f"no {name} id")
        for name in ("user", "item")
        if name in frame
    ]


def _require_readable(columns: Sequence[_Unreadable], source: _Source) -> None:
    """Raise ``UserError`` with the first row that one of ``columns`` cannot read, and their number."""
    wrong = np.logical_or.reduce([column.rows for column in columns])
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    reason = next(column.reason(row) for column in columns if column.rows[row])
    n_wrong = int(wrong.sum())
    counted = f"; {n_wrong} of {len(wrong)} rows cannot be read" if n_wrong > 1 else ""
    raise UserError(f"{source.place(row)}: {reason}{counted}")


def _read_table(
    path: Path, header: bool, wanted: Sequence[str], order: Sequence[str] = COLUMNS
) -> tuple[pd.DataFrame, _Source]:
    """Return the ``wanted`` columns that the table has, as text categories, and the place of its rows.

    ``order`` names the columns of a table without a header; a header must name the first two. A category
    is stored once, so that millions of rows need a few bytes each.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    if path.suffix == ".parquet":
        return _read_parquet(path, wanted, order[:2]), _Source(path, 1, "row")
    return _read_text(path, header, wanted, order)


def _read_text(
    path: Path, header: bool, wanted: Sequence[str], order: Sequence[str]
) -> tuple[pd.DataFrame, _Source]:
    try:
        with _opened(path) as stream:
            line = stream.readline()
        separator = next((mark for mark in "\t;" if mark in line), ",")
        quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
        fields = next(csv.reader([line], delimiter=separator, quoting=quoting), [])
        named = _named_columns(path, fields, order[:2])
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
    except pd.errors.ParserError as error:
        longer = _longer_rows(path, separator, quoting, skipped)
        raise UserError(longer or _no_table(path, error)) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: save it as CSV in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise UserError(_no_table(path, error)) from error
    if named:
        names = {number: column for column, number in named.items()}
        frame.columns = pd.Index([names[number] for number in frame])
    elif not 2 <= frame.shape[1] <= len(order):
        optional = "[, rating[, time]]" if order == COLUMNS else ""
        raise UserError(
            f"{path} has {frame.shape[1]} columns; expected {order[0]}, {order[1]}{optional}, "
            f"separated by tabs, semicolons or commas, or a first line with names such as "
            f"{_known_names(order)}"
        )
    else:
        frame.columns = pd.Index(order[: frame.shape[1]])
        if not header and order == COLUMNS:
            _refuse_column_names(frame, path)
    frame = frame[[column for column in wanted if column in frame]]
    return frame, _Source(path, 1 + skipped)


def _known_names(order: Sequence[str]) -> str:
    """Return common names of the two columns that a header must have."""
    return "item and category" if order == CATEGORIES else "customer_id and product_id"


def _longer_rows(path: Path, separator: str, quoting: int, skipped: int) -> str:
    """Describe the rows with more columns than the first below the header; empty if there is none."""
    expected = first = n_longer = 0
    with _opened(path) as stream:
        rows = csv.reader(stream, delimiter=separator, quoting=quoting)
        for fields in itertools.islice(filter(None, rows), skipped, None):
            expected = expected or len(fields)
            if len(fields) > expected:
                n_longer += 1
                first = first or rows.line_num
    if not n_longer:
        return ""
    counted = "1 row has" if n_longer == 1 else f"{n_longer} rows have"
    return f"{path}, line {first}: {counted} more than the {expected} columns of the others"


def _no_table(path: Path, error: Exception) -> str:
    return f"{path} is not a table: {error}"


def _read_parquet(path: Path, wanted: Sequence[str], required: Sequence[str]) -> pd.DataFrame:
    if not any(importlib.util.find_spec(reader) for reader in _PARQUET_READERS):
        raise UserError(f"{path}: parquet needs a reader: pip install pyarrow")
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a parquet table: {error}") from error
    fields = [str(name) for name in frame]
    named = _named_columns(path, fields, required)
    if not named:
        names = " and ".join(required)
        raise UserError(f"{path} has no columns of {names} among {', '.join(fields)}")
    columns = {column: frame.iloc[:, named[column]] for column in wanted if column in named}
    return pd.DataFrame(columns).astype(str).fillna("").astype("category")


def _joined(chunks: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join chunks of a table, whose columns have a category for each distinct text."""
    if len(chunks) == 1:
        return chunks[0]
    columns = {name: union_categoricals([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return pd.DataFrame(columns)


def _named_columns(path: Path, fields: Sequence[str], required: Sequence[str]) -> dict[str, int]:
    """Return the position of each column that a header names, none if ``fields`` is no header.

    Raises ``UserError`` for a header of several known names without a ``required`` column.
    """
    found: dict[str, int] = {}
    for number, field in enumerate(fields):
        name = field.strip().lower().partition(":")[0]
        column = _COLUMN_OF_NAME.get("".join(letter for letter in name if letter not in " _-"))
        if column is not None:
            found.setdefault(column, number)
    missing = [column for column in required if column not in found]
    if not missing:
        return found
    if len(found) >= 2 or any(":token" in field for field in fields):
        names = ", ".join(field.strip() for field in fields)
        wanted = "categories" if missing[0] == "category" else f"{missing[0]} ids"
        raise UserError(f"{path} has no column of {wanted} among {names}: name it {missing[0]}")
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


def _numbers(column: pd.Series, source: _Source) -> tuple[np.ndarray, _Unreadable]:
    """Return the numbers (n,) float64 of a column of text categories."""
    values = pd.to_numeric(pd.Series(column.cat.categories), errors="coerce")
    numbers = values.to_numpy(np.float64)[column.cat.codes]

    def reason(row: int) -> str:
        hint = "" if row else source.header_hint
        return f"{column.name} {column.iloc[row]!r} is not a number{hint}"

    return numbers, _Unreadable(~np.isfinite(numbers), reason)


def _times(column: pd.Series) -> tuple[np.ndarray, _Unreadable]:
    """Return the times (n,) float64: numbers as they are, or seconds since 1970 of ISO dates."""
    texts = pd.Series(column.cat.categories, dtype=object)
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).any():
        dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        since = dates - pd.Timestamp(0, tz="UTC")
        values = (since / pd.Timedelta(seconds=1)).to_numpy(np.float64)
    times = values[column.cat.codes]
    return times, _Unreadable(
        ~np.isfinite(times),
        lambda row: (
            f"time {column.iloc[row]!r} is not a number, and not all times are dates like 2026-07-14"
        ),
    )


def _opened(path: Path):
    """Open a text file, gzipped or not."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig")
