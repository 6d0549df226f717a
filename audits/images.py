"""Measure how far attacked or reconstructed images are from their originals, by pixels and networks."""

import importlib
import sys
from collections.abc import Sequence

from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.program import program
from src.attacks.command import named_experiment
from src.attacks.settings import attack_settings
from src.cli import Parser, fidelity_of, run
from src.defences.options import model_dir_of
from src.measures.image_options import add_score_options, check_score_options
from src.recommenders.read_out import score_weights_of

OTHERS = {
    "agreement": ("src.measures.agreement", "How well metrics agree with people."),
    "train": ("src.leaks.semsim_command", "Train SemSim on triplets."),
    "triplets": ("src.leaks.semsim_command", "Make triplets that nobody judged."),
}
"""The module and the purpose of every command but ``score``."""


def score(arguments: Sequence[str]) -> None:
    others = ", ".join(OTHERS)
    parser = Parser(
        __doc__ or "", epilog=f"other commands, each with a --help of its own: {others}"
    )
    add_score_options(parser)
    options = parser.parse_args(arguments)
    check_score_options(options)
    layout = Layout(options.dataset, options.root)
    named = [Experiment.parse(name) for name in options.experiment_name]
    if not options.attacked:
        layout.require_data()
        if not (named or options.all):
            fidelity = fidelity_of(options)
            settings = attack_settings(options, fidelity)
            scored_by = score_weights_of(options, layout, Experiment(model_dir_of(options)))
            named = [named_experiment(options, settings, fidelity, scored_by)]

    from src.measures.image_conditions import attacked_images
    from src.measures.image_quality import TABLE, Measures, score_experiments, score_folders

    measures = Measures(options)
    if options.attacked:
        table = options.out or options.attacked[0].with_name(TABLE)
        score_folders(measures, options.attacked, options.originals, table)
    else:
        score_experiments(measures, layout, named or attacked_images(layout))


def other(command: str, arguments: Sequence[str]) -> None:
    module, purpose = OTHERS[command]
    commands = importlib.import_module(module)
    parser = Parser(purpose, prog=" ".join([*program(), command]))
    getattr(commands, f"add_{command}_options")(parser)
    getattr(commands, f"run_{command}")(parser.parse_args(arguments))


def main() -> None:
    command, *arguments = sys.argv[1:] or ["score"]
    if command in OTHERS:
        other(command, arguments)
    else:
        score(arguments if command == "score" else sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run(main))
