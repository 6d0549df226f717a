"""Write one HTML file with the results of all stages on a data set."""

import src.interrupts

import argparse
import sys
from pathlib import Path

from src.cli import (
    Parser,
    add_common_options,
    add_configuration_options,
    add_trainings_option,
    layouts_of,
    require_counts,
    run,
)


def parse_options() -> argparse.Namespace:
    parser = Parser(
        "Write one self-contained HTML file about a data set, its figures as PNG and PDF to "
        "results/<dataset>/figures/ and its tables as TSV and LaTeX to results/<dataset>/tables/."
    )
    add_common_options(parser, gpu=None)
    parser.add_argument(
        "--out", type=Path, help="the page (default: results/<dataset>/report.html)"
    )
    parser.add_argument("--k", "--topk", type=int, default=20, metavar="K", help="K of the tables")
    parser.add_argument(
        "--items",
        type=int,
        nargs="+",
        default=[],
        metavar="ITEM",
        help="attacked items to show (default: four, from the largest gain to the smallest)",
    )
    parser.add_argument(
        "--users",
        type=int,
        nargs="+",
        default=[],
        metavar="USER",
        help="users whose lists are shown (default: three that list the item)",
    )
    add_configuration_options(parser)
    add_trainings_option(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    require_counts(options, "k")
    layout, *trainings = layouts_of(options)

    from src.report.page import FIGURES, TABLES, write_report
    from src.report.study import Study
    from src.report.verdict import overview

    out = options.out or layout.results / "report.html"
    study = Study.find(
        layout, options.k, options.epochs, options.fidelity, options.options, trainings
    )
    if write_report(study, out, options.items, options.users, force=options.force):
        if said := overview(study):
            print(f"{said}\n")
        print(f"figures: {layout.results / FIGURES}\ntables: {layout.results / TABLES}")
        print(f"report: {out}")
    else:
        print(f"{out} is up to date (use --force to redo)")


if __name__ == "__main__":
    sys.exit(run(main))
