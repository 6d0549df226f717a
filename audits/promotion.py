"""Measure how far attacks push items in the lists: exposure, places and CHR, beside noise."""

import argparse
import sys

from src.artifacts.experiments import PUBLISHED
from src.cli import Parser, add_common_options, add_out_option, run
from src.recommenders.command import positive
from src.recommenders.read_out import add_target_item_option


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser, gpu=None)
    parser.add_argument(
        "--trainings",
        nargs="*",
        default=[],
        metavar="DATASET",
        help="further data sets that differ in the training of the extractors alone",
    )
    parser.add_argument(
        "--model", nargs="+", default=["VBPR"], help="recommenders, trained on the clean features"
    )
    parser.add_argument(
        "--epochs", "--epoch", type=positive, default=4000, help="epochs of --model"
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="seeds of --model")
    parser.add_argument(
        "--options",
        nargs="+",
        metavar="TEXT",
        help="recommenders whose names show these options, such as lr0.05 and lr0.05_eps0.1, or "
        f"{PUBLISHED} (default: the only ones there)",
    )
    parser.add_argument("--k", type=positive, default=20, help="length of the lists")
    add_target_item_option(parser)
    add_out_option(parser, "promotion")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table as Markdown, for a document"
    )
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    from src.artifacts.layout import Layout
    from src.artifacts.stage import Stage
    from src.measures.promotion import promotion_table, read_promotion
    from src.measures.promotion_text import markdown, promotion_overview, sentence
    from src.measures.table_files import manifest_of
    from src.measures.trainings import inputs_of, subjects_of

    layouts = [Layout(name, options.root) for name in (options.dataset, *options.trainings)]
    for layout in layouts:
        layout.require_data()
    seeds = tuple(dict.fromkeys(options.seed))
    models = tuple(dict.fromkeys(options.model))
    trainings = subjects_of(
        layouts, models, options.epochs, seeds, options.k, options.options, options.target_item
    )
    path = layouts[0].result(f"{options.out}.tsv")
    described = {
        "trainings": options.trainings,
        "models": models,
        "epoch": options.epochs,
        "options": options.options,
        "seeds": seeds,
        "k": options.k,
        **({} if options.target_item is None else {"target_item": options.target_item}),
    }
    manifest = manifest_of("promotion", described, inputs_of(trainings))
    stage = Stage(manifest, [path])
    if not stage.is_up_to_date(options.force):
        stage.publish_tables(promotion_table(trainings))
        stage.say_written()
    table = read_promotion(path)
    if options.markdown:
        print(markdown(table))
        return
    print(promotion_overview(table))
    print(sentence(table))


if __name__ == "__main__":
    sys.exit(run(main))
