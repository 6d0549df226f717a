"""Make data/<dataset>/ from a generated catalogue, an image folder, or raw Amazon or Tradesy files."""

import argparse
import sys
from pathlib import Path

from src.cli import Parser, add_common_options, run

PAPER_CORE = (
    "fewest interactions of every user and item (default: 5, or 10 for amazon_women and tradesy)"
)


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    demo = sources.add_parser(
        "demo",
        help="a generated catalogue; nothing to download",
        description="Draw a catalogue, simulate its users.",
    )
    add_common_options(demo, dataset="demo", gpu=None)
    demo.add_argument("--items", type=int, default=400, help="products in the catalogue")
    demo.add_argument("--users", type=int, default=500, help="simulated users")
    demo.add_argument("--size", type=int, default=64, help="side of a picture in pixels")
    demo.add_argument(
        "--per_class", type=int, default=150, help="labelled pictures of each class to train on"
    )
    demo.add_argument("--seed", type=int, default=0, help="of all random choices")

    folder = sources.add_parser(
        "folder",
        help="an image folder and a table of interactions, or ready training and test tables",
        description="Tables have columns user, item[, rating[, time]] separated by tabs or commas; the "
        "images are named by item. Ids of any kind become 0..n-1; users.tsv and items.tsv keep them.",
    )
    add_common_options(folder, dataset="catalogue", gpu=None)
    folder.add_argument(
        "--images", type=Path, required=True, help="folder of <item>.jpg, .png, ..."
    )
    folder.add_argument(
        "--interactions", type=Path, help="all feedback: the newest of each user is held out"
    )
    folder.add_argument("--train", type=Path, help="ready training table, with --test")
    folder.add_argument("--test", type=Path, help="ready test table, at most one row for each user")
    folder.add_argument(
        "--header", action="store_true", help="the first line of a table names its columns"
    )
    folder.add_argument(
        "--core",
        type=int,
        default=0,
        help="fewest interactions of every user and item; 0: keep all images",
    )
    folder.add_argument(
        "--min_rating", type=float, help="leave out lower ratings (default: keep all)"
    )

    amazon = sources.add_parser(
        "amazon",
        help="review and metadata files of McAuley's group",
        description="From the files of the 2014 or 2018 edition, gzipped or not, one record a line.",
    )
    add_common_options(amazon, dataset="amazon_men", gpu=None)
    amazon.add_argument("--reviews", type=Path, required=True, help="reviews, .json or .json.gz")
    amazon.add_argument("--metadata", type=Path, required=True, help="products, .json or .json.gz")
    amazon.add_argument(
        "--category",
        help="from the top, joined by '/' (default: that of amazon_men or amazon_women)",
    )
    amazon.add_argument(
        "--min_rating", type=float, help="leave out lower ratings (default: keep all)"
    )

    tradesy = sources.add_parser(
        "tradesy",
        help="lists of He and McAuley",
        description="Bought and wanted items of every user.",
    )
    add_common_options(tradesy, dataset="tradesy", gpu=None)
    tradesy.add_argument("--feedback", type=Path, required=True, help="tradesy.json or .json.gz")
    tradesy.add_argument(
        "--item_urls",
        type=Path,
        help="addresses of the images, tradesy_item_urls.json.gz, for --download",
    )
    for raw in (amazon, tradesy):
        raw.add_argument("--core", type=int, help=PAPER_CORE)
        images = raw.add_mutually_exclusive_group(required=True)
        images.add_argument("--images", type=Path, help="folder of <item>.jpg, .png, ...")
        images.add_argument(
            "--download", action="store_true", help="fetch the images; continues when repeated"
        )
        raw.add_argument(
            "--attempts", type=int, default=5, help="requests for an image before it is given up"
        )
        raw.add_argument(
            "--connections", type=int, default=16, help="images downloaded at the same time"
        )
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    from src.datasets.sources import prepare_dataset

    prepare_dataset(options)


if __name__ == "__main__":
    sys.exit(run(main))
