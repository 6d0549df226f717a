"""Feeding of a GPU: copies to and from it while it works, and batches that its memory can hold.

On the CPU every batch is worked on when it is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.cli import gpu_lacks_memory

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` (on the CPU) in memory from which ``device`` can copy while it works."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` (on the CPU) on ``device``, without waiting until a GPU has copied it."""
    return pinned(tensor, device).to(device, non_blocking=True)


def copied_ahead(
    batches: Iterable[tuple[Batch, Tensor]], device: torch.device
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield (batch, tensor on ``device``) of each of the ``batches``, in their order.

    Tensors are ``pinned``. On a GPU the copy of the next batch is issued, on a stream of its own, before
    the caller works on this one.
    """
    if device.type != "cuda":
        yield from ((batch, tensor.to(device)) for batch, tensor in batches)
        return
    copies, waiting = torch.cuda.Stream(device), None
    for batch, tensor in batches:
        with torch.cuda.stream(copies):
            copied = batch, tensor.to(device, non_blocking=True), copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = copied
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: Batch, tensor: Tensor, copied: torch.cuda.Event) -> tuple[Batch, Tensor]:
    """Make the caller's stream wait for the copy, and keep its memory until that stream has read it."""
    stream = torch.cuda.current_stream(tensor.device)
    stream.wait_event(copied)
    tensor.record_stream(stream)
    return batch, tensor


def read_back(
    results: Iterable[tuple[Batch, Mapping[str, Tensor]]], device: torch.device
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Yield (batch, arrays) of the ``results`` on ``device``, in their order.

    A GPU is given the work of the next result before the caller waits for this one.
    """
    if device.type != "cuda":
        yield from ((batch, _arrays(tensors)) for batch, tensors in results)
        return
    waiting = None
    for batch, tensors in results:
        copies = {name: of.to("cpu", non_blocking=True) for name, of in tensors.items()}
        issued = batch, copies, torch.cuda.current_stream(device).record_event()
        if waiting is not None:
            yield _finished(*waiting)
        waiting = issued
    if waiting is not None:
        yield _finished(*waiting)


def _finished(
    batch: Batch, copies: Mapping[str, Tensor], done: torch.cuda.Event
) -> tuple[Batch, dict[str, np.ndarray]]:
    done.synchronize()
    return batch, _arrays(copies)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: of.numpy() for name, of in tensors.items()}


@dataclass
class FittingBatches:
    """Batches that are halved when a GPU cannot hold them; later ones are as small from the start.

    A line on stdout says so the first time.
    """

    largest: int | None = None
    """Largest number of rows at once; None while every batch has fitted."""
    of: str = "image"
    """Name of a row, for messages."""
    _said: bool = field(default=False, init=False)

    def run(self, work: Callable[[slice], Result], n: int) -> list[Result]:
        """Return the results of ``work`` for consecutive slices of ``n`` rows, of one slice if that fits.

        Raises ``UserError`` if a GPU cannot hold a single row.
        """
        results, start = [], 0
        while start < n:
            size = min(n - start, self.largest or n)
            try:
                results.append(work(slice(start, start + size)))
            except RuntimeError as error:
                if not gpu_lacks_memory(error):
                    raise
                if size == 1:
                    raise UserError(
                        f"the GPU cannot hold one {self.of}, with all that its work needs: use --gpu -1"
                    ) from error
            else:
                start += size
                continue
            # The error is gone here, and with it the tensors of the work that failed.
            torch.cuda.empty_cache()
            if not self._said:
                print(
                    f"the GPU cannot hold {size} {self.of}s at once: halving batches until they fit"
                )
            self.largest, self._said = size // 2, True
        return results
