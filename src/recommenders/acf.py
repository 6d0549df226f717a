"""ACF: a user is a row of his own and what he has, weighted by an attention that reads images."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from src.recommenders.data import TrainingData
from src.recommenders.factor_models import OF_ACF, FactorModel, Trainer
from src.recommenders.hyperparameters import Adversary, NetworkHyperparameters
from src.recommenders.recommender import Factors, require_features
from src.recommenders.scores import Form
from src.recommenders.weights import Shapes, Weights, fresh_moments, scaled

if TYPE_CHECKING:
    from torch import Tensor

    from src.recommenders.item_attention import Lists

_USERS_AT_ONCE = 8192
_DEVIATION = 0.01


@dataclass(frozen=True)
class ACF(FactorModel):
    """Attentive collaborative filtering (Chen et al., SIGIR 2017), with attention over items.

    s_ui = (g_u + sum over the user's training items l of alpha(u, l) p_l) . g_i. alpha(u, .) is the
    softmax of w . relu(W_1 g_u + W_2 g_l + W_3 p_l + W_4 x_l + b). P holds g_u, Q holds g_i and Y holds
    p_i. x_l are the features of the image: one vector, so that the attention over its parts is 1. An
    image changes the lists of the users who have its item, and not the score of the item for others.
    """

    train: np.ndarray
    """Training pairs (n, 2) int64 of user and item, sorted by user and then item."""
    framework: ClassVar = "torch"
    reads_images: ClassVar = True
    moves_users: ClassVar = True
    forms: ClassVar = {"": None}
    defaults: ClassVar = OF_ACF
    tables: ClassVar = ("P", "Q", "Y", "A_user", "A_item", "A_own", "A_features", "A_bias", "A_out")

    @classmethod
    def of(cls, form: Form | None, weights: Weights, data: TrainingData) -> Self:
        return cls(form, weights, data.interactions.train)

    @classmethod
    def shapes(cls, data: TrainingData, hyperparameters: NetworkHyperparameters | None) -> Shapes:
        n_users, n_items = data.interactions.n_users, data.interactions.n_items
        sizes = hyperparameters
        k, hidden = (sizes.factors, sizes.hidden) if sizes else (None, None)
        maps = [(n, hidden) for n in (k, k, k, data.features.shape[1])]
        return ((n_users, k), (n_items, k), (n_items, k), *maps, (hidden,), (hidden,))

    @classmethod
    def initial(
        cls, data: TrainingData, hyperparameters: NetworkHyperparameters, seed: int
    ) -> Weights:
        """Draw normal tables: sd 0.01, and Glorot's (2 / (inputs + outputs))^.5 in the attention."""
        rng = np.random.default_rng(seed)
        drawn = {}
        for name, shape in zip(cls.tables, cls.shapes(data, hyperparameters), strict=True):
            attends = name.startswith("A_")
            fans = shape if len(shape) > 1 else (*shape, 1)
            deviation = (2 / sum(fans)) ** 0.5 if attends else _DEVIATION
            drawn[name] = np.float32(deviation) * rng.standard_normal(shape, np.float32)
        scale = 1.0 if hyperparameters.as_published else data.scale
        return Weights(drawn, fresh_moments(drawn), scale, unit=data.unit)

    @classmethod
    def trainer(
        cls,
        data: TrainingData,
        seed: int,
        hyperparameters: NetworkHyperparameters,
        adversary: Adversary | None,
        start: Weights,
        gpu: int,
    ) -> Trainer:
        import torch

        from src.recommenders.adam import AdamTrainer
        from src.recommenders.item_attention import batch_loss

        del adversary  # no recommender continues ACF
        read = scaled(data.features, start.scale, start.unit)

        def loss_on(device: torch.device) -> Callable[..., "Tensor"]:
            features, train, first = (
                torch.from_numpy(of).to(device)
                for of in (read, data.interactions.train, data.interactions.first)
            )
            return functools.partial(
                batch_loss,
                features=features,
                train=train,
                first=first,
                penalties=hyperparameters.penalties,
                fixed_users=hyperparameters.as_published,
            )

        return AdamTrainer(start, hyperparameters, data.sampler, seed, gpu, loss_on)

    def factors(self, features: np.ndarray | None) -> Factors:
        import torch

        from src.recommenders.item_attention import user_rows

        tables, read = self.in_torch(features)
        users = torch.arange(len(self.weights.tables["P"]))
        with torch.inference_mode():
            rows = [
                user_rows(tables, read, self.lists(some)) for some in users.split(_USERS_AT_ONCE)
            ]
        return torch.cat(rows).numpy(), self.weights.tables["Q"]

    def directions(self, features: np.ndarray, item: int) -> np.ndarray:
        """Return the gradient, which is 0 for users who do not have the item.

        For the others it is alpha (p_l . g_l - sum over their items m of alpha_m p_m . g_l) times the
        gradient of the attention's output, where l is the item.
        """
        import torch

        from src.recommenders.item_attention import attention

        tables, read = self.in_torch(features)
        owners = torch.from_numpy(self.train[self.train[:, 1] == item, 0])
        lists = self.lists(owners)
        weights, hidden = attention(tables, read, lists)
        values = tables["Y"][lists.items] @ tables["Q"][item]
        mean = torch.segment_reduce(weights * values, "sum", lengths=lists.lengths)
        own = lists.items == item
        growth = weights[own] * (values[own] - mean)
        of_output = ((hidden[own] > 0) * tables["A_out"]) @ tables["A_features"].T
        gradients = np.zeros((len(self.weights.tables["P"]), read.shape[1]), np.float32)
        gradients[owners.numpy()] = (growth[:, None] * of_output).numpy() / self.weights.scale
        return self.through_length(gradients, features[item])

    def in_torch(self, features: np.ndarray | None) -> tuple[dict[str, "Tensor"], "Tensor"]:
        """Return the tables and the features that the attention reads."""
        import torch

        tables = self.weights.tables
        features = require_features(features, len(tables["Q"]), len(tables["A_features"]))
        read = scaled(features, self.weights.scale, self.weights.unit)
        return {name: torch.from_numpy(of) for name, of in tables.items()}, torch.from_numpy(read)

    def lists(self, users: "Tensor") -> "Lists":
        """Return the training items of ``users`` (n,) int64, in their order."""
        import torch

        from src.recommenders.item_attention import Lists

        n_users = len(self.weights.tables["P"])
        first = np.searchsorted(self.train[:, 0], np.arange(n_users + 1))
        return Lists.of(torch.from_numpy(self.train), torch.from_numpy(first), users)
