"""Stage 2b: how often each class is recommended, and how accurate the recommendations are."""

import argparse
import sys

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.cli import Parser, add_common_options, run

DEFAULT_KS = (1, *range(10, 101, 10))
DEFAULT_ORIGIN = 834
SHOWN_K = 20


def parse_options() -> argparse.Namespace:
    parser = Parser("Evaluate top-K lists: CHR@K, nCDCG@K, HR@K, nDCG@K and AUC, with intervals.")
    add_common_options(parser, dataset="tradesy", gpu=None)
    parser.add_argument(
        "--metric",
        choices=("ncdcg", "chr", "accuracy", "all"),
        default="ncdcg",
        help="chr and ncdcg: of every class; accuracy: HR, nDCG and AUC of the held-out items",
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
        "--origin",
        type=int,
        help="class shown first on the terminal (default: the attacked class, "
        f"for clean runs {DEFAULT_ORIGIN} where an item has it)",
    )
    parser.add_argument(
        "--analyzed_k", type=int, help="evaluate the first K items of each list, for this K"
    )
    parser.add_argument(
        "--list_of_k",
        type=int,
        nargs="+",
        metavar="K",
        help="evaluate all of these K in one pass (default: 1 10 20 ... 100, up to --topk)",
    )
    parser.add_argument(
        "--min_items",
        type=int,
        default=10,
        help="items a class needs to be suggested as origin or target",
    )
    return parser.parse_args()


def chosen_ks(options: argparse.Namespace) -> tuple[int, ...]:
    """The K to evaluate, ascending; ``UserError`` for one that the lists do not reach."""
    ks = set(options.list_of_k or [])
    if options.analyzed_k is not None:
        ks.add(options.analyzed_k)
    ks = ks or {k for k in DEFAULT_KS if k <= options.topk}
    if wrong := [k for k in sorted(ks) if not 1 <= k <= options.topk]:
        raise UserError(f"K = {wrong[0]} is not within the lists: it must be 1 to {options.topk}")
    return tuple(sorted(ks))


def main() -> None:
    options = parse_options()
    ks = chosen_ks(options)

    from src.reporting.evaluation import METRICS, Evaluation, evaluate
    from src.reporting.pairs import attack_command, suggest_pairs
    from src.reporting.runs import select_runs
    from src.reporting.terminal import accuracy_overview, category_overview

    layout = Layout(options.dataset, options.root)
    layout.require_data()
    metrics = METRICS if options.metric == "all" else (options.metric,)
    k = SHOWN_K if SHOWN_K in ks else ks[-1]
    for rec_run in select_runs(layout, options.experiment_name, options.model, options.topk):
        evaluation = Evaluation(layout, rec_run, ks)
        if options.origin is not None:
            evaluation.categories.members(options.origin)  # an error where no item has the class
            origin = options.origin
        else:
            attacked = rec_run.experiment.origin
            origin = DEFAULT_ORIGIN if attacked is None else attacked
        for metric in metrics:
            table = evaluate(evaluation, metric, force=options.force)
            print(f"\n{rec_run.name}: {metric}, K = {k}")
            if metric == "accuracy":
                print(accuracy_overview(table, k))
                continue
            print(category_overview(table, k, origin))
            if rec_run.experiment.attack is None and metric == metrics[0]:
                print("\nleast recommended classes with the most recommended, to attack next:")
                for pair in suggest_pairs(table, k, options.min_items):
                    print("  " + attack_command(options.dataset, rec_run.experiment, *pair))
        if rec_run.experiment.attack is not None and rec_run.protocol == "retrained":
            print(
                "\nretraining alone changes these values too: summarize.py has seeds and controls"
            )
        print()


if __name__ == "__main__":
    sys.exit(run(main))
