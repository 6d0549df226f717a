"""Seconds and memory of the recommender's stages as users and items grow, on synthetic data.

    python benchmarks/bench_scale.py [--size 1x 10x hm] [--what read epoch ranks lists delta] [--gpu 0]
    [--table FILE.tsv]

Sizes are that of Amazon Men (1x), ten times its users and items (10x), and that of H&M (hm). Each
measurement runs in a process of its own, whose peak memory is shown without the features; the other
synthetic data are part of it. ``--share`` ranks that share of the users and scales the time up; an epoch
takes its steps on at most ``EPOCH_TRIPLES`` triples and is scaled up likewise. ``--table`` keeps the
measurements of several runs and draws FILE.svg from all of them. The exit code is 1 if a mark is missed.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from scale_figure import add_measurements, draw_growth
from sides import Measured, Stopwatch

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.artifacts.features import read_features, write_features
from src.artifacts.layout import Layout
from src.artifacts.tables import TopK, write_pairs, write_top_k, write_top_k_arrays
from src.cli import Parser
from src.datasets.interactions import Interactions, load_interactions
from src.recommenders.data import TrainingData
from src.recommenders.delta import Changed
from src.recommenders.ranking import ranker, top_k

FACTORS, BATCH, TOP_K, N_FEATURES = 64, 256, 150, 2048
N_CHANGED = 100
EPOCH_TRIPLES = 1_000_000
USERS_LISTED = 8192
MEMORY_MARK = 8.0
"""GiB beyond the features, at the size of H&M."""
EPOCH_MARK = 1.5
"""An epoch's time an interaction, as a multiple of that at 1x. On a CPU it is that of the processor, to
which other programs add nothing."""


@dataclass(frozen=True)
class Size:
    """Numbers of users, items and training interactions."""

    users: int
    items: int
    train: int


SIZES = {
    "1x": Size(24_379, 7_371, 64_641),
    "10x": Size(243_790, 73_710, 646_410),
    "hm": Size(1_371_980, 105_542, 31_800_000),
}
MARKS = {
    ("1x", "lists", "cpu"): 2.7,
    ("hm", "delta", "cpu"): 10.0,
    ("hm", "lists", "gpu"): 60.0,
}
"""Most seconds by size, measurement and device; lists at 1x are written as text."""


@dataclass(frozen=True)
class Problem:
    """Synthetic data of one size, with the folded matrices of a recommender."""

    interactions: Interactions
    features: np.ndarray
    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, size: Size) -> "Problem":
        """Draw items with a skewed popularity; a user's last item is the test item.

        Items that a user draws twice leave slightly fewer interactions than ``size`` says.
        """
        rng = np.random.default_rng(0)
        extra = rng.integers(0, size.users, size.train - size.users)
        owners = np.concatenate([np.repeat(np.arange(size.users), 2), extra])
        drawn = (size.items * rng.random(len(owners)) ** 2).astype(np.int64)
        keys = np.sort(owners * size.items + drawn)
        keys = keys[np.append(True, np.diff(keys) > 0)]
        pairs = np.stack(np.divmod(keys, size.items), axis=1)
        last = np.append(np.diff(pairs[:, 0]) > 0, True)
        last &= np.bincount(pairs[:, 0])[pairs[:, 0]] > 1
        interactions = Interactions(pairs[~last], pairs[last], size.users, size.items)
        users, items = (
            rng.standard_normal((n, FACTORS), np.float32) for n in (size.users, size.items)
        )
        features = rng.random((size.items, N_FEATURES), np.float32)
        return cls(interactions, features, users, items)


def write_files(problem: Problem, layout: Layout) -> None:
    """Write the files that ``reading`` reads."""
    layout.data.mkdir(parents=True)
    write_pairs(layout.training_set, problem.interactions.train)
    write_pairs(layout.test_set, problem.interactions.test)
    write_features(layout.root / "features.npy", problem.features)


def reading(layout: Layout) -> Measured:
    """Return the time of reading and checking interactions and features."""
    watch = Stopwatch()
    features = read_features(layout.root / "features.npy")
    load_interactions(layout, len(features))
    return watch.read()


def epoch(problem: Problem, gpu: int) -> Measured:
    """Return the time of an epoch of VBPR: all of its draws, and its steps scaled up."""
    from src.recommenders.bpr import features_on, select_device, trainer_for
    from src.recommenders.hyperparameters import Hyperparameters
    from src.recommenders.weights import initial_weights

    data = TrainingData(problem.interactions, problem.features)
    hyperparameters = Hyperparameters(
        factors=FACTORS, batch=BATCH, learning_rates=(0.05,) * 3, penalties=(0.01, 0.01, 0.0)
    )
    shapes = data.shapes(hyperparameters)
    device = select_device(gpu)
    features = features_on(device, data.scaled_features, data.interactions.n_items)
    trainer = trainer_for(shapes, hyperparameters, None, device)
    trainer.load(initial_weights(shapes, hyperparameters, data.scale, 0))
    trainer.epoch(features, data.sampler.epoch(0, 0)[:, : 10 * BATCH], np.int32(0))  # compiles
    watch = Stopwatch()
    triples = data.sampler.epoch(0, 1)
    drawn, watch = watch.read(), Stopwatch()
    kept = triples[:, : EPOCH_TRIPLES - EPOCH_TRIPLES % BATCH]
    trainer.epoch(features, kept, np.int32(1))
    steps = watch.read(triples.shape[1] / kept.shape[1])
    return {clock: drawn[clock] + steps[clock] for clock in drawn}


def ranks(problem: Problem, gpu: int, share: float) -> Measured:
    """Return the time of the ranks of all held-out items."""
    return _ranking(problem, gpu, share, 0, None)


def lists(problem: Problem, gpu: int, share: float, path: Path) -> Measured:
    """Return the time of ranks and top-150 lists of all users, written to ``path``."""
    return _ranking(problem, gpu, share, TOP_K, path)


def _ranking(problem: Problem, gpu: int, share: float, k: int, path: Path | None) -> Measured:
    n_users = max(1, int(share * len(problem.users)))
    block = slice(0, n_users)
    part = problem.interactions.block(block)
    rank_users = ranker(gpu)
    rank_users(problem.users[:64], problem.items, part.block(slice(0, min(64, n_users))), k)
    watch = Stopwatch()
    best, _ = rank_users(problem.users[block], problem.items, part, k)
    if path:
        (write_top_k if path.suffix == ".tsv" else write_top_k_arrays)(path, best)
    return watch.read(len(problem.users) / n_users)


def delta(problem: Problem) -> Measured:
    """Return the time of one look at an attack on ``N_CHANGED`` items: who is shown them.

    The clean lists, which are made once for all attacks, are those of the first users over and over: the
    work does not depend on what stands in them.
    """
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(len(problem.items), N_CHANGED, replace=False))
    changed = Changed(problem.users, problem.items, problem.interactions, ids, TOP_K)
    n_listed = min(USERS_LISTED, len(problem.users))
    some = slice(0, n_listed)
    part = problem.interactions.block(some)
    found = top_k(problem.users[some], problem.items, part, TOP_K + 1)
    at = np.arange(len(problem.users)) % n_listed
    best = TopK(found.items[at], found.scores[at])
    rows = problem.items[ids] + rng.standard_normal((N_CHANGED, FACTORS), np.float32)
    watch = Stopwatch()
    changed.users_shown(rows, best)
    return watch.read()


def measured(work: Callable[[], Measured], features: np.ndarray) -> Measured:
    """Return what ``work`` measures in a process of its own, and its ``peak`` GiB.

    The peak is without the ``features``.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_send, args=(work, there))
    process.start()
    there.close()
    try:
        found, peak = here.recv()
    except EOFError:
        raise SystemExit("a measurement has failed: its error stands above") from None
    process.join()
    return {**found, "peak": peak - features.nbytes / 2**30}


def _send(work: Callable[[], Measured], to: Connection) -> None:
    found = work()
    to.send((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def missed_marks(found: dict[tuple[str, str], Measured], device: str) -> list[str]:
    """Return a line for each mark that a measurement misses."""
    lines, clock = [], "cpu" if device == "cpu" else "wall"
    for (size, what), of in found.items():
        seconds, peak = of["wall"], of["peak"]
        most = MARKS.get((size, what, device))
        if most and seconds > most:
            lines.append(f"{what} at {size}: {seconds:.1f} s, at most {most}")
        if size == "hm" and peak > MEMORY_MARK:
            lines.append(f"{what} at {size}: {peak:.1f} GiB, at most {MEMORY_MARK}")
        if what == "epoch" and ("1x", "epoch") in found:
            ratio = of[clock] / SIZES[size].train
            ratio /= found["1x", "epoch"][clock] / SIZES["1x"].train
            if ratio > EPOCH_MARK:
                lines.append(f"epoch at {size}: {ratio:.2f} times 1x an interaction")
    return lines


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--size", nargs="+", choices=tuple(SIZES), default=["1x"])
    names = ("read", "epoch", "ranks", "lists", "delta")
    parser.add_argument("--what", nargs="+", choices=names, default=list(names))
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device; -1 is the CPU")
    parser.add_argument(
        "--share", type=share_of_users, default=1.0, help="share of the users that are ranked"
    )
    parser.add_argument(
        "--table", type=Path, help="TSV to add to; an SVG beside it shows all of it"
    )
    options = parser.parse_args()
    if options.table and not options.table.parent.is_dir():
        parser.error(f"--table: no folder {options.table.parent}")
    found: dict[tuple[str, str], Measured] = {}
    for name in options.size:
        size = SIZES[name]
        problem = Problem.of(size)
        n_train = len(problem.interactions.train)
        print(f"{name}: {size.users} users, {size.items} items, {n_train} interactions")
        with tempfile.TemporaryDirectory() as folder:
            layout = Layout("scale", Path(folder))
            if "read" in options.what:
                write_files(problem, layout)
            path = layout.root / ("lists.tsv" if name == "1x" else "lists.npz")
            works = {
                "read": partial(reading, layout),
                "epoch": partial(epoch, problem, options.gpu),
                "ranks": partial(ranks, problem, options.gpu, options.share),
                "lists": partial(lists, problem, options.gpu, options.share, path),
                "delta": partial(delta, problem),
            }
            for what in options.what:
                found[name, what] = measured(works[what], problem.features)
                of = found[name, what]
                growth = ""
                if name != "1x" and ("1x", what) in found:
                    growth = f"   {of['cpu'] / found['1x', what]['cpu']:.1f} times 1x"
                times = f"{of['wall']:9.2f} s {of['cpu']:9.2f} s of CPU"
                print(f"  {what:6s} {times} {of['peak']:6.2f} GiB{growth}", flush=True)
    device = "cpu" if options.gpu < 0 else "gpu"
    if options.table:
        table = add_measurements(options.table, found, device)
        users = {name: size.users for name, size in SIZES.items()}
        draw_growth(table, users, options.table.with_suffix(".svg"))
    if lines := missed_marks(found, device):
        sys.exit("\n".join(["missed:", *lines]))


def share_of_users(text: str) -> float:
    """Parse a share above 0 and at most 1."""
    if not 0 < (share := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return share


if __name__ == "__main__":
    main()
