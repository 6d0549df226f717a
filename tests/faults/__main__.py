"""Run every fault, print the figures, and end with 1 if anything went wrong.

``python -m tests.faults [--damages N] [--calls N] [--kills N] [--limits N] [--seed N]``
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults import kills, space
from tests.faults.cases import Figures, build_whole, damage_all, faults, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, help="damaged trees, a random choice (default: all)")
    parser.add_argument("--calls", type=int, default=2000, help="random command lines")
    parser.add_argument("--kills", type=int, default=100, help="kills of the long stages")
    parser.add_argument("--limits", type=int, default=6, help="sizes of the disk for each stage")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    options = parser.parse_args()
    wrong = []
    for figures in every_fault(options):
        print(figures, flush=True)
        wrong += figures.wrong
    return int(bool(wrong))


def every_fault(options: argparse.Namespace) -> Iterator[Figures]:
    """Yield the figures of each kind of fault that the options ask for."""
    seed = options.seed
    with tempfile.TemporaryDirectory() as folder:
        if options.kills or options.limits:
            start = kills.build(Path(folder) / "start")
            names = list(kills.STAGES)
            if options.kills:
                yield kills.kill_all(start, names, options.kills, seed)
                yield kills.run_twice_at_once(start, names, seed)
            if options.limits:
                yield space.fill_the_disk(start, list(space.STAGES), options.limits, seed)
        whole = build_whole(Path(folder) / "whole")
        cases = list(faults(whole, seed))
        n_damages = len(cases) if options.damages is None else min(options.damages, len(cases))
        chosen = np.random.default_rng(seed).choice(len(cases), n_damages, replace=False)
        yield damage_all(whole, (cases[at] for at in sorted(chosen)))
    yield fuzz(options.calls, seed)


if __name__ == "__main__":
    sys.exit(main())
