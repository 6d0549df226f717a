"""Tab-separated tables without a header: interactions, top-K lists, ranks of held-out items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError

_USERS_AT_ONCE = 1024
"""Number of users whose lists are formatted in memory together."""
_ROWS_AT_ONCE = 2**20
"""Number of rows of a table that are parsed in memory together."""


def read_pairs(path: Path) -> np.ndarray:
    """Read (user, item) pairs as an (n, 2) int64 array; further columns are ignored."""
    return np.stack(list(_read_columns(path, ["user", "item"]).values()), axis=1)


def read_ids(path: Path) -> np.ndarray:
    """Read ids, one a line, as an (n,) int64 array; further columns are ignored."""
    return _read_columns(path, ["id"])["id"]


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
                    scores[kept].astype("S16"),
                )
            )


def _joined_lines(*columns: np.ndarray) -> bytes:
    """Join byte-string columns with tabs, one line for each row.

    All rows are put at a fixed width into one array, padded with zero bytes; deleting these bytes leaves
    the text. This takes a third of the time of formatting line by line.
    """
    cells = [cell for column in columns for cell in (column, np.bytes_(b"\t"))]
    cells[-1] = np.bytes_(b"\n")
    rows = np.empty(len(columns[0]), [(f"{at}", cell.dtype) for at, cell in enumerate(cells)])
    for at, cell in enumerate(cells):
        rows[f"{at}"] = cell
    return rows.tobytes().translate(None, b"\0")


def read_top_k(path: Path) -> TopK:
    """Read a top-K file of this project, text or ``.npz``, or of the published code."""
    if path.suffix == ".npz":
        return _read_top_k_arrays(path)
    columns = _read_columns(path, ["user", "item", "score"])
    users = columns["user"]
    if (np.diff(users) < 0).any():
        raise UserError(f"{path}: users must stand in ascending order")
    n_users = int(users[-1]) + 1
    first = np.searchsorted(users, np.arange(n_users))
    position = np.arange(len(users)) - first[users]
    shape = (n_users, int(position.max()) + 1)
    items = np.full(shape, -1, np.int64)
    scores = np.full(shape, -np.inf, np.float32)
    items[users, position] = columns["item"]
    scores[users, position] = columns["score"]
    return TopK(items, scores)


def _read_top_k_arrays(path: Path) -> TopK:
    """Read a file of ``write_top_k_arrays``; ``UserError`` if it is none."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            items, scores = arrays["items"].astype(np.int64), arrays["scores"]
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{path} holds no lists: {error}") from error
    if items.ndim != 2 or items.shape != scores.shape:
        raise UserError(f"{path}: items {items.shape} and scores {scores.shape} do not fit")
    return TopK(items, scores)


@dataclass(frozen=True)
class TestRanks:
    """Rank of each user's held-out item among the items outside the user's training set.

    All arrays are (test users,) int64. ``ranks`` counts the other candidates that score at least as high
    (0 is the best; ties count against the held-out item), ``negatives`` counts all other candidates.
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
    """Read a file of ``write_test_ranks``."""
    columns = ["user", "item", "rank", "negatives"]
    return TestRanks(*_read_columns(path, columns).values())


def read_labelled(path: Path) -> pd.DataFrame:
    """Read a CSV table with a header; its column ``label``, if there is one, is read as text."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        return pd.read_csv(path, dtype={"label": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV table: {error}") from error


def _read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the first columns of a headerless table of numbers; ``UserError`` names a wrong row.

    ``score`` is float32, all others are int64. Rows are parsed in chunks, so that memory holds little
    beyond the columns.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    chunks: list[list[np.ndarray]] = []
    try:
        with pd.read_csv(
            path, sep="\t", header=None, usecols=range(len(names)), chunksize=_ROWS_AT_ONCE
        ) as frames:
            for number, frame in enumerate(frames):
                frame.columns = pd.Index(names)
                chunks.append(_numbers(frame, path, number * _ROWS_AT_ONCE))
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty") from error
    except (ValueError, UnicodeDecodeError) as error:  # ParserError is a ValueError
        raise UserError(
            f"{path} must have {len(names)} tab-separated columns ({', '.join(names)})"
        ) from error
    return dict(zip(names, map(np.concatenate, zip(*chunks, strict=True)), strict=True))


def _numbers(frame: pd.DataFrame, path: Path, n_before: int) -> list[np.ndarray]:
    """Return the columns of rows that ``n_before`` rows precede; ``UserError`` for what is no number."""
    columns = []
    for name in frame:
        column = pd.to_numeric(frame[name], errors="coerce")
        wrong = (
            column.isna() if name == "score" else column.isna() | (column < 0) | (column % 1 != 0)
        )
        if wrong.any():
            row = int(np.argmax(wrong))
            what = "a number" if name == "score" else "an id (0, 1, 2, ...)"
            value = frame[name].iloc[[row]].tolist()[0]
            raise UserError(f"{path}, row {n_before + row + 1}: {name} {value!r} is not {what}")
        columns.append(column.to_numpy(np.float32 if name == "score" else np.int64))
    return columns
