"""DVBPR: visual factors from the pixels of images, by a network that is trained with the users."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import OF_DVBPR, FactorModel, Trainer
from src.recommenders.hyperparameters import Adversary, NetworkHyperparameters
from src.recommenders.recommender import Factors, require_features
from src.recommenders.sampling import TripleSampler
from src.recommenders.scores import Form
from src.recommenders.weights import Shapes, Weights, fresh_moments, glorot_uniform

if TYPE_CHECKING:
    import torch

    from src.extractors.extractor import Extractor
    from src.recommenders.pixel_network import PixelNetwork

_IMAGES_AT_ONCE = 64
_LARGEST_THETA = 0.01
STRIDE = 4
"""Stride of the first convolution."""
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2", "fc3")


@dataclass(frozen=True)
class DVBPR(FactorModel):
    """Deep visual BPR (Kang et al., ICDM 2017): s_ui = theta_u . phi(x_i), phi a network on pixels.

    Its features are the grey levels of images (items, side * side * 3), which ``pixels.py`` reads.
    """

    n_items: int
    side: int
    """Height and width of the images."""
    framework: ClassVar = "torch"
    reads_images: ClassVar = True
    reads_pixels: ClassVar = True
    forms: ClassVar = {"": None}
    defaults: ClassVar = OF_DVBPR
    tables: ClassVar = (
        "theta",
        *(f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")),
    )

    @classmethod
    def of(cls, form: Form | None, weights: Weights, data: TrainingData) -> Self:
        return cls(form, weights, len(data.features), _side(data.features))

    @classmethod
    def shapes(cls, data: TrainingData, hyperparameters: NetworkHyperparameters | None) -> Shapes:
        sizes = hyperparameters
        factors, hidden = (sizes.factors, sizes.hidden) if sizes else (None, None)
        of_network = network_shapes(_side(data.features), hidden, factors)
        return ((data.interactions.n_users, factors), *of_network)

    @classmethod
    def initial(
        cls, data: TrainingData, hyperparameters: NetworkHyperparameters, seed: int
    ) -> Weights:
        """Draw users uniformly from [0, 0.01) and weights by Glorot and Bengio (2010)."""
        rng = np.random.default_rng(seed)
        drawn = {}
        for name, shape in zip(cls.tables, cls.shapes(data, hyperparameters), strict=True):
            if name == "theta":
                drawn[name] = np.float32(_LARGEST_THETA) * rng.random(shape, np.float32)
            elif name.endswith("bias"):
                drawn[name] = np.zeros(shape, np.float32)
            else:
                drawn[name] = glorot_uniform(rng, shape)
        return Weights(drawn, fresh_moments(drawn), 1.0)

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
        from src.recommenders.adam import AdamTrainer
        from src.recommenders.pixel_network import PixelNetwork, batch_loss

        del adversary  # no recommender continues DVBPR
        network = PixelNetwork(
            _side(data.features), hyperparameters.hidden, hyperparameters.factors
        )

        def loss_on(device: "torch.device") -> Callable[..., "torch.Tensor"]:
            return functools.partial(
                batch_loss,
                network=network.to(device),
                pixels=data.features,
                penalties=hyperparameters.penalties,
            )

        sampler = TripleSampler.of(data.interactions, cold_items=True)
        return AdamTrainer(start, hyperparameters, sampler, seed, gpu, loss_on)

    def factors(self, features: np.ndarray | None) -> Factors:
        return self.weights.tables["theta"], self.embedded(features)

    def embedded(self, features: np.ndarray | None) -> np.ndarray:
        """Return the visual factors (items, K) float32 of grey levels ``features``."""
        import torch

        from src.recommenders.pixel_network import to_images

        features = require_features(features, self.n_items, 3 * self.side**2)
        network = self._network  # parameters that are made in inference mode have no gradients
        with torch.inference_mode():
            factors = [
                network(to_images(features[start : start + _IMAGES_AT_ONCE], self.side))
                for start in range(0, len(features), _IMAGES_AT_ONCE)
            ]
        return torch.cat(factors).numpy()

    def slopes(self, users: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the users' rows: scores are linear in what the network returns (``embedded``)."""
        return self.weights.tables["theta"][users]

    def directions(self, features: np.ndarray, item: int) -> np.ndarray:
        """Return the gradient (users, side * side * 3) of every user's score in the grey levels."""
        import torch

        from src.recommenders.pixel_network import to_images

        levels = torch.tensor(features[item], dtype=torch.float32, requires_grad=True)
        factors = self._network(to_images(levels, self.side))[0]
        (rows,) = torch.autograd.grad(
            factors, levels, torch.eye(len(factors)), is_grads_batched=True
        )
        return self.weights.tables["theta"] @ rows.numpy()

    def extractor(self, device: "torch.device") -> "Extractor":
        """Return a copy of the network on ``device`` as an extractor without classes.

        It reads images in [0, 1]. The recommender's own network stays on the CPU.
        """
        from src.extractors.extractor import Extractor
        from src.extractors.heads import NoHead

        half = (0.5, 0.5, 0.5)
        network = copy.deepcopy(self._network)
        extractor = Extractor(network, (), NoHead(), arch="DVBPR", mean=half, std=half)
        return extractor.to(device).eval()

    @functools.cached_property
    def _network(self) -> "PixelNetwork":
        import torch

        from src.recommenders.pixel_network import PixelNetwork

        tables = self.weights.tables
        hidden, factors = len(tables["fc1.weight"]), len(tables["fc3.weight"])
        network = PixelNetwork(self.side, hidden, factors)
        state = {name: torch.from_numpy(tables[name]) for name in self.tables[1:]}
        network.load_state_dict(state)
        return network.eval().requires_grad_(False)


def network_shapes(side: int, hidden: int | None, factors: int | None) -> Shapes:
    """Return the shapes of weight and bias of each of ``LAYERS``, in torch's order of axes."""
    last = -(-side // STRIDE)
    for _ in range(3):
        last = -(-last // 2)
    weights = (
        *((64, 3, 11, 11), (256, 64, 5, 5)),
        *[(256, 256, 3, 3)] * 3,
        *((hidden, 256 * last * last), (hidden, hidden), (factors, hidden)),
    )
    return tuple(shape for weight in weights for shape in (weight, weight[:1]))


def _side(pixels: np.ndarray) -> int:
    """Return the side of images of ``pixels`` (items, side * side * 3); ``UserError`` for others."""
    side = round((pixels.shape[1] / 3) ** 0.5)
    if 3 * side**2 != pixels.shape[1]:
        raise UserError(
            f"features are {pixels.shape}, the recommender needs grey levels of square images"
        )
    return side
