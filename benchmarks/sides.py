"""Sides of a comparison, separate processes that run the same tasks in turn.

A peer may need packages that conflict with ours, so each side has its own interpreter. All sides get the
same data and the same number of threads. A benchmark starts itself as ``--worker SIDE FILE``.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

Step = tuple[str, str]
"""Side and task of a measurement."""
Measured = dict[str, float]
"""Result of a task: ``wall`` and ``cpu`` seconds, and other measures."""
Task = Callable[[], Measured]


def comparison_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that comparisons share."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument(
        "--peer_python",
        default=sys.executable if importlib.util.find_spec("cornac") else None,
        help="interpreter that has Cornac (default: this one, if it has)",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="repeats of each task, of which the fastest counts"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        help="threads of each side; 1 on a machine that others use, where waiting threads take time",
    )
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "FILE"), help=argparse.SUPPRESS)
    return parser


class Stopwatch:
    """Measurement of wall-clock and processor seconds; other programs do not add to the latter."""

    def __init__(self) -> None:
        self.started = time.perf_counter(), time.process_time()

    def read(self, scale: float = 1.0) -> Measured:
        wall, cpu = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
        return {"wall": wall * scale, "cpu": cpu * scale}


def serve(tasks: Mapping[str, Task]) -> None:
    """Read names of tasks from stdin and answer each with one line of JSON."""
    answers, sys.stdout = (
        sys.stdout,
        sys.stderr,
    )  # Cornac prints to stdout even if it is not verbose
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(tasks[line.strip()]()), file=answers, flush=True)


class Worker:
    """Side of a comparison that waits for tasks in a separate process."""

    def __init__(self, python: str, script: str, side: str, data_path: Path, threads: int) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.process = subprocess.Popen(
            [python, script, "--worker", side, str(data_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{python} could not start the {side} side: are its packages there?")

    def do(self, task: str) -> Measured:
        self.process.stdin.write(f"{task}\n")
        self.process.stdin.flush()
        if not (answer := self.process.stdout.readline()):
            raise SystemExit(f"{' '.join(self.process.args)} failed at {task!r}: run it by hand")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def started(
    script: str, pythons: Mapping[str, str], data: Mapping[str, np.ndarray], threads: int
) -> Iterator[dict[str, Worker]]:
    """Start a worker of ``threads`` for each side with its interpreter; all of them read ``data``."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        data_path = Path(folder) / "data.npz"
        np.savez(data_path, **data)
        workers = {}
        for side, python in pythons.items():
            workers[side] = Worker(python, script, side, data_path, threads)
            running.callback(workers[side].close)
        yield workers


def measure(workers: Mapping[str, Worker], plan: list[Step], repeats: int) -> dict[Step, Measured]:
    """Run all steps in turn ``repeats`` times and return the smallest measures of each step."""
    for side, task in plan:
        workers[side].do(task)  # compiles and warms up
    answers: dict[Step, list[Measured]] = {step: [] for step in plan}
    for _ in range(repeats):
        for side, task in plan:
            answers[side, task].append(workers[side].do(task))
    return {step: least(measured) for step, measured in answers.items()}


def least(answers: list[Measured]) -> Measured:
    """Return the minimum of each measure, since disturbances only add to it."""
    return {key: min(answer[key] for answer in answers) for key in answers[0]}


def show(name: str, time: Measured, remark: str) -> None:
    """Print a line of the table of results."""
    print(f"{name:32s} {time['wall']:8.3f} s {time['cpu']:8.3f} s of CPU   {remark}")
