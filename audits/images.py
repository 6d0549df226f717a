"""Measure how far attacked or reconstructed images are from their originals, by pixels and networks."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.program import program
from src.attacks.command import named_experiment
from src.attacks.settings import attack_settings
from src.cli import Parser, fidelity_of, run
from src.defences.options import model_dir_of
from src.leaks.semsim_command import (
    add_train_options,
    add_triplets_options,
    run_train,
    run_triplets,
)
from src.measures.agreement import add_agreement_options, run_agreement
from src.measures.image_options import add_images_options, check_images_options
from src.recommenders.read_out import score_weights_of


class Subcommand(NamedTuple):
    purpose: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


OTHERS = {
    "agreement": Subcommand(
        "How well metrics agree with people.", add_agreement_options, run_agreement
    ),
    "train": Subcommand("Train SemSim on triplets.", add_train_options, run_train),
    "triplets": Subcommand("Make triplets that nobody judged.", add_triplets_options, run_triplets),
}
"""Every command but ``score``."""


def score(arguments: Sequence[str]) -> None:
    others = ", ".join(OTHERS)
    parser = Parser(
        __doc__ or "", epilog=f"other commands, each with a --help of its own: {others}"
    )
    add_images_options(parser)
    options = parser.parse_args(arguments)
    check_images_options(options)
    layout = Layout(options.dataset, options.root)
    named = [Experiment.parse(name) for name in options.experiment_name]
    if not options.attacked:
        layout.require_data()
        if not (named or options.all):
            fidelity = fidelity_of(options)
            settings = attack_settings(options, fidelity)
            scored_by = score_weights_of(options, layout, Experiment(model_dir_of(options)))
            named = [named_experiment(options, settings, fidelity, scored_by)]

    from src.measures.image_conditions import finished_attacks
    from src.measures.image_quality import TABLE, Measures, score_experiments, score_folders

    measures = Measures(options)
    if options.attacked:
        table = options.out or options.attacked[0].with_name(TABLE)
        score_folders(measures, options.attacked, options.originals, table)
    else:
        score_experiments(measures, layout, named or finished_attacks(layout))


def main() -> None:
    name, *arguments = sys.argv[1:] or ["score"]
    if name in OTHERS:
        command = OTHERS[name]
        parser = Parser(command.purpose, prog=" ".join([*program(), name]))
        command.add_options(parser)
        command.run(parser.parse_args(arguments))
    else:
        score(arguments if name == "score" else sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run(main))
