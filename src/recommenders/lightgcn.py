"""LightGCN: rows of users and items, smoothed over the graph of who has what."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.sparse import coo_array

from src.recommenders.data import TrainingData
from src.recommenders.factor_models import OF_LIGHTGCN, FactorModel, Trainer
from src.recommenders.hyperparameters import Adversary, GraphHyperparameters
from src.recommenders.recommender import Factors
from src.recommenders.scores import Form
from src.recommenders.weights import Shapes, Weights, fresh_moments, glorot_uniform

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LightGCN(FactorModel):
    """Light graph convolution (He et al., SIGIR 2020).

    With E = [P; Q] and the matrix A that has 1 / sqrt(|N_u| |N_i|) where user u has item i in training,
    in both directions, the rows that give scores are sum over k of mix_k A^k E, and s_ui is the product
    of the rows of u and i. All mix_k are 1 / (K + 1) and stay so.
    """

    train: np.ndarray
    """Training pairs (n, 2) int64 of user and item, sorted by user and then item."""
    framework: ClassVar = "torch"
    forms: ClassVar = {"": None}
    defaults: ClassVar = OF_LIGHTGCN
    tables: ClassVar = ("P", "Q", "mix")

    @classmethod
    def of(cls, form: Form | None, weights: Weights, data: TrainingData) -> Self:
        return cls(form, weights, data.interactions.train)

    @classmethod
    def shapes(cls, data: TrainingData, hyperparameters: GraphHyperparameters | None) -> Shapes:
        sizes = hyperparameters
        factors, n_mixed = (sizes.factors, sizes.layers + 1) if sizes else (None, None)
        rows = data.interactions.n_users, data.interactions.n_items
        return (*((n, factors) for n in rows), (n_mixed,))

    @classmethod
    def initial(
        cls, data: TrainingData, hyperparameters: GraphHyperparameters, seed: int
    ) -> Weights:
        """Draw P and Q uniformly by Glorot and Bengio (2010)."""
        rng = np.random.default_rng(seed)
        of_users, of_items, of_layers = cls.shapes(data, hyperparameters)
        drawn = {"P": glorot_uniform(rng, of_users), "Q": glorot_uniform(rng, of_items)}
        drawn["mix"] = np.full(of_layers, 1 / of_layers[0], np.float32)
        return Weights(drawn, fresh_moments(drawn), 1.0)

    @classmethod
    def trainer(
        cls,
        data: TrainingData,
        seed: int,
        hyperparameters: GraphHyperparameters,
        adversary: Adversary | None,
        start: Weights,
        gpu: int,
    ) -> Trainer:
        from src.recommenders.adam import AdamTrainer
        from src.recommenders.graph import batch_loss, on_device

        del adversary  # no recommender continues LightGCN
        n_users, n_items = data.interactions.n_users, data.interactions.n_items
        graph = normalised_graph(data.interactions.train, n_users, n_items)

        def loss_on(device: "torch.device") -> Callable[..., "torch.Tensor"]:
            return functools.partial(
                batch_loss, graph=on_device(graph, device), penalties=hyperparameters.penalties
            )

        return AdamTrainer(start, hyperparameters, data.sampler, seed, gpu, loss_on)

    def factors(self, features: np.ndarray | None) -> Factors:
        tables = self.weights.tables
        n_users, n_items = len(tables["P"]), len(tables["Q"])
        graph = normalised_graph(self.train, n_users, n_items).tocsr()
        smoothed = propagated(graph, np.vstack([tables["P"], tables["Q"]]), tables["mix"])
        return smoothed[:n_users], smoothed[n_users:]


def normalised_graph(train: np.ndarray, n_users: int, n_items: int) -> coo_array:
    """Return A, symmetric (n_users + n_items, n_users + n_items) float32, sorted by row and column.

    ``train`` are distinct pairs (n, 2) of user and item. Items are numbered after users.
    """
    users, items = train[:, 0], train[:, 1] + n_users
    degrees = np.bincount(np.concatenate([users, items]), minlength=n_users + n_items)
    values = (1 / np.sqrt(degrees[users] * degrees[items])).astype(np.float32)
    rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
    order = np.lexsort((columns, rows))
    at = rows[order], columns[order]
    return coo_array((np.tile(values, 2)[order], at), shape=(len(degrees), len(degrees)))


def propagated(graph: Any, rows: Any, mix: Any) -> Any:
    """Return sum over k of mix_k A^k rows, of the shape (n, d) of ``rows``, in SciPy or torch.

    ``mix`` (K + 1,) has the weight of every layer; layer 0 are the rows themselves.
    """
    total = mix[0] * rows
    for share in mix[1:]:
        rows = graph @ rows
        total = total + share * rows
    return total
