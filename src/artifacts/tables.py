"""Tab-separated tables: results with a header; interactions, lists and held-out ranks without one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.arrays import read_arrays
from src.artifacts.atomic import atomic_outputs
from src.artifacts.columns import Column, check_columns, id_column, require_dense
from src.artifacts.decimals import shortest_decimals
from src.artifacts.errors import UserError

NUMBERS = "%.6g"
"""Format of a number in a table of results."""
_USERS_AT_ONCE = 1024
"""Number of users whose lists are formatted in memory together."""
_LARGEST_SCORE = float(np.finfo(np.float32).max)
_SCORE = Column("score", low=-_LARGEST_SCORE, high=_LARGEST_SCORE)
_ROWS_AT_ONCE = 2**20
"""Number of rows of a table that are parsed in memory together."""


def write_table(path: Path, table: pd.DataFrame, numbers: str | None = NUMBERS) -> None:
    """Write a table with a header; missing values are empty cells.

    ``numbers`` is the format of its fractions; with None each is the shortest decimal that reads back as
    the same number.
    """
    table.to_csv(path, sep="\t", index=False, float_format=numbers)


def write_tables(tables: Mapping[Path, pd.DataFrame]) -> None:
    """Write all tables as ``write_table`` does, or none."""
    with atomic_outputs(*tables) as files:
        for file, table in zip(files, tables.values(), strict=True):
            write_table(file, table)


def read_pairs(path: Path) -> np.ndarray:
    """Read (user, item) pairs as an (n, 2) int64 array; further columns are ignored."""
    return np.stack(_read_columns(path, [id_column("user"), id_column("item")]), axis=1)


def read_ids(path: Path) -> np.ndarray:
    """Read ids, one a line, as an (n,) int64 array; further columns are ignored."""
    return _read_columns(path, [id_column("id")])[0]


def write_ids(path: Path, ids: np.ndarray) -> None:
    """Write ids (n,), one a line."""
    path.write_text("".join(f"{number}\n" for number in ids))


def write_pairs(path: Path, pairs: np.ndarray) -> None:
    """Write an (n, 2) array of (user, item) ids."""
    pd.DataFrame(pairs).to_csv(path, sep="\t", header=False, index=False)


@dataclass(frozen=True)
class TopK:
    """Best K items of every user: ``items`` (users, K) int64, ``scores`` (users, K) float32.

    Row u belongs to user u; items are in descending order of score. The row of a user with fewer than
    K items left is padded with item -1 and score -inf.
    """

    items: np.ndarray
    scores: np.ndarray


def write_top_k_arrays(path: Path, top_k: TopK) -> None:
    """Write the arrays ``items`` (users, K) int32 and ``scores`` (users, K) float32 as ``.npz``."""
    with path.open("wb") as stream:
        np.savez(stream, items=top_k.items.astype(np.int32), scores=top_k.scores)


def write_top_k(path: Path, top_k: TopK) -> None:
    """Write lines ``user <tab> item <tab> score``: users ascending, scores descending.

    A score is the shortest decimal that reads back as the same float32.
    """
    n_items = int(top_k.items.max(initial=0)) + 1
    item_names = np.arange(n_items).astype("S")
    with path.open("wb") as stream:
        for first in range(0, len(top_k.items), _USERS_AT_ONCE):
            block = slice(first, first + _USERS_AT_ONCE)
            items, scores = top_k.items[block], top_k.scores[block]
            kept = items >= 0
            users = np.arange(first, first + len(items)).astype("S")
            stream.write(
                _joined_lines(
                    np.broadcast_to(users[:, None], items.shape)[kept],
                    item_names[items[kept]],
                    shortest_decimals(scores[kept]),
                )
            )


def _joined_lines(*columns: np.ndarray) -> bytes:
    """Join byte-string columns with tabs, one line for each row.

    All rows are put at a fixed width into one array, padded with zero bytes; deleting these bytes, and
    those within the cells, leaves the text. This takes less than a quarter of the time of formatting
    line by line.
    """
    cells = [cell for column in columns for cell in (column, np.bytes_(b"\t"))]
    cells[-1] = np.bytes_(b"\n")
    rows = np.empty(len(columns[0]), [(f"{at}", cell.dtype) for at, cell in enumerate(cells)])
    for at, cell in enumerate(cells):
        rows[f"{at}"] = cell
    return rows.tobytes().translate(None, b"\0")


def read_top_k(path: Path) -> TopK:
    """Read a top-K file of this project, text or ``.npz``, or of the published code.

    Raises ``UserError`` unless users ascend, scores descend within each user, no user has an item twice,
    and at least half of the users up to the last one have a list.
    """
    if path.suffix == ".npz":
        return _read_top_k_arrays(path)
    users, listed, listed_scores = _read_columns(
        path, [id_column("user"), id_column("item"), _SCORE]
    )
    if (np.diff(users) < 0).any():
        raise UserError(f"{path}: users must stand in ascending order")
    require_dense(path, "user", users)
    n_users = int(users[-1]) + 1
    first = np.searchsorted(users, np.arange(n_users))
    position = np.arange(len(users)) - first[users]
    shape = (n_users, int(position.max()) + 1)
    items = np.full(shape, -1, np.int64)
    scores = np.full(shape, -np.inf, np.float32)
    items[users, position] = listed
    scores[users, position] = listed_scores
    return _checked(path, TopK(items, scores))


def _read_top_k_arrays(path: Path) -> TopK:
    """Read a file of ``write_top_k_arrays``; ``UserError`` if it is none."""
    arrays = read_arrays(path, ("items", "scores"))
    items, scores = arrays["items"], arrays["scores"]
    if items.ndim != 2 or items.shape != scores.shape:
        raise UserError(f"{path}: items {items.shape} and scores {scores.shape} do not fit")
    if items.dtype.kind != "i" or scores.dtype.kind != "f" or np.isnan(scores).any():
        raise UserError(f"{path}: it does not hold ids and scores")
    return _checked(path, TopK(items.astype(np.int64), scores))


def _checked(path: Path, lists: TopK) -> TopK:
    """Return ``lists`` whose scores descend and whose items differ; ``UserError`` for others."""
    items, scores = lists.items, lists.scores
    if (rising := (scores[:, 1:] > scores[:, :-1]).any(axis=1)).any():
        raise UserError(f"{path}: the scores of user {np.argmax(rising)} do not descend")
    ordered = np.sort(items, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if repeated.any():
        user, place = np.argwhere(repeated)[0]
        raise UserError(f"{path}: the list of user {user} has item {ordered[user, place]} twice")
    return TopK(items, scores)


@dataclass(frozen=True)
class TestRanks:
    """Rank of each held-out item among the items outside its user's training set.

    All arrays are (held-out items,) int64, users in ascending order. ``ranks`` is the position of the
    item in its user's list (0 is the best; ties with other items count against held-out ones),
    ``negatives`` counts the candidates that are not held out for the user.
    """

    __test__ = False  # pytest would collect a class whose name begins with Test

    users: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    negatives: np.ndarray


def write_test_ranks(path: Path, ranks: TestRanks) -> None:
    """Write lines ``user item rank negatives``, tab separated."""
    columns = (ranks.users, ranks.items, ranks.ranks, ranks.negatives)
    pd.DataFrame(np.stack(columns, axis=1)).to_csv(path, sep="\t", header=False, index=False)


def read_test_ranks(path: Path) -> TestRanks:
    """Read a file of ``write_test_ranks``.

    Raises ``UserError`` for an item that appears twice for one user and for a rank beyond the other
    candidates.
    """
    columns = [id_column(name) for name in ("user", "item", "rank", "negatives")]
    ranks = TestRanks(*_read_columns(path, columns))
    repeated = pd.DataFrame({"user": ranks.users, "item": ranks.items}).duplicated()
    if repeated.any():
        row = int(np.argmax(repeated))
        raise UserError(
            f"{path}, row {row + 1}: user {ranks.users[row]} has item {ranks.items[row]} twice"
        )
    _, row_of, held_out = np.unique(ranks.users, return_inverse=True, return_counts=True)
    if (beyond := ranks.ranks >= ranks.negatives + held_out[row_of]).any():
        row = int(np.argmax(beyond))
        raise UserError(
            f"{path}, row {row + 1}: rank {ranks.ranks[row]} of {ranks.negatives[row]} negatives"
        )
    return ranks


def read_labelled(path: Path) -> pd.DataFrame:
    """Read a CSV table with a header; its column ``label``, if there is one, is read as text."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        return pd.read_csv(path, dtype={"label": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV table: {error}") from error


def _read_columns(path: Path, columns: Sequence[Column]) -> list[np.ndarray]:
    """Read the first columns of a headerless table of numbers; ``UserError`` names a wrong row.

    Whole numbers are int64, others float32. Rows are parsed in chunks, so that memory holds little beyond
    the columns.
    """
    names = [column.name for column in columns]
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    chunks: list[list[np.ndarray]] = []
    try:
        with pd.read_csv(
            path, sep="\t", header=None, usecols=range(len(names)), chunksize=_ROWS_AT_ONCE
        ) as frames:
            for number, frame in enumerate(frames):
                frame.columns = pd.Index(names)
                frame = check_columns(path, frame, columns, first_row=1 + number * _ROWS_AT_ONCE)
                chunks.append(
                    [
                        frame[column.name].to_numpy(np.int64 if column.whole else np.float32)
                        for column in columns
                    ]
                )
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty") from error
    except (ValueError, OverflowError) as error:  # a decoding or parsing error is a ValueError
        raise UserError(
            f"{path} must have {len(names)} tab-separated columns ({', '.join(names)})"
        ) from error
    return [np.concatenate(of) for of in zip(*chunks, strict=True)]
