"""Training with defended gradients, as in federated learning."""

from typing import Any

import torch
from torch.optim import Optimizer

from src.training.sharing import SharingDefence


def defend_gradients(
    optimizer: Optimizer, defence: SharingDefence, generator: torch.Generator
) -> None:
    """Make ``optimizer`` apply ``defence`` to the gradient at the start of every ``step()``.

    The gradient is the mean over the whole mini-batch and over all processes. Parameters without a
    gradient are left out. Processes keep equal weights if the states of ``generator`` are equal.
    """

    def alter(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient, altered in zip(gradients, defence(gradients, generator), strict=True):
            gradient.copy_(altered)

    optimizer.register_step_pre_hook(alter)
