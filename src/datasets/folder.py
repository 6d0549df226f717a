"""An image folder and tables of interactions, as a user has them."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets.images import NO_IMAGE, check_images, find_images
from src.datasets.splitting import Feedback, binarise, k_core, leave_one_out
from src.datasets.writing import write_dataset

COLUMNS = ("user", "item", "rating", "time")


def prepare_ready_split(
    staged: Layout, images: Path, train: Path, test: Path, *, header: bool
) -> None:
    """Write the data set of a split that was made elsewhere.

    ``train`` and ``test`` need a user and an item column; further ones are ignored. The rows of items
    without a readable image are dropped, and the test rows of users who then have no training row.
    """
    rows = {path: read_feedback(path, ratings=False, header=header) for path in (train, test)}
    _check_split(rows[train], rows[test], train, test)
    found = find_images(images)
    dropped = _defects(found, rows[train].present_items + rows[test].present_items)
    readable = _without(found, dropped)
    kept = rows[train].with_items(readable)
    trained = pd.Index(rows[test].user_ids).isin(kept.present_users)
    held_out = rows[test].with_items(readable)
    held_out = held_out.rows(trained[held_out.users])
    write_dataset(staged, kept, held_out, readable, dropped)


def prepare_interactions(
    staged: Layout,
    images: Path,
    interactions: Path,
    *,
    core: int,
    min_rating: float | None,
    header: bool,
) -> None:
    """Write the data set of a table of interactions: binarised, iterated k-core, leave one out.

    With ``core`` 0 every readable image is an item, with or without feedback; otherwise the catalogue
    is the core.
    """
    feedback = binarise(read_feedback(interactions, min_rating=min_rating, header=header))
    found = find_images(images)
    dropped = _defects(found, feedback.present_items)
    readable = _without(found, dropped)
    feedback = k_core(feedback.with_items(readable), core)
    if core:
        readable = {item: readable[item] for item in feedback.present_items}
    write_dataset(staged, *leave_one_out(feedback), readable, dropped)


def read_feedback(
    path: Path, *, ratings: bool = True, min_rating: float | None = None, header: bool = False
) -> Feedback:
    """Read columns user, item[, rating[, time]], separated by tabs or else by commas.

    Ids are text. ``min_rating`` leaves out lower ratings; ``ratings=False`` reads the ids only.
    Raises ``UserError`` with the row for a missing id and for a rating or a time that is no number.
    """
    frame = _read_table(path, header)
    first_row = 2 if header else 1
    for name in ("user", "item"):
        if (missing := frame[name] == "").any():
            raise UserError(f"{path}, row {int(np.argmax(missing)) + first_row}: no {name} id")
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
        hint = " (use --header if the first line names the columns)" if row == 0 else ""
        raise UserError(
            f"{path}, row {row + first_row}: {column.name} {column.iloc[row]!r} is not a number{hint}"
        )
    return numbers


def _check_split(train: Feedback, test: Feedback, train_path: Path, test_path: Path) -> None:
    """What ``load_interactions`` demands, said in the ids of the source."""
    pairs = {}
    for path, rows in ((train_path, train), (test_path, test)):
        ids = (
            np.array(rows.user_ids, object)[rows.users],
            np.array(rows.item_ids, object)[rows.items],
        )
        pairs[path] = pd.MultiIndex.from_arrays(ids)
        if (repeated := pairs[path].duplicated()).any():
            user, item = pairs[path][int(np.argmax(repeated))]
            raise UserError(f"{path}: user {user}, item {item} stands there twice")
    if (overlapping := pairs[test_path].isin(pairs[train_path])).any():
        user, item = pairs[test_path][int(np.argmax(overlapping))]
        raise UserError(f"{test_path}: user {user}, item {item} is also a training row")
    users = pairs[test_path].get_level_values(0)
    if (repeated := users.duplicated()).any():
        raise UserError(
            f"{test_path}: user {users[int(np.argmax(repeated))]} has several test items"
        )
    if not (known := users.isin(train.present_users)).all():
        raise UserError(
            f"{test_path}: user {users[int(np.argmin(known))]} has no row in {train_path.name}"
        )


def _defects(found: Mapping[str, Path], items: list[str]) -> dict[str, str]:
    """Reasons for which items cannot be part of the catalogue: of ``items`` and of all images."""
    missing = {item: NO_IMAGE for item in dict.fromkeys(items) if item not in found}
    return missing | check_images(found)


def _without(images: Mapping[str, Path], dropped: Mapping[str, str]) -> dict[str, Path]:
    return {item: path for item, path in images.items() if item not in dropped}
