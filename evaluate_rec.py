"""Stage 2b: recommendations of each class, accuracy of the lists, and their popularity bias."""

import src.interrupts

import argparse
import sys
from typing import TYPE_CHECKING

from src.artifacts.layout import Layout
from src.cli import Parser, add_common_options, require_within_lists, run

if TYPE_CHECKING:
    import pandas as pd

    from src.measures.evaluation import Evaluation

DEFAULT_KS = (1, *range(10, 101, 10))
DEFAULT_ORIGIN = 834
SHOWN_K = 20


def parse_options() -> argparse.Namespace:
    parser = Parser(
        "Evaluate top-K lists: categories, accuracy and popularity bias, with intervals."
    )
    add_common_options(parser, gpu=None)
    parser.add_argument(
        "--metric",
        choices=("ncdcg", "chr", "accuracy", "bias", "all"),
        default="ncdcg",
        help="chr and ncdcg: of every class; accuracy: HR, nDCG and AUC of the held-out items; bias: "
        "mean popularity (ARP) and long-tail share (APLT) of the lists, coverage and Gini index (0: "
        "all items are recommended equally often) of the catalogue",
    )
    parser.add_argument(
        "--experiment_name",
        nargs="*",
        default=[],
        metavar="NAME",
        help="full experiment names; every run of each is evaluated (none: all experiments)",
    )
    parser.add_argument("--model", help="evaluate this recommender only, e.g. VBPR (default: all)")
    parser.add_argument("--topk", type=int, default=150, help="items in the stored lists")
    parser.add_argument(
        "--origin_class",
        "--origin",
        type=int,
        help="class shown first on the terminal (default: the attacked class, "
        f"for clean runs {DEFAULT_ORIGIN} if an item has it)",
    )
    parser.add_argument(
        "--k",
        "--list_of_k",
        "--analyzed_k",
        type=int,
        nargs="+",
        action="extend",
        metavar="K",
        help="evaluate the first K items of each list, for one or more K in one pass (default: 1 10 20 "
        "... 100, up to --topk)",
    )
    parser.add_argument(
        "--min_items",
        type=int,
        default=10,
        help="fewest items of a class that is suggested as origin or target",
    )
    return parser.parse_args()


def chosen_ks(options: argparse.Namespace) -> tuple[int, ...]:
    """Return the K to evaluate, ascending; ``UserError`` for a K beyond the lists."""
    ks = set(options.k or [k for k in DEFAULT_KS if k <= options.topk])
    require_within_lists(sorted(ks), options.topk)
    return tuple(sorted(ks))


def main() -> None:
    options = parse_options()
    ks = chosen_ks(options)

    from src.measures.evaluation import Evaluation
    from src.measures.pairs import reversed_pair
    from src.measures.runs import missing_classes, select_runs

    layout = Layout(options.dataset, options.root)
    layout.require_data()
    runs = select_runs(layout, options.experiment_name, options.model, options.topk)
    if options.metric == "all":
        for path in missing_classes(layout, runs):
            print(f"no CHR and nCDCG: they need {path} (stage 1, classify_extract.py)")
    suggested: list[str] = []
    for rec_run in runs:
        suggested += evaluate_run(Evaluation(layout, rec_run, ks), options)
        if rec_run.experiment.attack is not None and rec_run.protocol == "retrained":
            print(
                "\nretraining alone changes these values too: summarize.py has seeds and controls"
            )
        print()
    if suggested:
        print("least recommended classes with the most recommended, to attack next:")
        print(*(f"  {command}" for command in dict.fromkeys(suggested)), sep="\n")
    attacked = (rec_run.experiment for rec_run in runs if rec_run.experiment.attack)
    warnings = dict.fromkeys(reversed_pair(layout, experiment) for experiment in attacked)
    for warning in filter(None, warnings):
        print(warning, file=sys.stderr)


def evaluate_run(evaluation: "Evaluation", options: argparse.Namespace) -> list[str]:
    """Write and show the metrics of one run; return commands of attacks, which clean runs suggest."""
    from src.measures.evaluation import CATEGORY_METRICS, evaluate
    from src.measures.terminal import category_overview, measures_overview

    rec_run, ks = evaluation.run, evaluation.ks
    k = SHOWN_K if SHOWN_K in ks else ks[-1]
    metrics = evaluation.possible_metrics if options.metric == "all" else (options.metric,)
    if options.origin_class is not None and evaluation.has_classes:
        evaluation.categories.members(options.origin_class)  # raises if no item has the class
    origins = (options.origin_class, rec_run.experiment.origin, DEFAULT_ORIGIN)
    origin = next(number for number in origins if number is not None)
    suggested: list[str] = []
    for metric in metrics:
        table = evaluate(evaluation, metric, force=options.force)
        print(f"\n{rec_run.name}: {metric}, K = {k}")
        if metric not in CATEGORY_METRICS:
            print(measures_overview(table, k))
            continue
        print(category_overview(table, k, origin))
        if rec_run.experiment.attack is None and metric == metrics[0]:
            suggested += suggested_attacks(evaluation, table, k, options.min_items)
    if rec_run.experiment.attack is not None and evaluation.baseline is None:
        lists = evaluation.layout.recommendations(rec_run.clean)
        print(
            f"note: no changes, since the clean run's lists are not there: {lists}", file=sys.stderr
        )
    return suggested


def suggested_attacks(
    evaluation: "Evaluation", table: "pd.DataFrame", k: int, min_items: int
) -> list[str]:
    """Return commands that attack a class that is seldom recommended, to look like a frequent one."""
    from src.measures.pairs import attack_command, few_items, suggest_pairs

    pairs = suggest_pairs(table, k, min_items)
    if not pairs:
        print(few_items(table, min_items))
    names = dict(zip(table["classId"], table["className"], strict=True))
    return [
        f"{attack_command(evaluation.layout, evaluation.run.experiment, *pair)} # {names[pair[0]]}, "
        f"to look like {names[pair[1]]}"
        for pair in pairs
    ]


if __name__ == "__main__":
    sys.exit(run(main))
