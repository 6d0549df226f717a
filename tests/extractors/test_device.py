"""Memory of freed tensors on a CPU."""

import ctypes
import subprocess
import sys

import pytest

STEPS = """
import resource, sys, torch
from src.extractors.architectures import build_extractor
from src.extractors.device import select_device

if sys.argv[1] == "ours":
    select_device(-1)
extractor = build_extractor("squeezenet1_1", "ab").eval().requires_grad_(False)

def step():
    images = torch.rand(4, 3, 224, 224).requires_grad_()
    torch.autograd.grad(extractor(images).features.sum(), images)

def new_pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):
    step()
before = new_pages()
for _ in range(3):
    step()
print(new_pages() - before)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)
def test_steps_on_a_cpu_reuse_the_memory_of_freed_tensors():
    plain, ours = (
        int(subprocess.check_output([sys.executable, "-c", STEPS, which]))
        for which in ("plain", "ours")
    )
    assert 10 * ours < plain
