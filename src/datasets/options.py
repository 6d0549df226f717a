"""Command-line options that several sources of ``prepare_dataset.py`` share."""

import argparse
from pathlib import Path

from src.datasets.splitting import RATIO

TABLE_COLUMNS = (
    "Tables have columns user, item[, rating[, time]] separated by tabs, semicolons or commas, or a "
    "header with common names of them in any order (docs/data.md). Times are numbers or ISO dates. Ids "
    "of any kind become 0..n-1; user_ids.tsv and item_ids.tsv keep them."
)


def add_table_options(parser: argparse.ArgumentParser, *, without_core: str) -> None:
    """Add the options of tables and their preparation; ``without_core`` describes ``--core 0``."""
    parser.add_argument("--interactions", type=Path, help="all feedback, which --split divides")
    add_split_options(parser)
    parser.add_argument(
        "--sequences",
        action="store_true",
        help="--interactions has lines of a user, a tab and the items from oldest to newest",
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
        "--header",
        action="store_true",
        help="skip the first line of a table, whose names of columns are not recognised",
    )
    parser.add_argument(
        "--core",
        type=int,
        default=0,
        help=f"fewest interactions of every user and item; 0: {without_core}",
    )
    add_rating_option(parser)


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that divide all feedback into training, validation and test rows."""
    parser.add_argument(
        "--split",
        choices=("leave_one_out", "ratio", "temporal", "given"),
        default="leave_one_out",
        help="hold out the newest row of each user, random shares of each user's rows, all rows after a "
        "time, or what the column x_label says (0 training, 1 validation, 2 test)",
    )
    parser.add_argument(
        "--ratio",
        type=float,
        nargs="+",
        default=list(RATIO),
        metavar="SHARE",
        help="shares of training, validation and test rows (two numbers: no validation)",
    )
    parser.add_argument(
        "--cold_items",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the items, drawn at random, whose rows are all test rows; accuracy then has rows "
        "of warm and of cold items too",
    )
    parser.add_argument(
        "--split_seed", type=int, default=0, help="seed of --split ratio and of --cold_items"
    )


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of features that come ready, in the place of images."""
    parser.add_argument(
        "--features", type=Path, help="matrix (items, dimensions) of the items' features, .npy"
    )
    parser.add_argument(
        "--feature_items",
        type=Path,
        help="file with the item of each row of --features, one id a line (default: ids are row numbers)",
    )


def add_rating_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min_rating", type=float, help="leave out lower ratings (default: keep all)"
    )


def add_images_option(parser: argparse._ActionsContainer, *, required: bool = False) -> None:
    text = "folder of <item>.jpg, .png, ..., or of tar archives that hold them"
    if required:
        text += ", an .npz whose row i of x is the image of item i, or an LMDB database"
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
