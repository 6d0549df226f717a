"""Device on which networks run, and loading of images to it."""

import ctypes
from dataclasses import dataclass

import torch

from src.artifacts.errors import UserError
from src.extractors.tf32 import allow_tf32


def select_device(gpu: int) -> torch.device:
    """Return CUDA device ``gpu``, or the CPU for -1 or, with a printed note, if CUDA is absent.

    On CUDA, TF32 and kernels whose result depends on timing are switched off, so that fp32 has full
    precision and results repeat. Networks of the precision tf32 switch TF32 on for their own passes.
    """
    if gpu >= 0 and not torch.cuda.is_available():
        print("no CUDA device here: using the CPU")
        gpu = -1
    if gpu < 0:
        _keep_freed_memory()
        return torch.device("cpu")
    if gpu >= torch.cuda.device_count():
        raise UserError(
            f"there is no CUDA device {gpu}: 0 to {torch.cuda.device_count() - 1}, or -1"
        )
    allow_tf32(False)
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", gpu)


_MALLOC = {-3: 32 << 20, -1: 1 << 30, -2: 64 << 20}
"""Bytes of M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, by their numbers in glibc's malloc.h."""


def _keep_freed_memory() -> None:
    """Let the process reuse the memory of freed tensors; other C libraries than glibc stay as they are.

    It would go back to the system and come again as new pages in each step, which costs an attack on a
    CPU a tenth of its time, and more where it has several threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """Return a generator on ``device``: ``generator`` itself, or a new one that it seeds.

    A GPU so draws its own numbers, which are not those of the CPU, and waits for no copy of them.
    """
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


READERS = 8
"""Threads that read images for a GPU; on 16 cores, 15 read no more images a second."""


@dataclass(frozen=True)
class Loading:
    """Loading of images: ``batch_size`` in one forward, read by ``workers`` threads."""

    batch_size: int
    workers: int

    @classmethod
    def on(cls, device: torch.device, batch_size: int | None, workers: int | None) -> "Loading":
        """Replace each None by the default of the device; ``UserError`` for invalid numbers.

        On a CPU eight images fit into its caches, and readers would take cores from the network. A GPU
        needs many images at once and more than one reader.
        """
        usual = cls(8, 0) if device.type == "cpu" else cls(128, READERS)
        chosen = cls(
            usual.batch_size if batch_size is None else batch_size,
            usual.workers if workers is None else workers,
        )
        if chosen.batch_size < 1 or chosen.workers < 0:
            raise UserError("--batch must be at least 1 and --workers not negative")
        return chosen
