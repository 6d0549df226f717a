"""Timing of work on a device, for benchmarks in a single process."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock seconds of ``work`` until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def interleaved(
    runs: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Call each of ``runs`` once to warm up and then ``repeats`` times; return results and seconds."""
    found = {name: call() for name, call in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, call in runs.items():
            taken[name].append(seconds(call, device))
    return found, taken
