"""Command-line options that several sources of ``prepare_dataset.py`` share."""

import argparse
from pathlib import Path

TABLE_COLUMNS = (
    "Tables have columns user, item[, rating[, time]] separated by tabs or commas. Ids of any kind "
    "become 0..n-1; users.tsv and items.tsv keep them."
)


def add_table_options(parser: argparse.ArgumentParser, *, without_core: str) -> None:
    """Add the options of tables and their preparation; ``without_core`` describes ``--core 0``."""
    parser.add_argument(
        "--interactions", type=Path, help="all feedback: the newest of each user is held out"
    )
    parser.add_argument("--train", type=Path, help="ready training table, with --test")
    parser.add_argument(
        "--test", type=Path, help="ready test table, any number of rows for each user"
    )
    parser.add_argument(
        "--validation", type=Path, help="ready validation table, any number of rows for each user"
    )
    parser.add_argument(
        "--validation_split",
        action="store_true",
        help="hold out the newest training row of each user (the last one without times) as "
        "validationset.tsv",
    )
    parser.add_argument(
        "--header", action="store_true", help="the first line of a table names its columns"
    )
    parser.add_argument(
        "--core",
        type=int,
        default=0,
        help=f"fewest interactions of every user and item; 0: {without_core}",
    )
    add_rating_option(parser)


def add_rating_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min_rating", type=float, help="leave out lower ratings (default: keep all)"
    )


def add_images_option(parser: argparse._ActionsContainer, *, required: bool = False) -> None:
    text = "folder of <item>.jpg, .png, ..."
    if required:
        text += ", or an .npz whose row i of x is the image of item i"
    parser.add_argument("--images", type=Path, required=required, help=text)


def add_raw_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a raw source's core and images."""
    parser.add_argument(
        "--core",
        type=int,
        help="fewest interactions of every user and item (default: 5, or 10 for amazon_women and "
        "tradesy)",
    )
    images = parser.add_mutually_exclusive_group(required=True)
    add_images_option(images)
    images.add_argument(
        "--download", action="store_true", help="fetch the images; continues when repeated"
    )
    parser.add_argument(
        "--attempts", type=int, default=5, help="requests for an image before it is given up"
    )
    parser.add_argument(
        "--connections", type=int, default=16, help="images downloaded at the same time"
    )
