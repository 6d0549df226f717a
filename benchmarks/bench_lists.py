"""Top-150 lists written as text: ours beside a loop over lines and beside pandas, with equal bytes.

    python benchmarks/bench_lists.py [--users 24379]

The ratios are of processor seconds, the smallest of ``--repeats`` turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sides import Stopwatch, least

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.artifacts.tables import TopK, write_top_k

N_USERS, N_ITEMS, TOP_K = 24_379, 7_371, 150


def random_lists(n_users: int) -> TopK:
    """Draw lists whose scores are spread like those of trained recommenders."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, N_ITEMS, (n_users, 1))
    items = (first + rng.permutation(N_ITEMS)[:TOP_K]) % N_ITEMS
    return TopK(items, -np.sort(-rng.normal(0, 8, (n_users, TOP_K)).astype(np.float32), axis=1))


def write_lines(path: Path, lists: TopK) -> None:
    """Write each line with its own formatted string."""
    with path.open("w") as stream:
        for user, (items, scores) in enumerate(zip(lists.items, lists.scores, strict=True)):
            stream.writelines(
                f"{user}\t{item}\t{score!s}\n" for item, score in zip(items, scores, strict=True)
            )


def write_with_pandas(path: Path, lists: TopK) -> None:
    """Write a table of three columns."""
    users = np.arange(len(lists.items)).repeat(lists.items.shape[1])
    table = pd.DataFrame({"u": users, "i": lists.items.ravel(), "s": lists.scores.ravel()})
    table.to_csv(path, sep="\t", header=False, index=False)


WAYS: dict[str, Callable[[Path, TopK], None]] = {
    "ours": write_top_k,
    "lines": write_lines,
    "pandas": write_with_pandas,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=N_USERS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    lists = random_lists(options.users)
    turns = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.tsv" for name in WAYS}
        for _ in range(options.repeats):
            for name, write in WAYS.items():
                watch = Stopwatch()
                write(paths[name], lists)
                turns[name].append(watch.read())
        files = {name: path.read_bytes() for name, path in paths.items()}
    print(f"{options.users} users, top {TOP_K}, {len(files['ours']) / 2**20:.0f} MiB")
    found = {name: least(of) for name, of in turns.items()}
    for name, of in found.items():
        same = "the same bytes" if files[name] == files["ours"] else "other bytes"
        ratio = of["cpu"] / found["ours"]["cpu"]
        print(f"{name:8s} {of['cpu']:8.2f} s of CPU   {ratio:6.1f} times ours   {same}")


if __name__ == "__main__":
    main()
