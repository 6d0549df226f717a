"""Networks of a user's own code, as ``FILE.py:FUNCTION``.

The function takes no arguments and returns an ``nn.Module``. The file may say what images the network
reads: ``MEAN`` and ``STD``, three numbers each (default 0 and 1: the network reads pixels in [0, 1]), and
``SIZE``, the side in pixels (default 224).
"""

import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from src.artifacts.errors import UserError
from src.artifacts.manifest import fingerprint
from src.extractors.zoo import WITHOUT_CLASSES, own_file


@dataclass(frozen=True)
class OwnNetwork:
    """Function of a user that builds a network, and the images that the network reads."""

    arch: str
    make: Callable[[], Any]
    head: str | None
    """Name of the last layer with parameters if it is linear; else None."""
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, arch: str) -> "OwnNetwork":
        """Run the file of ``arch`` and call its function once.

        Raises ``UserError`` if the file or the function fails or returns no module.
        """
        file, _ = own_file(arch)
        return _read(arch, fingerprint(file))

    def require_head(self) -> str:
        """Return the name of the linear layer at the end; ``UserError`` if there is none."""
        if self.head is None:
            raise UserError(
                f"--arch {self.arch}: the last layer with parameters is not nn.Linear, so it is no head "
                f"of classes; {WITHOUT_CLASSES}"
            )
        return self.head

    def build(self, n_outputs: int) -> nn.Module:
        """Build a network; a head of another width than ``n_outputs`` is replaced by a random one."""
        network = _call(self.arch, self.make)
        if self.head is None:
            return network
        head = network.get_submodule(self.head)
        if head.out_features != n_outputs:
            bias = head.bias is not None
            network.set_submodule(self.head, nn.Linear(head.in_features, n_outputs, bias))
        return network


@functools.lru_cache(maxsize=16)
def _read(arch: str, code: str) -> OwnNetwork:
    """Return the network of ``arch``, once for each content of the file (its SHA-256 is ``code``)."""
    file, function = own_file(arch)
    module = _run(arch, file, code)
    make = getattr(module, function)
    # A seeded training draws the same numbers whether or not the network has been looked at before.
    with torch.random.fork_rng(devices=[]):
        network = _call(arch, make)
    size = getattr(module, "SIZE", 224)
    if not isinstance(size, int) or size < 1:
        raise UserError(
            f"--arch {arch}: SIZE in {file} must be a whole number above 0, not {size!r}"
        )
    mean, std = _channels(arch, module, "MEAN", 0.0), _channels(arch, module, "STD", 1.0)
    if min(std) <= 0:
        raise UserError(f"--arch {arch}: STD in {file} must be above 0, not {std}")
    return OwnNetwork(arch, make, _last_linear(network), size, mean, std)


def _run(arch: str, file: Path, code: str) -> ModuleType:
    """Import the file as a module; files beside it can be imported by it."""
    name = f"own_network_{code[:16]}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look up the module of a class by its name.
    sys.modules[name] = module
    if (folder := str(file.parent.resolve())) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"--arch {arch}: {file} failed with {_one_line(error)}") from error
    return module


def _call(arch: str, make: Callable[[], Any]) -> nn.Module:
    try:
        network = make()
    except Exception as error:
        raise UserError(f"--arch {arch}: the function failed with {_one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UserError(
            f"--arch {arch}: the function returned a {type(network).__name__}, not an nn.Module"
        )
    return network


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _last_linear(network: nn.Module) -> str | None:
    """Return the name of the last layer that has parameters if it is linear; else None."""
    name, layer = "", network
    for of, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            name, layer = of, module
    return name if name and isinstance(layer, nn.Linear) else None


def _channels(arch: str, module: ModuleType, name: str, usual: float) -> tuple[float, ...]:
    """Return the three numbers ``name`` of the module, each ``usual`` if it does not say."""
    values = getattr(module, name, (usual,) * 3)
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3:
        raise UserError(f"--arch {arch}: {name} must be three numbers, not {values!r}")
    return numbers
