"""Make data/<dataset>/ from a generated catalogue, tables, an image folder, Amazon or Tradesy files."""

import src.interrupts

import argparse
import sys
from pathlib import Path

from src.cli import Parser, add_common_options, add_seed_option, run
from src.datasets.options import (
    TABLE_COLUMNS,
    add_feature_options,
    add_images_option,
    add_rating_option,
    add_raw_options,
    add_table_options,
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
    add_seed_option(demo)

    folder = sources.add_parser(
        "folder",
        help="an image folder and a table of interactions, or ready training and test tables",
        description=f"{TABLE_COLUMNS} The images are named by item.",
    )
    add_common_options(folder, dataset="catalogue", gpu=None)
    add_images_option(folder, required=True)
    folder.add_argument(
        "--categories",
        type=Path,
        help="table of item and category, one row for every item; --head class_means takes these classes",
    )
    add_table_options(folder, without_core="keep all images")

    interactions = sources.add_parser(
        "interactions",
        help="tables alone, or with features that come ready (MMRec, RecBole)",
        description=f"{TABLE_COLUMNS} The items are those of the tables, or the rows of --features.",
    )
    add_common_options(interactions, dataset="interactions", gpu=None)
    add_table_options(interactions, without_core="keep all")
    add_feature_options(interactions)

    amazon = sources.add_parser(
        "amazon",
        help="review and metadata files of McAuley's group",
        description="Read files of the 2014, 2018 or 2023 edition: one record a line, gzipped or not.",
    )
    add_common_options(amazon, dataset="amazon_men", gpu=None)
    amazon.add_argument("--reviews", type=Path, required=True, help="reviews, .json or .json.gz")
    amazon.add_argument("--metadata", type=Path, required=True, help="products, .json or .json.gz")
    amazon.add_argument(
        "--category",
        help="names of the category from the root, joined by '/' (default: that of amazon_men "
        "or amazon_women)",
    )
    add_rating_option(amazon)
    add_raw_options(amazon)

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
    add_raw_options(tradesy)
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    from src.datasets.sources import prepare_dataset

    prepare_dataset(options)


if __name__ == "__main__":
    sys.exit(run(main))
