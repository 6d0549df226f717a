"""Division of work among processes that ``torchrun`` has started; only the first one prints.

A process that ``torchrun`` has not started does not load torch for it.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from src.artifacts.errors import UserError
from src.artifacts.locks import hold
from src.artifacts.stage import Stage
from src.cli import EXIT_BAD_INPUT

if TYPE_CHECKING:
    from torch import Tensor, distributed

LONGEST_WAIT = timedelta(hours=12)
"""Longest wait for a process that is alive: the last batch of the slowest attack takes hours on a CPU.
The death of a process is noticed at once."""


@contextlib.contextmanager
def process_group(gpu: int) -> Iterator[int]:
    """Join the processes of ``torchrun``, if there are any, and yield the CUDA device of this one.

    The device is ``gpu`` in the first process of a machine, ``gpu + 1`` in the second, and so on; -1 is
    the CPU. Inside, only process 0 prints, and all processes leave together. If one fails, the others end
    too; only the first to fail prints an error.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
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
    _joined().destroy_process_group()


def n_processes() -> int:
    return joined.get_world_size() if (joined := _joined()) else 1


def rank() -> int:
    """Return the number of this process; process 0 writes and prints."""
    return joined.get_rank() if (joined := _joined()) else 0


def wait_for_all() -> None:
    """Return after every process has called it; ``UserError`` if one has died."""
    if joined := _joined():
        with _failures_as_user_errors():
            joined.barrier()


def wait_for_turn(stage: Stage) -> None:
    """Return when no other run makes the outputs of ``stage``: process 0 locks them, and the others wait.

    Raises ``UserError`` unless the stage has the same options and inputs in all processes.
    """
    hold(stage.outputs[0])
    if joined := _joined():
        made_of = [""] * n_processes()
        with _failures_as_user_errors():
            joined.all_gather_object(made_of, stage.parts.folder.name)
        if len(set(made_of)) > 1:
            raise UserError(
                "the processes of torchrun see different data or options of "
                f"{stage.name or stage.outputs[0]}"
            )


def own_share(units: list[int]) -> list[int]:
    """Return every n-th of the ``units`` of work that are left, so that n processes share them all.

    All processes wait for each other: otherwise the list of a late process would lack units that another
    has already finished, and the shares would not fit.
    """
    wait_for_all()
    return units[rank() :: n_processes()]


def share_label(what: str) -> str:
    """Return the label of a progress bar that shows the share of this process."""
    return what if n_processes() == 1 else f"{what}, share 1 of {n_processes()}"


def mean_over_processes(values: "Tensor") -> "Tensor":
    """Return the elementwise mean of ``values`` over all processes."""
    if joined := _joined():
        with _failures_as_user_errors():
            joined.all_reduce(values)
        values /= n_processes()
    return values


def average_gradients(parameters: Iterable["Tensor"]) -> None:
    """Replace the gradients in every process by their mean over processes."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not _joined() or not gradients:
        return
    import torch

    means = mean_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _joined() -> ModuleType | None:
    """Return ``torch.distributed`` if this process has joined others, else None."""
    loaded = sys.modules.get("torch.distributed")
    return loaded if loaded and loaded.is_initialized() else None


def _join(gpu: int) -> "distributed.Store":
    """Join the other processes and return the store that they share.

    NCCL carries tensors on GPUs and gloo all others, so that a wait on the CPU does not occupy a GPU.
    """
    import torch
    from torch import distributed

    from src.extractors.device import select_device

    backend = "gloo"
    if gpu >= 0 and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(select_device(gpu))
    store, number, n = next(distributed.rendezvous("env://", timeout=LONGEST_WAIT))
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("group", store),
        rank=number,
        world_size=n,
        timeout=LONGEST_WAIT,
    )
    return store


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard all output to stdout inside the block."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _failures_as_user_errors() -> Iterator[None]:
    """Turn the failure to reach a process into a ``UserError``; torch raises a plain ``RuntimeError``."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"one of {n_processes()} processes has died or is stuck: run the same command again to "
            "continue"
        ) from error


def _another_has_failed(store: "distributed.Store") -> bool:
    """Return True if another process has called this earlier."""
    # Without a store this is unknown, and two messages are better than none.
    with contextlib.suppress(RuntimeError):
        return store.add("failed", 1) > 1
    return False
