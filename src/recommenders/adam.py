"""Tables of a recommender in torch, trained by one Adam (Kingma and Ba, ICLR 2015)."""

import math

import torch
from torch import Tensor

from src.recommenders.hyperparameters import NetworkHyperparameters
from src.recommenders.weights import Weights

EPSILON = 1e-7
"""Adam's epsilon in TensorFlow, with which the published recommenders were trained."""


class AdamTables:
    """Tables on a device, and the state of the optimiser that trains them."""

    def __init__(
        self,
        weights: Weights,
        hyperparameters: NetworkHyperparameters,
        n_pairs: int,
        device: torch.device,
    ) -> None:
        """Continue after the epochs of ``weights``, each of which has a step a batch of ``n_pairs``."""
        steps = weights.epoch * math.ceil(n_pairs / hyperparameters.batch)
        self.tables = {
            name: torch.from_numpy(table.copy()).to(device).requires_grad_()
            for name, table in weights.tables.items()
        }
        self._optimiser = torch.optim.Adam(
            self.tables.values(), hyperparameters.learning_rates[0], eps=EPSILON
        )
        for name, table in self.tables.items():
            mean, of_squares = torch.from_numpy(weights.accumulators[name].copy()).to(device)
            self._optimiser.state[table] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": mean,
                "exp_avg_sq": of_squares,
            }

    def step(self, loss: Tensor) -> float:
        """Take a step that lowers ``loss``; return its value."""
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return loss.item()

    def weights(self, scale: float, epoch: int, unit: bool) -> Weights:
        """Return the present state, as arrays of the host."""
        tables = {name: table.detach().cpu().numpy().copy() for name, table in self.tables.items()}
        moments = {
            name: torch.stack(
                [self._optimiser.state[table][of] for of in ("exp_avg", "exp_avg_sq")]
            )
            for name, table in self.tables.items()
        }
        accumulators = {name: of.cpu().numpy() for name, of in moments.items()}
        return Weights(tables, accumulators, scale, epoch, unit)


def half_square(*tensors: Tensor) -> Tensor:
    """Return half the sum of the squared entries of all ``tensors``."""
    return sum((of.square().sum() for of in tensors), torch.zeros((), device=tensors[0].device)) / 2
