"""Run the numerical tests under settings that stand for other processors.

``python -m tests.any_machine [arguments of pytest]``. Kernels of other processors round differently, so
a test that passes here may fail there. Each setting makes PyTorch, oneDNN, OpenBLAS, NumPy or TensorFlow
use the kernels of another processor. A setting that this processor lacks is skipped, and a line says so.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__


@dataclass(frozen=True)
class Machine:
    """Environment variables that stand for another machine, and the instructions that they need."""

    name: str
    variables: Mapping[str, str]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Instructions that this processor lacks, by NumPy's names."""
        return [feature for feature in self.needs if not __cpu_features__.get(feature)]


def numpy_features() -> str:
    """Return the instruction sets that NumPy chooses at run time and that are in use here."""
    return " ".join(feature for feature in __cpu_dispatch__ if __cpu_features__[feature])


MACHINES = (
    Machine(
        "a processor of 2008 (SSE4)",
        {
            "ATEN_CPU_CAPABILITY": "default",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "OPENBLAS_CORETYPE": "Prescott",
            "MKL_CBWR": "COMPATIBLE",
            "NPY_DISABLE_CPU_FEATURES": numpy_features(),
            "TF_ENABLE_ONEDNN_OPTS": "0",
        },
        ("SSE41",),
    ),
    Machine(
        "a processor of 2013 (AVX2), two threads",
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
            "OMP_NUM_THREADS": "2",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads of several processes share the cores
        },
        ("AVX2", "FMA3"),
    ),
)


def main(arguments: list[str]) -> int:
    """Run every setting; return the exit code of the first that fails, else 0."""
    failed = 0
    for machine in MACHINES:
        settings = " ".join(f"{name}={value!r}" for name, value in machine.variables.items())
        if machine.missing:
            print(f"skipped: {machine.name}: this processor has no {', '.join(machine.missing)}")
            continue
        print(f"{machine.name}: {settings}", flush=True)
        command = [sys.executable, "-m", "pytest", "-m", "numerical and not slow", *arguments]
        code = subprocess.run(command, env={**os.environ, **machine.variables}).returncode
        failed = failed or code
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
