"""Tradesy's feedback lists, collected by He and McAuley (AAAI 2016).

Every line is one user: ``{'uid': ..., 'lists': {'bought': [...], 'want': [...], ...}}``, JSON or a Python
literal. Items that a user bought or wants are positive feedback; there is no time, so list order counts.
A second file holds the addresses of the images: ``{'itemID': ..., 'imageUrl': ...}`` on each line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets.raw import FeedbackBuilder, ImageSource, prepare_raw, read_records
from src.datasets.splitting import Feedback

POSITIVE_LISTS = ("bought", "want")


def prepare_tradesy(
    staged: Layout, feedback: Path, item_urls: Path | None, *, source: ImageSource, core: int
) -> None:
    """Write the data set; ``item_urls`` is needed for downloads only."""
    positive = read_lists(feedback)
    if len(positive) == 0:
        raise UserError(f"{feedback} has no item in the lists {' and '.join(POSITIVE_LISTS)}")
    urls = {} if item_urls is None else read_item_urls(item_urls)
    prepare_raw(staged, positive, urls, source, core)


def read_lists(path: Path) -> Feedback:
    """Read the items that each user bought and then those that the user wants, in list order."""
    builder = FeedbackBuilder()

    def collect(record: Mapping[str, Any]) -> None:
        lists = record["lists"]
        items = [item for name in POSITIVE_LISTS for item in lists.get(name) or []]
        for position, item in enumerate(items):
            builder.add(str(record["uid"]), str(item), position)

    for _ in read_records(path, collect):
        pass
    return builder.build()


def read_item_urls(path: Path) -> dict[str, str | None]:
    """Read item -> address of its image, or None without one."""
    return dict(
        read_records(path, lambda record: (str(record["itemID"]), record.get("imageUrl") or None))
    )
