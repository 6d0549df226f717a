"""Run every fault, print the figures, and end with 1 if anything went wrong.

``python -m tests.faults [number of command lines]``
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.cases import build_whole, damage_all, faults, fuzz


def main(n_calls: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        whole = build_whole(Path(folder) / "whole")
        damaged = damage_all(whole, faults(whole))
    print(damaged, flush=True)
    fuzzed = fuzz(n_calls, seed=0)
    print(fuzzed)
    return int(bool(damaged.wrong or fuzzed.wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 2000))
