"""How far images are from each other for a network: LPIPS, and distances of features.

Images are float tensors (n, 3, height, width) in [0, 1], on the network's device.
"""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.architectures import imagenet_weights_file
from src.extractors.checkpoints import load_extractor
from src.extractors.extractor import Extractor
from src.extractors.semsim import SemSim
from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD

_LPIPS_FLOOR = 1e-8
"""Added to the squared length of an activation, as published."""


@dataclass(frozen=True)
class NetworkMetric:
    """A metric of pairs of images that a network describes one by one, by the name of its column."""

    name: str
    higher_is_closer: bool
    network: Callable[[Tensor], Any]
    """What is known of n images, from one forward."""
    distance: Callable[[Any, Any], Tensor]
    """(n,) of two such descriptions."""
    device: torch.device

    def describe(self, images: np.ndarray) -> Any:
        """One forward of ``images`` (n, height, width, 3) in [0, 1]; ``UserError`` for their size."""
        pixels = torch.from_numpy(images).to(self.device, torch.float32).permute(0, 3, 1, 2)
        try:
            with torch.inference_mode():
                return self.network(pixels.contiguous())
        except RuntimeError as error:
            size = f"{images.shape[2]}x{images.shape[1]}"
            raise UserError(f"{self.name} cannot read images of {size} pixels: {error}") from error

    def compare(self, original: Any, changed: Any) -> np.ndarray:
        """(n,) float64, of two descriptions."""
        with torch.inference_mode():
            return self.distance(original, changed).double().cpu().numpy()

    def __call__(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """(n,) float64, of two arrays of images."""
        return self.compare(self.describe(original), self.describe(changed))


# Features


def distance(
    a: Tensor, b: Tensor, *, p: float = 2, normalised: bool = False, squared: bool = False
) -> Tensor:
    """(n,) distances of features (n, D), row by row: the Lp norm of their difference.

    ``normalised`` brings them to length 1 first, so that with p = 2 a distance is at most 2. ``squared``
    is the mean of |difference|^p over the D features instead, with p = 2 the perceptual loss of TAaMR
    (Di Noia et al., "TAaMR: Targeted Adversarial Attack against Multimedia Recommender Systems", DSN-W
    2020).
    """
    if normalised:
        a, b = functional.normalize(a), functional.normalize(b)
    if squared:
        return (a - b).abs().pow(p).mean(dim=1)
    return torch.linalg.vector_norm(a - b, p, dim=1)


def feature_distance(
    extractor: Extractor,
    a: Tensor,
    b: Tensor,
    *,
    p: float = 2,
    normalised: bool = False,
    squared: bool = False,
) -> Tensor:
    """``distance`` of the features that ``extractor`` has of the images ``a`` and ``b``; (n,)."""
    features = (extractor(images).features for images in (a, b))
    return distance(*features, p=p, normalised=normalised, squared=squared)


def spread_distance(a: Tensor, b: Tensor) -> Tensor:
    """(n,): the Fréchet distance of two images, each a normal distribution of its D features.

    (m1 - m2)^2 + (s1 - s2)^2 with the mean m and the standard deviation s of a row: ``s_fid`` of Sun et
    al., "Privacy Assessment on Reconstructed Images", NeurIPS 2023.
    """
    return (a.mean(dim=1) - b.mean(dim=1)).square() + (a.std(dim=1) - b.std(dim=1)).square()


@dataclass(frozen=True)
class FeatureMetric:
    """A metric of features (n, D), by the name of its column."""

    name: str
    higher_is_closer: bool
    distance: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """(n,) float64."""
        a, b = (torch.from_numpy(features).double() for features in (original, changed))
        return self.distance(a, b).numpy()


FEATURE_METRICS: dict[str, FeatureMetric] = {
    metric.name: metric
    for metric in (
        FeatureMetric("feature_l2", False, distance),
        FeatureMetric("feature_mse", False, lambda a, b: distance(a, b, squared=True)),
        FeatureMetric(
            "feature_cosine", False, lambda a, b: distance(a, b, normalised=True).square() / 2
        ),
        FeatureMetric("s_fid", False, spread_distance),
    )
}
"""By the names of their columns; ``feature_cosine`` is 1 - cosine."""


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of features, (n, D) and (m, D), as normal distributions.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): FID, where the features are Inception's (Heusel et al.,
    "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017).
    With S = R^T R the trace of the root is the sum of the singular values of R1 R2^T, which exists also
    where there are fewer images than features. NaN for fewer than two images.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    x, y = (torch.from_numpy(features).double() for features in (a, b))
    roots = [_covariance_root(features) for features in (x, y)]
    traces = sum(root.square().sum() for root in roots)
    shared = torch.linalg.matrix_norm(roots[0] @ roots[1].T, "nuc")
    means = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    # Rounding can leave a little less than 0 where both sets are the same.
    return max(0.0, float(means + traces - 2 * shared))


def _covariance_root(features: Tensor) -> Tensor:
    """R (min(n, D), D) with R^T R the covariance of ``features`` (n, D)."""
    centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centred).R if len(features) > features.shape[1] else centred


# SemSim


def semsim_metric(model: SemSim, *, normalised: bool = True) -> NetworkMetric:
    """``SemSim.score`` with one forward of an image, however often it is compared."""
    return NetworkMetric(
        model.name,
        model.higher_is_closer,
        model,
        lambda a, b: distance(a, b, normalised=normalised),
        model.device,
    )


# LPIPS


@dataclass(frozen=True)
class Trunk:
    """A network of torchvision whose activations LPIPS compares."""

    arch: str
    ends: tuple[int, ...]
    """After which layers of its ``features``."""


TRUNKS = {
    "squeeze": Trunk("squeezenet1_1", (2, 5, 8, 10, 11, 12, 13)),
    "alex": Trunk("alexnet", (2, 5, 8, 10, 12)),
    "vgg": Trunk("vgg16", (4, 9, 16, 23, 30)),
}
"""Those for which weights of the channels have been learnt from people."""


class Lpips(nn.Module):
    """Weighted squared distances of unit-length activations, averaged over positions, summed over layers.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        slices: Sequence[nn.Module],
        channel_weights: Sequence[Tensor] | None = None,
        size: int = 0,
    ) -> None:
        """``slices``: parts of a network, each of which reads what the one before it says.

        ``channel_weights``: (channels,) for each slice, none below 0; None weighs all channels by 1.
        ``size``: side in pixels to which images are brought; 0 leaves them as they are.
        """
        super().__init__()
        self.slices = nn.ModuleList(slices)
        self.channel_weights = channel_weights
        self.size = size
        # The published shift and scale of images in [-1, 1] are ImageNet's mean and std in [0, 1].
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Activations (n, channels, height, width) of each slice, of length 1 at each position."""
        if self.size and images.shape[2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", antialias=True
            )
        said = (images - self.mean) / self.std
        activations = []
        for part in self.slices:
            said = part(said)
            length = (said.square().sum(dim=1, keepdim=True) + _LPIPS_FLOOR).sqrt()
            activations.append(said / length)
        return activations

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """(n,) of the activations of two batches."""
        weights = self.channel_weights or [torch.ones_like(of[0, :, 0, 0]) for of in a]
        layers = zip(a, b, weights, strict=True)
        return sum(
            torch.einsum("nchw,c->nhw", (of_a - of_b).square(), weight).mean(dim=(1, 2))
            for of_a, of_b, weight in layers
        )


def lpips(network: Lpips, a: Tensor, b: Tensor) -> Tensor:
    """(n,) LPIPS of the images ``a`` and ``b``; 0 for equal ones, differentiable in both."""
    return network.distance(network(a), network(b))


def lpips_metric(network: Lpips) -> NetworkMetric:
    return NetworkMetric("lpips", False, network, network.distance, network.mean.device)


def lpips_weights_file(trunk: str, weights: Path | None = None) -> Path:
    """The ImageNet weights of a trunk: ``weights``, or torchvision's in the torch hub cache.

    Raises ``UserError`` that names the place where the file is missing.
    """
    if weights is None:
        return imagenet_weights_file(TRUNKS[trunk].arch, "--lpips_weights")
    if not weights.is_file():
        raise UserError(
            f"no weights of LPIPS at {weights}: --lpips_weights names those of its trunk"
        )
    return weights


def load_lpips(
    trunk: str = "squeeze",
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    *,
    size: int = 0,
) -> Lpips:
    """LPIPS v0.1 on one of ``TRUNKS``, with ``weights`` as ``lpips_weights_file`` finds them."""
    arch, ends = TRUNKS[trunk].arch, TRUNKS[trunk].ends
    layers = load_extractor(arch, lpips_weights_file(trunk, weights), device).network.features
    starts = (0, *ends[:-1])
    slices = [layers[start:end] for start, end in zip(starts, ends, strict=True)]
    return Lpips(slices, _learnt_weights(trunk, device), size).to(device)


def _learnt_weights(trunk: str, device: torch.device | str) -> list[Tensor]:
    """(channels,) for each layer, as torchmetrics brings them."""
    package = importlib.metadata.distribution("torchmetrics")
    file = package.locate_file(f"torchmetrics/functional/image/lpips_models/{trunk}.pth")
    entries = torch.load(Path(str(file)), map_location=device, weights_only=True)
    return [entries[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(entries))]
