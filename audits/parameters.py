"""Attack the parameters of trained recommenders and measure accuracy, beside controls."""

import argparse
import functools
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.cli import Parser, add_common_options, add_out_option
from src.cli import run as run_script
from src.recommenders.attack_command import (
    add_parameter_attack_options,
    add_subject_options,
    attacks_of,
    controls_of,
    recommenders_of,
    record_of,
    threat_of,
)
from src.recommenders.command import positive

if TYPE_CHECKING:
    import numpy as np

    from src.artifacts.tables import TestRanks
    from src.recommenders.parameter_attack import ParameterAttack


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser, gpu=None)
    add_subject_options(parser)
    add_parameter_attack_options(parser)
    parser.add_argument(
        "--k",
        "--topk",
        type=positive,
        default=100,
        help="K of HR@K and nDCG@K, and length of --lists",
    )
    parser.add_argument(
        "--lists",
        action="store_true",
        help="write the top-K lists under attack to rec_results/<dataset>/attacked/ as well",
    )
    add_out_option(parser, "attack_rec")
    return parser.parse_args()


def main() -> None:
    options = parse_options()

    from src.artifacts.manifest import Manifest
    from src.artifacts.stage import Stage
    from src.measures.comparable import require_same_training
    from src.measures.parameter_attacks import (
        ParameterOutcome,
        ParameterStudy,
        effects_overview,
        read_effects,
        write_outcome,
    )
    from src.recommenders.attacking import input_files

    layout = Layout(options.dataset, options.root)
    layout.require_data()
    recommenders, attacks = recommenders_of(options), attacks_of(options)
    seeds = tuple(dict.fromkeys(options.seed))
    study = ParameterStudy(
        tuple(recommenders),
        controls_of(recommenders),
        {attack.name: asdict(attack) for attack in attacks},
        {"tables": " ".join(options.tables), "negatives": options.negatives},
        seeds,
        options.k,
    )
    runs = [
        (name, replace(run, seed=seed))
        for seed, (name, run) in itertools.product(seeds, recommenders.items())
    ]
    for seed, (name, control) in itertools.product(seeds, study.controls.items()):
        compared = (replace(recommenders[of], seed=seed) for of in (name, control))
        require_same_training(layout, *compared)
    lists_of = {
        (run, attack): layout.attacked_recommendations(attack.name, run)
        for (_, run), attack in itertools.product(runs, attacks)
        if options.lists
    }
    suffixes = [".tsv", "_effects.tsv", ".json"]
    suffixes += [".png", ".svg"] if len(set(options.eps)) > 1 else []
    results = [layout.result(f"{options.out}{suffix}") for suffix in suffixes]
    outputs = [*results, *lists_of.values()]
    described = asdict(study) | record_of(options, recommenders)
    inputs = [path for _, run in runs for path in input_files(layout, run)]
    inputs += [options.user_file] if options.user_file else []
    manifest = Manifest.of("attack_rec", described, dict.fromkeys(inputs))
    stage = Stage(manifest, outputs)
    if stage.is_up_to_date(options.force):
        print(effects_overview(read_effects(results[1])))
        return

    ranks, attacked_users = ranks_of(options, layout, runs, attacks, lists_of)
    outcome = ParameterOutcome.of(study, ranks, attacked_users)
    effects = write_outcome(outcome, described, options.dataset, results)
    stage.record()
    print(effects_overview(effects))
    print("written:", *results, sep="\n  ")


def ranks_of(
    options: argparse.Namespace,
    layout: Layout,
    runs: Sequence[tuple[str, Run]],
    attacks: Sequence["ParameterAttack"],
    lists_of: "Mapping[tuple[Run, ParameterAttack], Path]",
) -> "tuple[dict[tuple[str, int, str | None], list[TestRanks]], np.ndarray | None]":
    """Attack each of ``runs``, whose lists under an attack go to ``lists_of``.

    Returns ranks of held-out items by recommender, seed and attack (None: without one), for every draw
    of the attack, and the attacked users (None: all).
    """
    from src.artifacts.progress import progress_bar
    from src.recommenders.attacking import TrainedRecommender
    from src.recommenders.data import load_training_data
    from src.recommenders.models import Model

    load = functools.cache(functools.partial(load_training_data, layout))
    ranks = {}
    with progress_bar(total=len(runs) * len(attacks), desc="attacks", unit="attack") as bar:
        for name, run in runs:
            kind = Model.parse(run.model).kind
            data = load(run.experiment, kind.reads_images, pixels=kind.reads_pixels)
            recommender = TrainedRecommender.read(layout, run, data)
            threat = threat_of(options, recommender.data.interactions.n_users)
            ranks[name, run.seed, None] = [recommender.ranks]
            for attack in attacks:
                ranks[name, run.seed, attack.name] = recommender.ranks_under(
                    attack, threat, lists_of.get((run, attack))
                )
                bar.update()
    return ranks, threat.attacked_users


if __name__ == "__main__":
    sys.exit(run_script(main))
