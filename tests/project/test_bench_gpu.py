"""The benchmark of hot loops runs, in a small size, on a machine without a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_gpu.py"


def bench(*options):
    command = [sys.executable, str(SCRIPT), "--size", "small", "--repeats", "1", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_loop_is_timed_beside_its_peer_and_marks_count_on_a_gpu_alone():
    done = bench("--device", "cpu")
    assert done.returncode == 0, done.stderr
    device, heading, *rows = done.stdout.splitlines()
    assert device.startswith("CPU") and heading.split() == ["loop", "ours", "bare", "ratio", "mark"]
    names = " ".join(rows)
    for loop in ("stage 1, bf16", "PGD, exact", "C&W", "HM", "Free-AT", "inversion", "ranking"):
        assert loop in names
    for row in rows:
        assert float(row[66:].split()[0]) > 0
    assert "missed" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_line():
    done = bench()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "there is no CUDA device: --device cpu runs the same code"
    )
