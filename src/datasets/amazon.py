"""Amazon reviews and product metadata of McAuley's group, editions 2014, 2018 and 2023.

A line of reviews is a JSON record (``reviewerID``, ``asin``, ``overall``, ``unixReviewTime``; in 2023
``user_id``, ``parent_asin``, ``rating``, ``timestamp`` in milliseconds). A line of metadata is a Python
literal in 2014 (``categories``: several paths, ``imUrl``) and a JSON record in 2018 (``category``: one
path, ``imageURLHighRes`` and ``imageURL``: lists) and in 2023 (``categories``: one path, ``images``:
records with the addresses ``hi_res`` and ``large``).
"""

import html
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets.raw import FeedbackBuilder, ImageSource, prepare_raw, read_records
from src.datasets.splitting import Feedback

PAPER_CATEGORIES: Mapping[str, str] = {
    "amazon_men": "Clothing, Shoes & Jewelry/Men",
    "amazon_women": "Clothing, Shoes & Jewelry/Women",
}
_IMAGE_FIELDS = ("imUrl", "imageURLHighRes", "imageURL")
_REVIEW_FIELDS = ("reviewerID", "asin", "overall", "unixReviewTime")
_REVIEW_FIELDS_2023 = ("user_id", "parent_asin", "rating", "timestamp")


def prepare_amazon(
    staged: Layout,
    reviews: Path,
    metadata: Path,
    *,
    category: str,
    min_rating: float | None,
    source: ImageSource,
    core: int,
) -> None:
    """Write the data set of the products in ``category`` (names from the root, joined by '/')."""
    urls = read_products(metadata, category.split("/"))
    if not urls:
        raise UserError(f"{metadata} has no product in category {category!r}")
    feedback = read_reviews(reviews, urls, min_rating)
    if len(feedback) == 0:
        raise UserError(f"{reviews} has no review of a product in category {category!r}")
    prepare_raw(staged, feedback, urls, source, core)


def read_products(metadata: Path, category: Sequence[str]) -> dict[str, str | None]:
    """Return the products in ``category``: asin -> address of the image, or None without one."""
    # Most lines belong to other categories, and a search for words costs far less than parsing.
    words = [word for name in category for word in re.findall(r"[A-Za-z0-9]+", name)]

    def parse(record: Mapping[str, Any]) -> tuple[str, str | None] | None:
        paths = record.get("categories") or [record.get("category") or []]
        if paths and isinstance(paths[0], str):
            paths = [paths]
        below = any(
            [html.unescape(name) for name in path[: len(category)]] == list(category)
            for path in paths
        )
        item = record["parent_asin"] if "parent_asin" in record else record["asin"]
        return (str(item), _image_url(record)) if below else None

    found = read_records(metadata, parse, lambda line: all(word in line for word in words))
    return dict(product for product in found if product is not None)


def read_reviews(
    reviews: Path, products: Collection[str], min_rating: float | None = None
) -> Feedback:
    """Read the reviews of ``products`` (asins) with at least ``min_rating``, and their times."""
    builder = FeedbackBuilder()

    def collect(record: Mapping[str, Any]) -> None:
        fields = _REVIEW_FIELDS_2023 if "parent_asin" in record else _REVIEW_FIELDS
        user, item, rating, time = fields
        chosen = record[item] in products
        if chosen and (min_rating is None or record[rating] >= min_rating):
            builder.add(record[user], record[item], float(record[time]))

    for _ in read_records(reviews, collect):
        pass
    return builder.build()


def _image_url(record: Mapping[str, Any]) -> str | None:
    for image in record.get("images") or ():
        if address := image.get("hi_res") or image.get("large"):
            return str(address)
    for field in _IMAGE_FIELDS:
        addresses = record.get(field)
        if addresses:
            return addresses if isinstance(addresses, str) else str(addresses[0])
    return None
