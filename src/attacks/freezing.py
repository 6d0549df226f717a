"""Networks that an attack must not change."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Put ``networks`` in evaluation mode without weight gradients; put everything back at the end.

    An attack needs the gradient of its images only. Weight gradients are about a third of the cost of a
    backward pass, and they would stay in the caller's ``.grad``. Each module gets back its own mode,
    also in a network that trains with some layers frozen.
    """
    modules = [module for network in networks for module in network.modules()]
    parameters = [parameter for network in networks for parameter in network.parameters()]
    modes = [module.training for module in modules]
    flags = [parameter.requires_grad for parameter in parameters]
    try:
        for network in networks:
            network.eval().requires_grad_(False)
        yield
    finally:
        # .train(mode) would descend into children and undo what was restored before.
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
