"""Measure how recommenders read images: directly, through a graph of items, or not at all."""

import argparse
import sys

from src.artifacts.experiments import CLEAN
from src.cli import Parser, add_common_options, add_out_option, run
from src.recommenders.command import positive
from src.recommenders.registry import RECOMMENDERS


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser, gpu=None)
    parser.add_argument(
        "--experiment_name", default=CLEAN, help="clean experiment on which they are trained"
    )
    parser.add_argument(
        "--model",
        nargs="+",
        choices=tuple(RECOMMENDERS),
        default=list(RECOMMENDERS),
        help="recommenders (default: all that are trained, and the baselines)",
    )
    parser.add_argument("--k", type=positive, default=20, help="length of the lists")
    add_out_option(parser, "reliance")
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    from src.artifacts.experiments import Experiment
    from src.artifacts.layout import Layout
    from src.artifacts.manifest import Manifest
    from src.artifacts.stage import Stage
    from src.measures.reliance_table import (
        inputs_of,
        markdown,
        read_reliance,
        reliance_table,
        trained_recommenders,
    )

    layout = Layout(options.dataset, options.root)
    layout.require_data()
    experiment = Experiment.parse(options.experiment_name)
    trained = trained_recommenders(layout, experiment, options.model)
    described = {"runs": [run.name for of in trained for run in of.runs()], "k": options.k}
    path = layout.result(f"{options.out}.tsv")
    stage = Stage(Manifest.of("reliance", described, inputs_of(layout, trained)), [path])
    if not stage.is_up_to_date(options.force):
        stage.publish_tables(reliance_table(layout, trained, options.k))
        stage.say_written()
    print(markdown(read_reliance(path), options.k))


if __name__ == "__main__":
    sys.exit(run(main))
