"""Training on gradients that are hidden from those who see them, as in federated learning."""

from typing import Any

import torch
from torch.optim import Optimizer

from src.attacks.inversion.defences import Defence


def defend_gradients(optimizer: Optimizer, defence: Defence, generator: torch.Generator) -> None:
    """From now on ``optimizer`` descends along what ``defence`` makes of the gradient it is given.

    That is the gradient of the whole mini-batch, of all processes where there are several: it is
    altered at the beginning of each ``optimizer.step()``. Parameters without a gradient take no part.
    Processes whose ``generator`` is in the same state stay alike.
    """

    def alter(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient, altered in zip(gradients, defence(gradients, generator), strict=True):
            gradient.copy_(altered)

    optimizer.register_step_pre_hook(alter)
