"""Run every fault, print the figures, and end with 1 if anything went wrong.

``python -m tests.faults [--damages N] [--calls N] [--kills N] [--limits N] [--seed N]``
"""

import argparse
import sys

from tests.faults.watched import every_fault, watched


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damages", type=int, help="damaged trees, a random choice (default: all)")
    parser.add_argument("--calls", type=int, default=2000, help="random command lines")
    parser.add_argument("--kills", type=int, default=100, help="kills of the long stages")
    parser.add_argument("--limits", type=int, default=6, help="sizes of the disk for each stage")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    wrong = []
    for figures in watched(every_fault, parser.parse_args()):
        print(figures, flush=True)
        wrong += figures.wrong
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
