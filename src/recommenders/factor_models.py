"""Recommenders that train in epochs, and those that ``bpr.py`` trains: BPRMF, VBPR, AMF, AMR, RankAMR."""

import functools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

import numpy as np

from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.pairwise_loss import SampledNegatives
from src.recommenders.parameter_attack import Parameter, parameters_of
from src.recommenders.recommender import Factors, Recommender, require_features
from src.recommenders.scores import Form, fold, latent_and_visual
from src.recommenders.weights import (
    TABLES,
    Shapes,
    Weights,
    initial_weights,
    read_weights,
    scaled,
    write_weights,
)

if TYPE_CHECKING:
    from tensorflow import Tensor

    from src.recommenders.bpr import PairwiseTrainer


@dataclass(frozen=True)
class Defaults:
    """Default values of options."""

    epochs: int
    learning_rates: str
    penalties: str
    adversarial_weight: float
    epsilon: float
    accumulators: str
    batch: int = 512
    hidden: int | None = None
    """Width of hidden layers; None for recommenders without any."""
    layers: int | None = None
    """Layers of a graph; None for recommenders without one."""


OF_VISUAL = Defaults(4000, "[0.01,1e-4,1e-3]", "[1e-1,1e-3,0]", 0.1, 1.0, "reset")
"""The published defaults of VBPR and AMR."""
OF_ACF = Defaults(20, "1e-4", "1", 0.0, 0.0, "keep", batch=32, hidden=64)
"""The published defaults of ACF, which leave its attention as it was drawn: see docs/recommenders.md."""
OF_DVBPR = Defaults(20, "1e-4", "[1,0,1e-3]", 0.0, 0.0, "keep", batch=32, hidden=4096)
"""The published defaults of DVBPR."""
OF_LIGHTGCN = Defaults(1000, "1e-3", "1e-4", 0.0, 0.0, "keep", batch=1024, layers=3)
"""The published defaults of LightGCN."""
OF_MF = Defaults(100, "0.05", "0", 1.0, 0.5, "keep")
"""He et al.'s defaults for BPR-MF and AMF, with fewer epochs."""


class Trainer(Protocol):
    """Training of some tables, from the epoch after which they stand."""

    def epoch(self, number: int) -> float:
        """Train the epoch of that number, the one after the last; return the sum of its losses."""
        ...

    def weights(self, epoch: int) -> Weights:
        """Return the present state, which is that after ``epoch`` epochs."""
        ...


@dataclass(frozen=True)
class FactorModel(Recommender):
    """Recommender that trains in epochs and is stored as ``Weights``.

    A subclass says which ``tables`` it has, of which ``shapes``, how they are drawn, what trains them
    and how they give scores.
    """

    form: Form | None
    weights: Weights
    defaults: ClassVar[Defaults]
    tables: ClassVar[tuple[str, ...]] = TABLES
    """Names of the tables of its weights."""
    perturbs: ClassVar[Literal["features", "promotion", "tables"] | None] = None
    """Arrays that an adversarial model trains against perturbations of."""

    @classmethod
    def of(cls, form: Form | None, weights: Weights, data: TrainingData) -> Self:
        """Return the recommender of these ``weights``, which belong to ``data``."""
        del data  # the tables hold all that the scores need
        return cls(form, weights)

    @classmethod
    @abstractmethod
    def shapes(cls, data: TrainingData, hyperparameters: Hyperparameters | None) -> Shapes:
        """Return the shapes of the ``tables`` of a recommender of ``data``.

        Without ``hyperparameters`` the axes whose lengths they decide are None.
        """

    @classmethod
    @abstractmethod
    def initial(cls, data: TrainingData, hyperparameters: Hyperparameters, seed: int) -> Weights:
        """Draw the weights with which a training starts."""

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        seed: int,
        *,
        hyperparameters: Hyperparameters,
        epochs: int,
        adversary: Adversary | None = None,
        start: Weights | None = None,
        gpu: int = -1,
        after_epoch: Callable[[int, float, Callable[[], Self]], None] = lambda *_: None,
    ) -> Self:
        """Train until ``epochs`` epochs are done, from ``start`` or from random tables.

        ``after_epoch`` gets the number of each epoch, its loss, and a function that returns the present
        state.
        """
        if start is None:
            start = cls.initial(data, hyperparameters, seed)
        trainer = cls.trainer(data, seed, hyperparameters, adversary, start, gpu)

        def state(epoch: int) -> Self:
            return cls.of(hyperparameters.form, trainer.weights(epoch), data)

        for epoch in range(start.epoch + 1, epochs + 1):
            loss = trainer.epoch(epoch)
            after_epoch(epoch, loss, functools.partial(state, epoch))
        return state(epochs)

    @classmethod
    @abstractmethod
    def trainer(
        cls,
        data: TrainingData,
        seed: int,
        hyperparameters: Hyperparameters,
        adversary: Adversary | None,
        start: Weights,
        gpu: int,
    ) -> Trainer:
        """Return what trains ``start``, on a GPU or, for ``gpu`` -1, on the CPU."""

    @property
    def unit(self) -> bool:
        return self.weights.unit

    def save(self, path: Path) -> None:
        write_weights(path, self.weights)

    @classmethod
    def load(cls, path: Path, data: TrainingData, form: Form | None = None) -> Self:
        """Read weights of any sizes that hyperparameters decide; ``form`` None is the class's default."""
        weights = read_weights(path, cls.shapes(data, None), cls.tables)
        return cls.of(form or next(iter(cls.forms.values())), weights, data)


@dataclass(frozen=True)
class TableModel(FactorModel):
    """Recommender of the tables P, Q and, in visual models, E; ``scores.py`` says how they score."""

    framework: ClassVar = "tensorflow"

    @classmethod
    def shapes(cls, data: TrainingData, hyperparameters: Hyperparameters | None) -> Shapes:
        if hyperparameters is not None:
            return data.shapes(hyperparameters)
        rows = [data.interactions.n_users, data.interactions.n_items]
        rows += [data.features.shape[1]] if cls.reads_images else []
        return tuple((n, None) for n in rows)

    @classmethod
    def initial(cls, data: TrainingData, hyperparameters: Hyperparameters, seed: int) -> Weights:
        return initial_weights(cls.shapes(data, hyperparameters), hyperparameters, data.scale, seed)

    @classmethod
    def trainer(
        cls,
        data: TrainingData,
        seed: int,
        hyperparameters: Hyperparameters,
        adversary: Adversary | None,
        start: Weights,
        gpu: int,
    ) -> Trainer:
        # TensorFlow takes seconds to import, and a run that only ranks does not need it.
        from src.recommenders.bpr import features_on, select_device, trainer_for

        device = select_device(gpu)
        on_device = trainer_for(start.shapes, hyperparameters, adversary, device)
        on_device.load(start)
        features = features_on(device, data.scaled_features, data.interactions.n_items)
        return _AdagradTrainer(data, seed, hyperparameters, adversary, on_device, features)

    def factors(self, features: np.ndarray | None) -> Factors:
        tables = self.weights.tables
        if not self.reads_images:
            return fold(self.form, tables, None)
        features = require_features(features, len(tables["Q"]), len(tables["E"]))
        return fold(self.form, tables, scaled(features, self.weights.scale, self.weights.unit))

    def slopes(self, users: np.ndarray | slice = slice(None)) -> np.ndarray | None:
        """Return the slopes E visual(P_u) / scale; None without a table E."""
        if "E" not in self.weights.tables:
            return None
        _, visual = latent_and_visual(self.form, self.weights.tables["P"][users], np.pad)
        return scaled(visual @ self.weights.tables["E"].T, self.weights.scale)

    def parameters(self, factors: Factors) -> dict[str, Parameter]:
        return parameters_of(self.form, self.weights.tables)


@dataclass(frozen=True)
class BPRMF(TableModel):
    """Matrix factorisation under a pairwise loss (Rendle et al., UAI 2009)."""

    forms: ClassVar = {"": "mf", "bias": "mf_bias"}
    defaults: ClassVar = OF_MF


@dataclass(frozen=True)
class VBPR(TableModel):
    """BPR with visual factors (He and McAuley, AAAI 2016)."""

    reads_images: ClassVar = True
    forms: ClassVar = {"": "shared", "full": "full"}
    defaults: ClassVar = OF_VISUAL


@dataclass(frozen=True)
class AMR(VBPR):
    """VBPR trained against perturbations of images' features (Tang et al., TKDE 2020)."""

    continues: ClassVar = "VBPR"
    perturbs: ClassVar = "features"


@dataclass(frozen=True)
class RankAMR(VBPR):
    """VBPR trained against negatives that an attack on ranks promotes to all users at once.

    AMR's perturbation is after the loss of a batch; that of an attacker is one image for everybody.
    """

    continues: ClassVar = "VBPR"
    perturbs: ClassVar = "promotion"


@dataclass(frozen=True)
class AMF(BPRMF):
    """BPR-MF trained against perturbations of its tables (He et al., SIGIR 2018)."""

    continues: ClassVar = "BPRMF"
    perturbs: ClassVar = "tables"


@dataclass(frozen=True)
class _AdagradTrainer:
    """Training of P, Q and E by ``bpr.py``."""

    data: TrainingData
    seed: int
    hyperparameters: Hyperparameters
    adversary: Adversary | None
    on_device: "PairwiseTrainer"
    features: "Tensor"
    """Scaled features on the device."""

    def epoch(self, number: int) -> float:
        drop_below = self.hyperparameters.batch if self.hyperparameters.drop_last_batch else 1
        triples = self.data.sampler.epoch(
            self.seed, number, drop_below, self.hyperparameters.negatives
        )
        if self.adversary and self.adversary.scope == "full":
            perturb = functools.partial(
                _perturbation,
                self.adversary,
                self.hyperparameters.form,
                self.data,
                (self.seed, number),
            )
            return self.on_device.epoch_under(self.features, triples, perturb)
        return self.on_device.epoch(self.features, triples, _noise_seed(self.seed, number))

    def weights(self, epoch: int) -> Weights:
        return replace(self.on_device.save(self.data.scale, epoch), unit=self.data.unit)


def _perturbation(
    adversary: Adversary,
    form: Form,
    data: TrainingData,
    seeds: tuple[int, int],
    tables: dict[str, np.ndarray],
    batch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return perturbations of P and Q that raise the loss on all training pairs, for one batch.

    Each batch of each epoch has its own negatives.
    """
    rng = np.random.default_rng((*seeds, batch))
    loss = SampledNegatives(data.sampler, int(rng.integers(2**62)))
    parameters = parameters_of(form, {name: tables[name] for name in ("P", "Q")})
    folded = fold(form, tables, data.scaled_features)
    shifts = adversary.attack(*folded, parameters, loss, rng).shifts
    return shifts["P"], shifts["Q"]


def _noise_seed(seed: int, epoch: int) -> np.int32:
    return np.int32(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
