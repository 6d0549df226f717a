"""Several processes at one piece of work, as ``torchrun`` starts them: who does what, and who speaks."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

from src.artifacts.errors import UserError
from src.cli import EXIT_BAD_INPUT
from src.extractors.device import select_device

PATIENCE = timedelta(hours=12)
"""How long processes wait for one that is alive but does not come: the last batch of the slowest
attack takes hours on a CPU. One that has died is noticed at once."""


@contextlib.contextmanager
def process_group(gpu: int) -> Iterator[int]:
    """Join the processes that ``torchrun`` has started, if it has; gives this one's CUDA device.

    That is ``gpu`` in the first process of a machine, ``gpu + 1`` in the second, and so on; -1 is the
    CPU. Inside, only process 0 prints, and at the end all leave together. Where one fails the others
    end too, without a word: the first to fail says why.
    """
    if not distributed.is_torchelastic_launched():
        yield gpu
        return
    own_gpu = gpu if gpu < 0 else gpu + int(os.environ["LOCAL_RANK"])
    store = _join(own_gpu)
    try:
        with _quiet() if rank() else contextlib.nullcontext():
            yield own_gpu
            wait_for_all()
    except BaseException as error:
        if _another_has_failed(store):
            raise SystemExit(EXIT_BAD_INPUT) from error
        raise
    distributed.destroy_process_group()


def n_processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 writes and prints."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def wait_for_all() -> None:
    """Return once every process has called it; ``UserError`` where one has died."""
    if distributed.is_initialized():
        with _reaching_all():
            distributed.barrier()


def own_share(units: list[int]) -> list[int]:
    """Every n-th of the ``units`` of work that are left; the union over all n processes is all of them.

    Nobody goes on before all have called it: what one finishes would be missing in the list of another
    that comes later, and they would count differently.
    """
    wait_for_all()
    return units[rank() :: n_processes()]


def of_share(what: str) -> str:
    """Label of a progress bar that shows the share of this process."""
    return what if n_processes() == 1 else f"{what}, share 1 of {n_processes()}"


def mean_over_processes(values: Tensor) -> Tensor:
    """Elementwise; the values themselves where there is one process."""
    if distributed.is_initialized():
        with _reaching_all():
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


def _join(gpu: int) -> distributed.Store:
    """Meet the other processes; returns the store that all of them see.

    Tensors on GPUs travel by NCCL, everything else by gloo: who waits for the others on the CPU leaves
    the GPU alone.
    """
    backend = "gloo"
    if gpu >= 0 and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(select_device(gpu))
    store, number, n = next(distributed.rendezvous("env://", timeout=PATIENCE))
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("group", store),
        rank=number,
        world_size=n,
        timeout=PATIENCE,
    )
    return store


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What is printed inside goes nowhere."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _reaching_all() -> Iterator[None]:
    """Turn the failure to reach a process into one line; torch has no exception of its own for it."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"one of {n_processes()} processes has died or is stuck: run the same command again to "
            "continue"
        ) from error


def _another_has_failed(store: distributed.Store) -> bool:
    """Whether another process was first to ask this."""
    # Without a store nobody knows: then say it twice rather than not at all.
    with contextlib.suppress(RuntimeError):
        return store.add("failed", 1) > 1
    return False
