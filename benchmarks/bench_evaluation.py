"""Speed of the evaluation at the size of Amazon Men beside the published way.

    python benchmarks/bench_evaluation.py

Our side is all of stage 2b for CHR and nCDCG: it reads the lists, computes every class at K = 1, 10, ...,
100 with bootstrap intervals, and writes both tables. It then evaluates an attacked run with paired tests.
The peer works as the published code: for each K and each user it selects the user's rows in a pandas
frame, looks up the classes of the first K items and counts them. It has no intervals and no tests; it is
timed on a few users and scaled to all.
"""

import argparse
import contextlib
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.artifacts.classes import Classes, write_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.tables import TopK, read_top_k, write_top_k
from src.measures.evaluation import Evaluation, evaluate
from src.metrics.category_hit_ratio import category_sums

N_USERS, N_ITEMS, TOP_K, N_CLASSES = 24_379, 7_371, 150, 386
KS = (1, *range(10, 101, 10))
ATTACKED = Experiment.parse("pgd_0_200_eps8.0_eps_it8.0_nb_it10_linf")


def write_catalogue(layout: Layout) -> np.ndarray:
    """Write a clean ``classes.csv`` with unequal sizes of classes as in ImageNet; return (items,)."""
    rng = np.random.default_rng(0)
    numbers = np.minimum(rng.geometric(0.02, N_ITEMS), N_CLASSES) - 1
    numbers[:N_CLASSES] = np.arange(N_CLASSES)
    path = layout.classes(Experiment())
    path.parent.mkdir(parents=True)
    labels = [f"label {number}" for number in numbers]
    write_classes(path, Classes(np.arange(N_ITEMS), numbers, labels, np.ones(N_ITEMS)))
    return numbers


def write_lists(layout: Layout, run: Run, promoted: np.ndarray) -> None:
    """Write lists of popular items with noise for each user; ``promoted`` items score higher."""
    rng = np.random.default_rng(1)
    popularity = np.sort(rng.exponential(size=N_ITEMS))
    popularity[promoted] += 0.5
    items = np.empty((N_USERS, TOP_K), np.int64)
    scores = np.empty((N_USERS, TOP_K), np.float32)
    for start in range(0, N_USERS, 512):
        block = slice(start, min(start + 512, N_USERS))
        noisy = popularity + rng.normal(0, 1.5, (block.stop - start, N_ITEMS))
        best = np.argpartition(-noisy, TOP_K, axis=1)[:, :TOP_K]
        values = np.take_along_axis(noisy, best, axis=1)
        order = np.argsort(-values, axis=1)
        items[block] = np.take_along_axis(best, order, axis=1)
        scores[block] = np.take_along_axis(values, order, axis=1)
    path = layout.recommendations(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_top_k(path, TopK(items, scores))


def ours(layout: Layout, run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Evaluate one run in stage 2b, from file to files."""
    evaluation = Evaluation(layout, run, KS)
    with contextlib.redirect_stdout(None):
        return tuple(evaluate(evaluation, metric, force=True) for metric in ("chr", "ncdcg"))


def peer(path: Path, numbers: np.ndarray, n_users: int) -> tuple[float, float, np.ndarray]:
    """Return seconds to read, seconds for ``n_users`` users, and their mean CHR (ks, classes)."""
    began = time.perf_counter()
    lists = pd.read_csv(path, sep="\t", names=["user", "item", "score"])
    read = time.perf_counter()
    category = pd.Series(numbers)
    sizes = np.bincount(numbers, minlength=N_CLASSES)
    hits, gains = np.zeros((2, len(KS), N_CLASSES))
    for i, k in enumerate(KS):
        for user in range(n_users):
            items = lists[lists["user"] == user]["item"].head(k)
            classes = category[items].to_numpy()
            for number in np.unique(classes):
                positions = np.flatnonzero(classes == number)
                dcg = sum(math.log(2) / math.log(r + 2) for r in positions)
                ideal = sum(math.log(2) / math.log(r + 2) for r in range(min(sizes[number], k)))
                hits[i, number] += len(positions)
                gains[i, number] += dcg / ideal
    return read - began, time.perf_counter() - read, hits / n_users


@contextlib.contextmanager
def data_set() -> Iterator[tuple[Layout, np.ndarray, Run, Run]]:
    """Yield layout, classes of items, clean run and attacked run in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout("amazon_men_size", Path(folder))
        numbers = write_catalogue(layout)
        clean, attacked = Run(Experiment()), Run(ATTACKED)
        write_lists(layout, clean, np.array([], np.int64))
        write_lists(layout, attacked, np.flatnonzero(numbers == ATTACKED.origin))
        yield layout, numbers, clean, attacked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="interleaved measurements")
    parser.add_argument("--peer_users", type=int, default=4, help="users that the peer is timed on")
    options = parser.parse_args()

    with data_set() as (layout, numbers, clean, attacked):
        seconds: dict[str, list[float]] = {"clean": [], "attacked": [], "peer": []}
        for _ in range(options.repeats):
            for name, run in (("clean", clean), ("attacked", attacked)):
                began = time.perf_counter()
                ours(layout, run)
                seconds[name].append(time.perf_counter() - began)
            read, work, chr_of_peer = peer(
                layout.recommendations(clean), numbers, options.peer_users
            )
            seconds["peer"].append(read + work * N_USERS / options.peer_users)
        items = read_top_k(layout.recommendations(clean)).items[: options.peer_users]
        one_group = np.zeros(len(items), np.int64), 1
        sums = category_sums(items, numbers, N_CLASSES, KS, np.ones(KS[-1]), *one_group)
        np.testing.assert_allclose(sums[0] / len(items), chr_of_peer)

    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{N_USERS} users, {N_ITEMS} items, {N_CLASSES} classes, K = {KS}, top {TOP_K}")
    print(f"clean run, CHR and nCDCG with intervals: {medians['clean']:.2f} s")
    print(f"attacked run, with paired tests too:     {medians['attacked']:.2f} s")
    print(f"published way, neither (scaled):         {medians['peer']:.0f} s")
    print(f"ratio: {medians['peer'] / medians['clean']:.0f}x; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
