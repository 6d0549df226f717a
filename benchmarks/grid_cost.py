"""Hours and gigabytes of a study's whole grid, from measured throughput, as a table in Markdown.

    python benchmarks/grid_cost.py [--study var] [--users 24379 --items 7371 --attacked 300]
    python benchmarks/grid_cost.py --rates "my GPU: images 5000, passes 20000, epoch 0.3, lists 0.5"

With E extractors, A attacks (of p passes an image), R recommenders, S seeds, n attacked images:

    stage 1      E items / images
    stage 3      E n (sum of p / passes + A / images)        C&W at its most
    training     E R S epochs epoch
    lists        E (1 + A) R S lists
    gigabytes    E (1 + A) (items D 4 + R S users k 21) + E A n side^2 3

``images`` and ``passes`` are images a second of stage 1 and image passes a second of PGD (a forward and
the gradient of the pixels); ``epoch`` and ``lists`` are seconds of an epoch and of the lists of all
users. A line of a list takes 21 bytes as text.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.attacks.registry import ATTACKS

STUDIES = Path(__file__).resolve().parents[1] / "reproduce" / "studies"
N_FEATURES, SIDE, TOP_K, BYTES_OF_LINE = 2048, 224, 150, 21
FIELDS = ("images", "passes", "epoch", "lists")
MEASURED = (
    "2 cores, bf16: images 66, passes 34, epoch 0.29, lists 1.8",
    "H100, bf16, before copies ahead: images 2190, passes 5260, epoch 0.29, lists 1.8",
)
"""Rates of ``docs/speed.md``; recommenders of both rows train and rank on 2 cores."""


@dataclass(frozen=True)
class Grid:
    """Numbers of what a study runs."""

    extractors: int
    attacks: int
    passes: int
    """Image passes of all attacks on one image."""
    recommenders: int
    seeds: int
    epochs: int

    @classmethod
    def of(cls, study: Mapping) -> "Grid":
        """Read the grid of a file of ``reproduce/studies``."""
        options = [shlex.split(attack) for attack in study["attacks"]]
        kinds = [of[of.index("--attack_type") + 1] for of in options]
        # Noise is drawn and asks no network.
        passes = sum(ATTACKS[kind]().passes for kind in kinds if kind != "noise")
        return cls(
            len(study["extractors"]),
            len(kinds),
            passes,
            len(study["recommenders"]),
            len(study["seeds"]),
            study["epoch"],
        )


@dataclass(frozen=True)
class Rates:
    """Throughput of a machine, as the module describes it."""

    machine: str
    images: float
    passes: float
    epoch: float
    lists: float

    @classmethod
    def parse(cls, text: str) -> "Rates":
        """Parse ``name: images 66, passes 34, epoch 0.29, lists 1.8``; ``ValueError`` otherwise."""
        machine, _, numbers = text.rpartition(":")
        found = dict(part.split() for part in numbers.split(","))
        if not machine or tuple(found) != FIELDS:
            raise ValueError(f"{text!r} is not 'NAME: {' N, '.join(FIELDS)} N'")
        return cls(machine, *(float(found[name]) for name in FIELDS))


def hours(grid: Grid, rates: Rates, items: int, attacked: int) -> dict[str, float]:
    """Return the hours of each part of the grid, and their sum."""
    runs = grid.recommenders * grid.seeds
    reading = grid.attacks / rates.images
    seconds = {
        "stage 1": grid.extractors * items / rates.images,
        "stage 3": grid.extractors * attacked * (grid.passes / rates.passes + reading),
        "training": grid.extractors * runs * grid.epochs * rates.epoch,
        "lists": grid.extractors * (1 + grid.attacks) * runs * rates.lists,
    }
    found = {part: of / 3600 for part, of in seconds.items()}
    return {**found, "together": sum(found.values())}


def gigabytes(grid: Grid, users: int, items: int, attacked: int) -> float:
    """Return the size of all features, lists and attacked images."""
    experiments = grid.extractors * (1 + grid.attacks)
    lists = grid.recommenders * grid.seeds * users * TOP_K * BYTES_OF_LINE
    images = grid.extractors * grid.attacks * attacked * SIDE**2 * 3
    return (experiments * (items * N_FEATURES * 4 + lists) + images) / 1e9


def table(grid: Grid, machines: Sequence[Rates], users: int, items: int, attacked: int) -> str:
    """Return the rows of all machines in Markdown."""
    rows = [hours(grid, rates, items, attacked) for rates in machines]
    heading = f"| hours | {' | '.join(rows[0])} |"
    lines = [heading, "|---" * (1 + len(rows[0])) + "|"]
    for rates, row in zip(machines, rows, strict=True):
        lines.append(f"| {rates.machine} | {' | '.join(f'{of:.2g}' for of in row.values())} |")
    size = gigabytes(grid, users, items, attacked)
    return "\n".join([*lines, "", f"Files: {size:.0f} GB."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="var", help="name of a file in reproduce/studies")
    parser.add_argument("--users", type=int, default=24_379)
    parser.add_argument("--items", type=int, default=7_371)
    parser.add_argument("--attacked", type=int, default=300, help="images of the origin class")
    parser.add_argument("--rates", nargs="+", default=MEASURED, help="measured throughput")
    options = parser.parse_args()
    try:
        machines = [Rates.parse(text) for text in options.rates]
    except ValueError as error:
        parser.error(str(error))
    grid = Grid.of(yaml.safe_load((STUDIES / f"{options.study}.yaml").read_text()))
    print(table(grid, machines, options.users, options.items, options.attacked))


if __name__ == "__main__":
    main()
