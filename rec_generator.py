"""Stages 2 and 4: train recommenders on features and write every user's top-K list."""

import argparse
import itertools
import sys
from dataclasses import replace

from src.cli import Parser, add_common_options, add_fidelity_option
from src.cli import run as run_script
from src.recommenders.command import (
    add_recommender_options,
    adversary_of,
    hyperparameters_of,
    not_negative,
    positive,
)

TABLE_K = 20
"""Cut-off of the accuracy that is printed; evaluate_rec.py measures any list of them."""


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser, dataset="tradesy", gpu=-1)
    parser.add_argument(
        "--experiment_name",
        nargs="+",
        default=["original"],
        help="whose features: original, <model_dir>_original or attacked; one or more",
    )
    parser.add_argument(
        "--model", nargs="+", choices=("VBPR", "AMR"), default=["VBPR"], help="one or both"
    )
    parser.add_argument("--adv", type=int, choices=(0, 1), default=0, help="1: AMR")
    add_recommender_options(parser)
    parser.add_argument("--topk", type=positive, default=150, help="items in each list")
    parser.add_argument("--seed", type=not_negative, nargs="+", default=[0], help="one or more")
    parser.add_argument(
        "--load_weights_from",
        metavar="EXPERIMENT",
        help="test-time protocol: score with the recommender trained on this clean experiment",
    )
    add_fidelity_option(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    from src.artifacts.experiments import Experiment, Run
    from src.artifacts.layout import Layout
    from src.artifacts.tables import TestRanks, read_test_ranks
    from src.metrics.ranking import auc, hit_ratio, ndcg
    from src.recommenders.data import load_training_data
    from src.recommenders.fitting import Progress, Training
    from src.recommenders.recommending import recommend_at_test_time, recommend_retrained

    def accuracy(ranks: TestRanks) -> str:
        hits, gains = hit_ratio(ranks.ranks, TABLE_K).mean(), ndcg(ranks.ranks, TABLE_K).mean()
        return (
            f"HR@{TABLE_K} {hits:.4f}, nDCG@{TABLE_K} {gains:.4f}, "
            f"AUC {auc(ranks.ranks, ranks.negatives).mean():.4f}"
        )

    layout = Layout(options.dataset, options.root)
    hyperparameters, adversary = hyperparameters_of(options), adversary_of(options)
    models = ["AMR"] if options.adv else sorted(set(options.model), reverse=True)  # VBPR, then AMR
    label = "full" if options.form == "full" else ""
    progress = Progress(options.verbose, accuracy)
    clean = options.load_weights_from and Experiment.parse(options.load_weights_from)
    for experiment in map(Experiment.parse, options.experiment_name):
        data = load_training_data(layout, experiment)
        for seed, model in itertools.product(options.seed, models):
            run = Run(experiment, model + label, options.epoch, options.topk, seed)
            run = replace(run, fidelity=options.fidelity)
            if clean:
                trained, run = replace(run, experiment=clean), replace(run, protocol="test_time")
                recommend_at_test_time(layout, run, trained, hyperparameters, data, options.force)
            else:
                attacker = adversary if model == "AMR" else None
                training = Training(layout, run, hyperparameters, attacker)
                recommend_retrained(training, data, options.gpu, progress, options.force)
            ranks = read_test_ranks(layout.test_ranks(run))
            print(f"{layout.recommendations(run)}: {accuracy(ranks)}", flush=True)


if __name__ == "__main__":
    sys.exit(run_script(main))
