"""Run every fault, print the figures, and end with 1 if anything went wrong.

``python -m tests.faults [--damages N] [--calls N] [--kills N] [--limits N] [--seed N]``
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.faults import kills, space
from tests.faults.cases import build_whole, damage_all, faults, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, help="damaged trees, a random choice (default: all)")
    parser.add_argument("--calls", type=int, default=2000, help="random command lines")
    parser.add_argument("--kills", type=int, default=100, help="kills of the long stages")
    parser.add_argument("--limits", type=int, default=6, help="sizes of the disk for each stage")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        start, names = kills.build(Path(folder) / "start"), list(kills.STAGES)
        whole = build_whole(Path(folder) / "whole")
        cases = list(faults(whole, options.seed))
        n_damages = min(len(cases), len(cases) if options.damages is None else options.damages)
        chosen = sorted(rng.choice(len(cases), n_damages, replace=False))
        for figures in (
            kills.kill_all(start, names, options.kills, options.seed),
            kills.run_twice_at_once(start, names if options.kills else (), options.seed),
            space.fill_the_disk(
                start, list(space.STAGES) if options.limits else (), options.limits, options.seed
            ),
            damage_all(whole, (cases[at] for at in chosen)),
            fuzz(options.calls, options.seed),
        ):
            print(figures, flush=True)
            wrong += figures.wrong
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
