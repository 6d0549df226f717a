"""Tab-separated tables without a header: interactions, top-K lists, ranks of held-out items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError

_USERS_AT_ONCE = 1024
"""Number of users whose lists are formatted in memory together."""


def read_pairs(path: Path) -> np.ndarray:
    """Read (user, item) pairs as an (n, 2) int64 array; further columns are ignored."""
    return _read_columns(path, ["user", "item"]).to_numpy(np.int64)


def read_ids(path: Path) -> np.ndarray:
    """Read ids, one a line, as an (n,) int64 array; further columns are ignored."""
    return _read_columns(path, ["id"])["id"].to_numpy(np.int64)


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
    """Read a top-K file of this project or of the published code."""
    frame = _read_columns(path, ["user", "item", "score"])
    users = frame["user"].to_numpy(np.int64)
    if (np.diff(users) < 0).any():
        raise UserError(f"{path}: users must stand in ascending order")
    n_users = int(users[-1]) + 1
    first = np.searchsorted(users, np.arange(n_users))
    position = np.arange(len(users)) - first[users]
    shape = (n_users, int(position.max()) + 1)
    items = np.full(shape, -1, np.int64)
    scores = np.full(shape, -np.inf, np.float32)
    items[users, position] = frame["item"].to_numpy(np.int64)
    scores[users, position] = frame["score"].to_numpy(np.float32)
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
    """Read a file of ``write_test_ranks``."""
    columns = ["user", "item", "rank", "negatives"]
    return TestRanks(*_read_columns(path, columns).to_numpy(np.int64).T)


def read_labelled(path: Path) -> pd.DataFrame:
    """Read a CSV table with a header; its column ``label``, if there is one, is read as text."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        return pd.read_csv(path, dtype={"label": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV table: {error}") from error


def _read_columns(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read the first columns of a headerless table of numbers; ``UserError`` names a wrong row."""
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        frame = pd.read_csv(path, sep="\t", header=None, usecols=range(len(names)))
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty") from error
    except (ValueError, UnicodeDecodeError) as error:  # ParserError is a ValueError
        raise UserError(
            f"{path} must have {len(names)} tab-separated columns ({', '.join(names)})"
        ) from error
    frame.columns = pd.Index(names)
    for name in names:
        column = pd.to_numeric(frame[name], errors="coerce")
        wrong = (
            column.isna() if name == "score" else column.isna() | (column < 0) | (column % 1 != 0)
        )
        if wrong.any():
            row = int(np.argmax(wrong))
            what = "a number" if name == "score" else "an id (0, 1, 2, ...)"
            value = frame[name].iloc[[row]].tolist()[0]
            raise UserError(f"{path}, row {row + 1}: {name} {value!r} is not {what}")
        frame[name] = column
    return frame
