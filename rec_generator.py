"""Stages 2 and 4: train recommenders and write every user's top-K list."""

import src.interrupts

import argparse
import functools
import importlib
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import require_features
from src.artifacts.layout import Layout
from src.artifacts.tables import TestRanks, read_test_ranks
from src.cli import Parser, add_common_options, add_fidelity_option
from src.cli import run as run_script
from src.extractors.distribution import process_group
from src.metrics.ranking import auc, hit_ratio, ndcg, recall
from src.recommenders.command import (
    add_recommender_options,
    add_seeds_option,
    grid_of,
    hyperparameters_of,
    positive,
    require_read,
    run_of,
)
from src.recommenders.cornac_models import row_name
from src.recommenders.data import TrainingData, load_training_data
from src.recommenders.factor_models import FactorModel
from src.recommenders.registry import RECOMMENDERS

if TYPE_CHECKING:
    from src.recommenders.fitting import Fitting, Progress, Training
    from src.recommenders.recommending import Ranking

TABLE_K = 20
"""Cut-off of the accuracy that is printed; evaluate_rec.py measures any list of them."""


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser, gpu=-1)
    parser.add_argument(
        "--experiment_name",
        nargs="+",
        default=["original"],
        help="experiments whose features are used, one or more: original, <model_dir>_original or "
        "attacked ones",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        type=row_name,
        choices=tuple(RECOMMENDERS),
        default=["VBPR"],
        help="recommenders, one or more; BPRMF and AMF need no features, Pop and Random are baselines, "
        "cornac:VBPR is that of the library Cornac",
    )
    parser.add_argument("--adv", type=int, choices=(0, 1), default=0, help="1: AMR")
    add_recommender_options(parser)
    parser.add_argument("--topk", type=positive, default=150, help="items in each list")
    add_seeds_option(parser)
    parser.add_argument(
        "--keep",
        choices=("last", "best"),
        default="last",
        help="recommend with the last weights, or with the checkpoint whose nDCG on "
        "validationset.tsv is best",
    )
    parser.add_argument(
        "--load_weights_from",
        metavar="EXPERIMENT",
        help="test-time protocol: score with the recommender trained on this clean experiment",
    )
    parser.add_argument(
        "--deployed",
        metavar="EXPERIMENT",
        help="rank features of another extractor, clean or attacked, by the recommender trained on this "
        "clean experiment, which stays as it is (after train_extractor.py --recipe fare)",
    )
    parser.add_argument(
        "--lists",
        choices=("tsv", "npz", "none"),
        default="tsv",
        help="form of the lists: text as published, arrays (a third of the size), or only the ranks of "
        "held-out items; without lists later stages have nothing to read",
    )
    add_fidelity_option(parser)
    options = parser.parse_args()
    require_read(options, ["AMR"] if options.adv else options.model)
    return options


def chosen_models(options: argparse.Namespace) -> list[str]:
    """Return plain models before those that continue them; ``UserError`` for one without test time."""
    chosen = {"AMR"} if options.adv else set(options.model)
    names = [name for name in RECOMMENDERS if name in chosen]
    if options.deployed:
        _check_deployed(options, names)
    if not options.load_weights_from:
        return names
    for name in names:
        if not RECOMMENDERS[name].reads_images:
            raise UserError(
                f"--load_weights_from with --model {name}: a recommender that reads no images has no "
                "test time"
            )
    if options.keep == "best":
        raise UserError("--keep best with --load_weights_from: test time is with the last weights")
    return names


def _check_deployed(options: argparse.Namespace, names: list[str]) -> None:
    """Raise ``UserError`` for recommenders that cannot be deployed, and for contradicting options."""
    if options.load_weights_from or options.keep == "best":
        raise UserError("--deployed goes without --load_weights_from and --keep best")
    for name in names:
        kind = RECOMMENDERS[name]
        if kind.reads_pixels:
            raise UserError(f"--deployed with --model {name}: it reads pixels, not an extractor")
        if not (kind.reads_images and issubclass(kind, FactorModel)):
            raise UserError(f"--deployed with --model {name}: its weights read no images")


def main() -> None:
    options = parse_options()
    names = chosen_models(options)
    layout = Layout(options.dataset, options.root)
    layout.require_data()
    if options.search is not None:
        require_searchable(options, names, layout)
    experiments = [Experiment.parse(name) for name in options.experiment_name]
    if any(RECOMMENDERS[name].reads_images for name in names):
        for experiment in experiments:
            require_features(layout.features(experiment))
    with process_group(options.gpu) as gpu:
        recommend(options, names, layout, experiments, gpu)


def require_searchable(options: argparse.Namespace, names: list[str], layout: Layout) -> None:
    """Raise ``UserError`` for a grid that cannot be read, and where no rows judge it."""
    from src.recommenders.fitting import no_validation

    for name in names:
        if issubclass(kind := RECOMMENDERS[name], FactorModel):
            list(grid_of(options, kind).trials(hyperparameters_of(options, kind)))
    if not (options.load_weights_from or options.deployed or layout.validation_set.is_file()):
        raise no_validation(layout, "hyperparameters")


def recommend(
    options: argparse.Namespace,
    names: list[str],
    layout: Layout,
    experiments: list[Experiment],
    gpu: int,
) -> None:
    """Train every recommender on every experiment with every seed, or read it, and rank."""
    if {"tensorflow", "torch"} <= {RECOMMENDERS[name].framework for name in names}:
        # Each brings an LLVM, and Python aborts if that of torch is not the first one.
        importlib.import_module("torch._dynamo")
    call = Call(options, layout, gpu)
    for experiment in experiments:
        load = functools.cache(functools.partial(call.load, experiment))
        for seed, name in itertools.product(options.seed, names):
            kind = RECOMMENDERS[name]
            data = load(kind.reads_images, pixels=kind.reads_pixels)
            run = call.recommend(name, experiment, seed, data)
            written = layout.recommendations(run) if call.ranking.lists else layout.test_ranks(run)
            print(f"{written}: {accuracy(read_test_ranks(layout.test_ranks(run)))}", flush=True)


@dataclass(frozen=True)
class Call:
    """Options of one call of the script, by which each of its recommenders is trained and ranks."""

    options: argparse.Namespace
    layout: Layout
    gpu: int

    @property
    def clean(self) -> Experiment | None:
        """Experiment whose recommender ranks, at test time or deployed; None to train on each."""
        learnt = self.options.load_weights_from or self.options.deployed
        return learnt and Experiment.parse(learnt)

    @property
    def ranking(self) -> "Ranking":
        from src.recommenders.recommending import Ranking

        return Ranking(self.gpu, None if self.options.lists == "none" else self.options.lists)

    @property
    def progress(self) -> "Progress":
        from src.recommenders.fitting import Progress

        return Progress(self.options.verbose, accuracy, quality, measures)

    @property
    def load(self) -> Callable[..., TrainingData]:
        return functools.partial(
            load_training_data, self.layout, unit=self.options.features == "unit"
        )

    @functools.cached_property
    def load_clean(self) -> Callable[[], TrainingData]:
        """Function that reads the data of ``clean`` when they are first asked for."""
        return functools.cache(functools.partial(self.load, self.clean))

    def training(self, name: str, run: Run) -> "Training | Fitting":
        """Return the training of the recommender that ranks ``run``, with the values of ``--search``."""
        from src.recommenders.fitting import training_of
        from src.recommenders.search import as_chosen, tuned

        kind, clean = RECOMMENDERS[name], self.clean
        learns_from = replace(run, experiment=clean or run.experiment)
        training = training_of(self.options, name, self.layout, learns_from)
        if self.options.search is None or not issubclass(kind, FactorModel):
            return training
        if clean:
            return as_chosen(training, training.weights(run.epochs))
        of_clean = functools.partial(
            self.load, run.experiment.clean, kind.reads_images, pixels=kind.reads_pixels
        )
        grid, force = grid_of(self.options, kind), self.options.force
        return tuned(training, grid, of_clean, self.gpu, self.progress, force)

    def recommend(self, name: str, experiment: Experiment, seed: int, data: TrainingData) -> Run:
        """Write lists and ranks of the recommender ``name`` on ``experiment``; return their run."""
        from src.recommenders.recommending import (
            recommend_at_test_time,
            recommend_deployed,
            recommend_retrained,
        )

        options, ranking, force = self.options, self.ranking, self.options.force
        run = run_of(options, name, experiment, options.topk, seed)
        training = self.training(name, run)
        if options.deployed:
            run = recommend_deployed(training, experiment, data, ranking, force)
            if not experiment.attack:
                before = accuracy(training.ranks(self.load_clean()))
                print(f"{self.layout.test_ranks(training.run)}, before: {before}")
            return run
        if options.load_weights_from:
            run = replace(run, protocol="test_time")
            recommend_at_test_time(run, training, data, self.load_clean, ranking, force)
            return run
        return recommend_retrained(training, data, ranking, self.progress, force, options.keep)


def quality(ranks: TestRanks) -> float:
    """Return nDCG at ``TABLE_K``, by which checkpoints and hyperparameters are chosen."""
    return ndcg(ranks.users, ranks.ranks, TABLE_K).mean()


def measures(ranks: TestRanks) -> dict[str, float]:
    """Return means over users by their names in tables of a training."""
    return {
        "ndcg": quality(ranks),
        "hr": hit_ratio(ranks.users, ranks.ranks, TABLE_K).mean(),
        "auc": auc(ranks.users, ranks.ranks, ranks.negatives).mean(),
    }


def accuracy(ranks: TestRanks) -> str:
    """Return the measures in words, with the recall if a user has several held-out items."""
    found, users = measures(ranks), ranks.users
    share = ""
    if (users[1:] == users[:-1]).any():
        share = f"Recall@{TABLE_K} {recall(users, ranks.ranks, TABLE_K).mean():.4f}, "
    return (
        f"HR@{TABLE_K} {found['hr']:.4f}, {share}nDCG@{TABLE_K} {found['ndcg']:.4f}, "
        f"AUC {found['auc']:.4f}"
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
