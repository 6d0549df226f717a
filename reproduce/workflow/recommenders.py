"""Recommenders without images that a study trains, one call of ``rec_generator.py`` after the other."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reproduce.workflow.entries import Entries
from reproduce.workflow.options import OptionsParser
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.cli import add_fidelity_option
from src.recommenders.command import add_recommender_options, run_of


@dataclass(frozen=True)
class Part:
    """Recommenders that are trained and then attacked: one table."""

    table: str
    trainings: tuple[str, ...]
    """Options of each ``rec_generator.py``."""
    attack: str
    """Options of ``audits.parameters``."""

    @classmethod
    def read(cls, entries: Entries) -> "list[Part]":
        """Read the parts that ``tables`` names; ``UserError`` for unknown or missing entries."""
        parts, chosen = entries.mapping("parts"), []
        for name in entries.choices("tables", parts):
            of = parts[name]
            chosen.append(cls(name, of.texts("trainings"), of.text("attack")))
            of.require_all_read()
        return chosen


def runs_of(options: str, top_k: int, seeds: Sequence[int]) -> Iterator[Run]:
    """Return the runs that ``rec_generator.py`` writes with these options, under its names."""
    parser = OptionsParser(f"trainings: {options}")
    parser.add_argument("--model", nargs="+", default=["VBPR"])
    add_recommender_options(parser)
    add_fidelity_option(parser)
    parsed = parser.parse_args(shlex.split(options))
    for name in parsed.model:
        for seed in seeds:
            yield run_of(parsed, name, Experiment(), top_k, seed)


def files_of(runs: Iterable[Run], layout: Layout) -> list[str]:
    """Return the lists of ``runs``, and their last weights if there are any."""
    paths = []
    for run in runs:
        paths.append(layout.recommendations(run))
        if run.epochs:
            paths.append(layout.weights(run))
    return [str(path) for path in paths]
