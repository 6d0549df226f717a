"""Training of a recommender's tables in torch by one Adam (Kingma and Ba, ICLR 2015)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from src.extractors.device import select_device
from src.recommenders.hyperparameters import AdamHyperparameters
from src.recommenders.sampling import TripleSampler
from src.recommenders.weights import Weights

EPSILON = 1e-7
"""Adam's epsilon in TensorFlow, with which the published recommenders were trained."""

BatchLoss = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Loss of the tables on a batch of triples (3, n) int64: rows user, positive, negative."""


class AdamTrainer:
    """Tables on a device, and the state of the optimiser that trains them."""

    def __init__(
        self,
        start: Weights,
        hyperparameters: AdamHyperparameters,
        sampler: TripleSampler,
        seed: int,
        gpu: int,
        loss_on: Callable[[torch.device], BatchLoss],
    ) -> None:
        """Continue after the epochs of ``start``, each of which has a step a batch.

        ``loss_on`` puts the data of the loss on the device and returns the loss.
        """
        self._start, self._batch = start, hyperparameters.batch
        self._sampler, self._seed = sampler, seed
        self._device = select_device(gpu)
        self._loss = loss_on(self._device)
        steps = start.epoch * math.ceil(len(sampler.pairs) / self._batch)
        self._tables = {
            name: torch.from_numpy(table.copy()).to(self._device).requires_grad_()
            for name, table in start.tables.items()
        }
        self._optimiser = torch.optim.Adam(
            self._tables.values(), hyperparameters.learning_rates[0], eps=EPSILON
        )
        for name, table in self._tables.items():
            mean, of_squares = torch.from_numpy(start.accumulators[name].copy()).to(self._device)
            self._optimiser.state[table] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": mean,
                "exp_avg_sq": of_squares,
            }

    def epoch(self, number: int) -> float:
        """Train on all training pairs in batches; return the sum of their losses.

        Random numbers of the loss, such as dropout, depend on the seed and the epoch alone, so that a
        training can continue.
        """
        drawn = self._sampler.epoch(self._seed, number)
        triples = torch.from_numpy(drawn).long().to(self._device)
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            state = np.random.SeedSequence((self._seed, number)).generate_state(1)
            torch.manual_seed(int(state[0]))
            # A sum on the device: to read each loss would wait for a GPU in every step.
            total = torch.zeros((), dtype=torch.float64, device=self._device)
            for batch in triples.split(self._batch, dim=1):
                total += self._step(batch)
            return total.item()

    def _step(self, triples: Tensor) -> Tensor:
        """Take a step that lowers the loss of a batch; return it, a scalar on the device."""
        loss = self._loss(self._tables, triples)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def weights(self, epoch: int) -> Weights:
        """Return the present state, which is that after ``epoch`` epochs, as arrays of the host."""
        tables = {name: table.detach().cpu().numpy().copy() for name, table in self._tables.items()}
        moments = {
            name: torch.stack(
                [self._optimiser.state[table][of] for of in ("exp_avg", "exp_avg_sq")]
            )
            for name, table in self._tables.items()
        }
        accumulators = {name: of.cpu().numpy() for name, of in moments.items()}
        return Weights(tables, accumulators, self._start.scale, epoch, self._start.unit)


def half_square(*tensors: Tensor) -> Tensor:
    """Return half the sum of the squared entries of all ``tensors``."""
    return sum((of.square().sum() for of in tensors), torch.zeros((), device=tensors[0].device)) / 2
