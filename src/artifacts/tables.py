"""Tab-separated tables without a header: interactions, top-K lists, ranks of held-out items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError


def read_pairs(path: Path) -> np.ndarray:
    """Read (user, item) pairs as an (n, 2) int64 array; further columns are ignored."""
    return _read_columns(path, ["user", "item"]).to_numpy(np.int64)


def write_pairs(path: Path, pairs: np.ndarray) -> None:
    """Write an (n, 2) array of (user, item) ids."""
    pd.DataFrame(pairs).to_csv(path, sep="\t", header=False, index=False)


@dataclass(frozen=True)
class TopK:
    """The best K items of every user: ``items`` (users, K) int64, ``scores`` (users, K) float32.

    Row u is user u; items stand in descending order of score. A user with fewer than K items left is
    padded with item -1 and score -inf.
    """

    items: np.ndarray
    scores: np.ndarray


def write_top_k(path: Path, top_k: TopK) -> None:
    """Write lines ``user <tab> item <tab> score``: users ascending, scores descending."""
    n_users, k = top_k.items.shape
    kept = (top_k.items >= 0).ravel()
    users = np.repeat(np.arange(n_users), k)[kept].tolist()
    items = top_k.items.ravel()[kept].tolist()
    # str() of a float32 is the shortest decimal that reads back as the same float32.
    scores = top_k.scores.ravel()[kept].astype(str).tolist()
    lines = map("%d\t%d\t%s".__mod__, zip(users, items, scores, strict=True))
    with path.open("w") as stream:
        stream.write("\n".join(lines))
        stream.write("\n")


def read_top_k(path: Path) -> TopK:
    """Read a top-K file, as this project or the published code writes it."""
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
    """Where each user's held-out item stands among the items the user has not trained on.

    All arrays are (test users,) int64. ``ranks`` counts the other items that score at least as high
    (0 is the best; ties count against the held-out item), ``negatives`` all the other candidates.
    """

    __test__ = False  # the name begins with Test, and this is no test

    users: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    negatives: np.ndarray


def write_test_ranks(path: Path, ranks: TestRanks) -> None:
    """Write lines ``user item rank negatives``, tab separated."""
    columns = (ranks.users, ranks.items, ranks.ranks, ranks.negatives)
    pd.DataFrame(np.stack(columns, axis=1)).to_csv(path, sep="\t", header=False, index=False)


def read_test_ranks(path: Path) -> TestRanks:
    """Read what ``write_test_ranks`` wrote."""
    columns = ["user", "item", "rank", "negatives"]
    return TestRanks(*_read_columns(path, columns).to_numpy(np.int64).T)


def _read_columns(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read the first columns of a headerless table of numbers, and say which row is wrong."""
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
            raise UserError(f"{path}, row {row + 1}: {name} {frame[name][row]!r} is not {what}")
        frame[name] = column
    return frame
