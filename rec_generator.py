"""Stages 2 and 4: train recommenders on features and write every user's top-K list."""

import argparse
import itertools
import sys
from dataclasses import replace

from src.artifacts.errors import UserError
from src.cli import Parser, add_common_options, add_fidelity_option, fidelity_of, number_list
from src.cli import run as run_script

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
    parser.add_argument(
        "--form",
        choices=("shared", "full"),
        default="shared",
        help="shared: one user vector (published code); full: biases and visual user factors (He and "
        "McAuley 2016), named VBPRfull and AMRfull",
    )
    parser.add_argument("--emb1_K", type=positive, default=64, help="factors of each table")
    parser.add_argument("--batch_size", type=positive, default=512, help="interactions in one step")
    parser.add_argument(
        "--lr",
        nargs="+",
        default=["[0.01,1e-4,1e-3]"],
        help="Adagrad learning rates of users, items and projection; one number serves all",
    )
    parser.add_argument(
        "--regs",
        nargs="+",
        default=["[1e-1,1e-3,0]"],
        help="regularisation of users, items and projection; one number serves all",
    )
    parser.add_argument(
        "--epoch", type=positive, default=4000, help="epochs; AMR continues VBPR from half of them"
    )
    parser.add_argument(
        "--verbose",
        type=positive,
        default=1000,
        help="epochs between checkpoints and accuracy reports",
    )
    parser.add_argument(
        "--lmd", type=float, default=0.1, help="AMR: weight of the adversarial loss"
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        default=1.0,
        help="AMR: L2 norm of the perturbation of an item's features (scaled to at most 1)",
    )
    parser.add_argument(
        "--adv_type", choices=("grad", "rand"), default="grad", help="AMR: perturbation's direction"
    )
    parser.add_argument("--topk", type=positive, default=150, help="items in each list")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one or more")
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
    from src.recommenders.fitting import Training
    from src.recommenders.hyperparameters import Adversary, Hyperparameters
    from src.recommenders.recommending import recommend_at_test_time, recommend_retrained

    def accuracy(ranks: TestRanks) -> str:
        hits, gains = hit_ratio(ranks.ranks, TABLE_K).mean(), ndcg(ranks.ranks, TABLE_K).mean()
        return (
            f"HR@{TABLE_K} {hits:.4f}, nDCG@{TABLE_K} {gains:.4f}, "
            f"AUC {auc(ranks.ranks, ranks.negatives).mean():.4f}"
        )

    layout = Layout(options.dataset, options.root)
    fidelity = fidelity_of(options)
    hyperparameters = Hyperparameters(
        options.form,
        options.emb1_K,
        options.batch_size,
        three_numbers("--lr", options.lr),
        three_numbers("--regs", options.regs),
        fidelity.regulariser,
        fidelity.drop_last_batch,
    )
    adversary = Adversary(options.lmd, options.epsilon, options.adv_type)
    models = ["AMR"] if options.adv else sorted(set(options.model), reverse=True)  # VBPR, then AMR
    label = "full" if options.form == "full" else ""
    clean = options.load_weights_from and Experiment.parse(options.load_weights_from)
    for experiment in map(Experiment.parse, options.experiment_name):
        data = load_training_data(layout, experiment)
        for seed, model in itertools.product(options.seed, models):
            run = Run(experiment, model + label, options.epoch, options.topk, seed)
            run = replace(run, fidelity=fidelity.name)
            if clean:
                trained, run = replace(run, experiment=clean), replace(run, protocol="test_time")
                recommend_at_test_time(layout, run, trained, hyperparameters, data, options.force)
            else:
                attacker = adversary if model == "AMR" else None
                training = Training(layout, run, hyperparameters, attacker)
                recommend_retrained(
                    training, data, options.gpu, options.verbose, accuracy, options.force
                )
            ranks = read_test_ranks(layout.test_ranks(run))
            print(f"{layout.recommendations(run)}: {accuracy(ranks)}", flush=True)


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def three_numbers(option: str, texts: list[str]) -> tuple[float, float, float]:
    """Read ``[a,b,c]``, or one number for all three."""
    try:
        numbers = number_list(" ".join(texts))
    except ValueError as error:
        raise UserError(f"{option} {' '.join(texts)}: {error}") from error
    if len(numbers) not in (1, 3):
        raise UserError(f"{option} takes 3 numbers or 1, not {len(numbers)}")
    users, items, projection = numbers * (3 // len(numbers))
    return users, items, projection


if __name__ == "__main__":
    sys.exit(run_script(main))
