"""Write one table of the effects of every attack on a data set, with controls."""

import src.interrupts

import argparse
import math
import sys
from pathlib import Path

from src.artifacts.errors import UserError
from src.cli import (
    Parser,
    add_common_options,
    add_configuration_options,
    add_trainings_option,
    layouts_of,
    require_within_lists,
    run,
)


def pair_of_classes(text: str) -> tuple[int, int]:
    origin, _, target = text.partition(":")
    return int(origin), int(target)


def parse_options() -> argparse.Namespace:
    parser = Parser(
        "Collect all evaluated attacks on a data set into results/<dataset>/summary.tsv."
    )
    add_common_options(parser, gpu=None)
    parser.add_argument(
        "--k",
        "--list_of_k",
        type=int,
        nargs="+",
        default=[20, 50],
        metavar="K",
        help="K at which lists are measured, one or more",
    )
    parser.add_argument(
        "--topk", type=int, help="use lists of this many items (default: the only ones there)"
    )
    add_configuration_options(parser)
    add_trainings_option(parser)
    parser.add_argument(
        "--margin",
        type=float,
        default=0.1,
        help="a net effect within this share of the value before the attack is equivalent to none",
    )
    parser.add_argument(
        "--norm_restored",
        action="append_const",
        const="norm_restored",
        dest="again",
        default=[],
        help="also score attacked features at their clean length (VBPR, AMR at test time), which ranks "
        "the catalogue once for each recommender",
    )
    parser.add_argument(
        "--displaced",
        action="append_const",
        const="displaced",
        dest="again",
        help="also score clean features that are moved as far as the attack moves them, in random "
        "directions: a placebo, ranked in the same way",
    )
    parser.add_argument(
        "--pairs",
        type=pair_of_classes,
        nargs="+",
        default=[],
        metavar="ORIGIN:TARGET",
        help="pairs of classes; attacks on several pairs also get rows over all of them, and only "
        "these rows are tested",
    )
    parser.add_argument(
        "--placebos",
        type=pair_of_classes,
        nargs="+",
        default=[],
        metavar="ORIGIN:TARGET",
        help="pairs of classes whose attacks are placebos and not tested, such as a reversed pair",
    )
    parser.add_argument(
        "--extractors",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also write robust_extractors.tsv: accuracy, robustness (attack_ranking_<NAME>.json) and "
        "what the attacks do at test time for each of these, at the smallest K",
    )
    _add_other_tables(parser)
    parser.add_argument(
        "--export",
        nargs="+",
        choices=("mlflow", "tensorboard", "parquet"),
        default=[],
        help="also give the summary to MLflow (at MLFLOW_TRACKING_URI), to TensorBoard "
        "(results/<dataset>/tensorboard/) or write summary.parquet; optional libraries",
    )
    return parser.parse_args()


def _add_other_tables(parser: Parser) -> None:
    """Add options that name tables of other audits, from which another one is written instead."""
    parser.add_argument(
        "--robust_accuracy",
        type=Path,
        metavar="TABLE",
        help="only write means over the seeds of a table of audits.robustness --compare, beside it as "
        "<name>_summary.tsv",
    )
    parser.add_argument(
        "--baseline",
        metavar="RECIPE",
        help="--robust_accuracy: also write differences to this recipe, seed by seed",
    )
    parser.add_argument(
        "--embedders",
        type=Path,
        nargs=2,
        metavar=("TABLE", "OUT"),
        help="only write means over the seeds of a table of audits.rankings --compare",
    )
    parser.add_argument(
        "--leaks",
        type=Path,
        nargs="+",
        metavar="TABLE",
        help="only rank conditions, those that leak most first: tables of audits.images score "
        "--attacked, one for each training of the networks, and last the table to write",
    )


def compare_recipes(options: argparse.Namespace) -> None:
    """Write the table of ``--robust_accuracy``."""
    from src.measures.robust_recipes import comparison_overview, write_comparison

    path, comparison = write_comparison(options.robust_accuracy, options.baseline)
    print(comparison_overview(comparison))
    print(f"written: {path}")


def average_embedders(source: Path, table: Path) -> None:
    """Write the table of ``--embedders``."""
    from src.measures.embedder_means import embedders_overview, write_embedder_means

    print(embedders_overview(write_embedder_means(source, table)))
    print(f"written: {table}")


def rank_leaks(sources: list[Path], table: Path) -> None:
    """Write the table of ``--leaks``."""
    if not sources:
        raise UserError(f"--leaks: {table} is to be written from no table: name one before it")

    from src.measures.leak_ranks import ranks_overview, write_leak_ranks

    print(ranks_overview(write_leak_ranks(sources, table)))
    print(f"written: {table}")


def main() -> None:
    options = parse_options()
    if options.export and (options.embedders or options.leaks or options.robust_accuracy):
        raise UserError(
            "--export is of the summary: leave out --embedders, --leaks, --robust_accuracy"
        )
    if options.embedders:
        average_embedders(*options.embedders)
        return
    if options.leaks:
        rank_leaks(options.leaks[:-1], options.leaks[-1])
        return
    if options.robust_accuracy:
        compare_recipes(options)
        return

    if both := set(options.pairs) & set(options.placebos):
        raise UserError(f"--placebos: {':'.join(map(str, both.pop()))} is one of --pairs")
    if not 0 <= options.margin < math.inf:
        raise UserError("--margin must be 0 or more")
    summarise_runs(options)


def summarise_runs(options: argparse.Namespace) -> None:
    """Write the summary of the runs, and what ``--export`` and ``--extractors`` ask for."""
    from src.measures.exports import export_summary, require_libraries
    from src.measures.extractors_table import extractors_overview, write_extractors_table
    from src.measures.runs import select_configuration, unpaired_runs
    from src.measures.summary import summary_overview, write_summary

    require_libraries(options.export)
    layouts = layouts_of(options)
    runs = []
    for layout in layouts:
        runs.append(
            select_configuration(
                layout, options.epochs, options.topk, options.fidelity, options.options
            )
        )
        for rec_run in unpaired_runs(runs[-1]):
            print(f"left out {rec_run.name}: there is no {rec_run.clean.name}")
    ks = tuple(sorted(set(options.k)))
    shortest = min(rec_run.top_k for of_layout in runs for rec_run in of_layout)
    require_within_lists(ks, shortest)
    summary = write_summary(
        layouts,
        runs,
        ks,
        options.margin,
        again=options.again,
        pairs=options.pairs,
        placebos=options.placebos,
        force=options.force,
    )
    print(summary_overview(summary))
    export_summary(summary, layouts[0], options.export)
    if options.extractors:
        table = write_extractors_table(
            layouts, summary, options.extractors, ks[0], force=options.force
        )
        print(extractors_overview(table))


if __name__ == "__main__":
    sys.exit(run(main))
