"""Print the commands that a row of a results table came from, and the files that have changed since."""

import argparse
import sys
from pathlib import Path

from src.artifacts.errors import UserError
from src.cli import Parser, run


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "table",
        type=Path,
        help="results/<dataset>/summary.tsv, runs.tsv or promotion.tsv",
    )
    parser.add_argument("row", type=int, nargs="?", help="number of the row; the first is 1")
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="COLUMN=VALUE",
        help="instead of a number: conditions that one row alone meets",
    )
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    if (options.row is None) == (not options.where):
        raise UserError("name one row: by its number or by --where")

    from src.measures.trace import trace

    print(trace(options.table, options.row, options.where))


if __name__ == "__main__":
    sys.exit(run(main))
