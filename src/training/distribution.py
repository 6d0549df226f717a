"""Training by several processes, each on its share of the batches (``torchrun``)."""

import contextlib
import os
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, distributed

from src.extractors.device import select_device


@contextlib.contextmanager
def process_group(gpu: int) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` has started, if it has; gives the device of this one.

    That is CUDA device ``gpu``, of several processes the one with the number of each; -1 is the CPU.
    """
    if "WORLD_SIZE" not in os.environ:
        yield select_device(gpu)
        return
    device = select_device(gpu if gpu < 0 else int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def n_processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 writes and prints."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def wait_for_all() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def mean_over_processes(values: Tensor) -> Tensor:
    """Elementwise; the values themselves where there is one process."""
    if distributed.is_initialized():
        distributed.all_reduce(values)
        values /= n_processes()
    return values


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Give every process the mean of all gradients."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not distributed.is_initialized() or not gradients:
        return
    means = mean_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
