"""Raw files with one record per line, and the preparation that Amazon and Tradesy share."""

import ast
import contextlib
import gzip
import json
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.progress import progress_bar
from src.artifacts.tables import write_table
from src.datasets.images import NO_IMAGE, OK, Downloads, check_images, find_images
from src.datasets.splitting import Feedback, binarise, hold_out, k_core
from src.datasets.writing import write_dataset

PAPER_CORES: Mapping[str, int] = {"amazon_men": 5, "amazon_women": 10, "tradesy": 10}
"""Fewest interactions of users and items, by data set (Anelli et al., SIGIR 2021)."""

Found = TypeVar("Found")


def read_records(
    path: Path,
    parse: Callable[[dict[str, Any]], Found],
    wanted: Callable[[str], bool] = lambda line: True,
) -> Iterator[Found]:
    """Yield the result of ``parse`` for every record of a file of JSON or Python-literal lines.

    The file may be gzipped. One record is in memory at a time. A raw line for which ``wanted`` is false
    is not parsed. Raises ``UserError`` with the line number for a line that is no record or lacks a
    field that ``parse`` reads.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    number = 0
    with (
        path.open("rb") as raw,
        gzip.open(raw) if path.suffix == ".gz" else contextlib.nullcontext(raw) as stream,
        progress_bar(
            desc=path.name, total=path.stat().st_size, unit="B", unit_scale=True
        ) as progress,
    ):
        try:
            for number, encoded in enumerate(stream, start=1):
                if number % 4096 == 0:
                    progress.update(raw.tell() - progress.n)
                line = encoded.decode("utf-8")
                if line.strip() and wanted(line):
                    yield parse(_record(line))
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{path} is damaged after line {number}: {error}") from error
        except KeyError as error:
            raise UserError(f"{path}, line {number}: no field {error}") from error
        except (ValueError, TypeError, AttributeError, RecursionError, MemoryError) as error:
            raise UserError(f"{path}, line {number}: not a record of the expected form") from error


def _record(line: str) -> dict[str, Any]:
    """Parse JSON or, as in older files, a Python literal, which is not executed."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(line.strip())
    except SyntaxError as error:
        raise ValueError("neither JSON nor a Python literal") from error


@dataclass
class FeedbackBuilder:
    """Collector of events that needs 24 bytes per event and stores each id's text once."""

    users: array = field(default_factory=lambda: array("q"))
    items: array = field(default_factory=lambda: array("q"))
    times: array = field(default_factory=lambda: array("d"))
    _user_codes: dict[str, int] = field(default_factory=dict)
    _item_codes: dict[str, int] = field(default_factory=dict)

    def add(self, user: str, item: str, time: float) -> None:
        self.users.append(self._user_codes.setdefault(user, len(self._user_codes)))
        self.items.append(self._item_codes.setdefault(item, len(self._item_codes)))
        self.times.append(time)

    def build(self) -> Feedback:
        return Feedback(
            np.array(self.users, np.int64),
            np.array(self.items, np.int64),
            tuple(self._user_codes),
            tuple(self._item_codes),
            np.array(self.times, np.float64),
        )


@dataclass(frozen=True)
class ImageSource:
    """Source of the images of a raw data set: a folder, or downloads from addresses in its metadata."""

    folder: Path | None
    downloads: Downloads | None

    def images_of(
        self, items: Sequence[str], urls: Mapping[str, str | None], staged: Layout
    ) -> tuple[dict[str, Path], dict[str, str]]:
        """Return item -> file, and item -> reason for items without one; downloads write a report."""
        if self.downloads is None:
            found = find_images(self.folder)
            images = {item: found[item] for item in items if item in found}
            dropped = {item: NO_IMAGE for item in items if item not in found}
        else:
            wanted = {item: urls.get(item) for item in items}
            images, statuses = self.downloads.fetch(wanted)
            report = {
                "item": list(wanted),
                "url": list(wanted.values()),
                "status": statuses.values(),
            }
            write_table(staged.images_report, pd.DataFrame(report))
            dropped = {item: status for item, status in statuses.items() if status != OK}
        unreadable = check_images(images)
        readable = {item: path for item, path in images.items() if item not in unreadable}
        return readable, dropped | unreadable


def prepare_raw(
    staged: Layout,
    feedback: Feedback,
    urls: Mapping[str, str | None],
    source: ImageSource,
    core: int,
) -> None:
    """Write a data set: binarise, k-core, drop items without a readable image, k-core, leave one out.

    The core of items with images lies within the core of all items, so only images of the latter are
    needed. ``urls`` maps an item to the address of its image, or to None without one.
    """
    feedback = k_core(binarise(feedback), core)
    if len(feedback) == 0:
        raise UserError(f"no user and item have {core} interactions: lower --core")
    images, dropped = source.images_of(feedback.present_items, urls, staged)
    feedback = k_core(feedback.with_items(images), core)
    images = {item: images[item] for item in feedback.present_items}
    write_dataset(staged, hold_out(feedback), images, dropped)
