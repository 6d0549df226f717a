"""Memory of freed tensors on a CPU."""

import ctypes
import subprocess
import sys

import pytest

TENSORS = """
import resource, sys, torch
from src.extractors.device import select_device

torch.set_num_threads(1)
if sys.argv[1] == "ours":
    select_device(-1)

def new_pages(of_floats):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(of_floats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages(7_500_000)
print(new_pages(7_000_000))  # small objects may have taken a part of the freed memory
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)
def test_a_tensor_on_a_cpu_takes_the_memory_of_a_freed_one():
    plain, ours = (
        int(subprocess.check_output([sys.executable, "-c", TENSORS, which]))
        for which in ("plain", "ours")
    )
    assert 10 * ours < plain
