"""Distances of images by networks: LPIPS, SemSim and distances of features.

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
from src.cli import gpu_lacks_memory
from src.extractors.architectures import imagenet_weights_file
from src.extractors.checkpoints import load_extractor
from src.extractors.semsim import SemSim
from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD

_LPIPS_FLOOR = 1e-8
"""Published offset of the squared length of an activation."""


@dataclass(frozen=True)
class NetworkMetric:
    """Metric of pairs of images by a network; ``name`` is its column in tables."""

    name: str
    higher_is_closer: bool
    network: Callable[[Tensor], Any]
    """Function that describes n images with one forward."""
    distance: Callable[[Any, Any], Tensor]
    """Function of two such descriptions that returns (n,) distances."""
    device: torch.device

    def describe(self, images: np.ndarray) -> Any:
        """Describe ``images`` (n, height, width, 3) in [0, 1]; ``UserError`` if their size is wrong."""
        pixels = torch.from_numpy(images).to(self.device, torch.float32).permute(0, 3, 1, 2)
        try:
            with torch.inference_mode():
                return self.network(pixels.contiguous())
        except RuntimeError as error:
            if gpu_lacks_memory(error):
                raise
            size = f"{images.shape[2]}x{images.shape[1]}"
            raise UserError(f"{self.name} cannot read images of {size} pixels: {error}") from error

    def compare(self, original: Any, changed: Any) -> np.ndarray:
        """Return the distances (n,) float64 of two descriptions."""
        with torch.inference_mode():
            return self.distance(original, changed).double().cpu().numpy()

    def __call__(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Return the distances (n,) float64 of two arrays of images."""
        return self.compare(self.describe(original), self.describe(changed))


# Features


def distance(
    a: Tensor, b: Tensor, *, p: float = 2, normalised: bool = False, squared: bool = False
) -> Tensor:
    """Return the Lp norm of the difference of features (n, D), row by row: (n,).

    ``normalised`` first scales features to length 1, so that with p = 2 a distance is at most 2.
    ``squared`` returns the mean of |difference|^p over the D features instead, which with p = 2 is the
    perceptual loss of TAaMR (Di Noia et al., "TAaMR: Targeted Adversarial Attack against Multimedia
    Recommender Systems", DSN-W 2020).
    """
    if normalised:
        a, b = functional.normalize(a), functional.normalize(b)
    if squared:
        return (a - b).abs().pow(p).mean(dim=1)
    return torch.linalg.vector_norm(a - b, p, dim=1)


def spread_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the Fréchet distance (n,) of images whose D features each form a normal distribution.

    It is (m1 - m2)^2 + (s1 - s2)^2 with the mean m and the standard deviation s of a row, ``s_fid`` of
    Sun et al., "Privacy Assessment on Reconstructed Images", NeurIPS 2023.
    """
    return (a.mean(dim=1) - b.mean(dim=1)).square() + (a.std(dim=1) - b.std(dim=1)).square()


@dataclass(frozen=True)
class FeatureMetric:
    """Metric of features (n, D); ``name`` is its column in tables."""

    name: str
    higher_is_closer: bool
    distance: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Return the distances (n,) float64."""
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
"""Metrics by the names of their columns; ``feature_cosine`` is 1 - cosine."""


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of features, (n, D) and (m, D), as normal distributions.

    It is |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), which for Inception's features is FID (Heusel et
    al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS
    2017). With S = R^T R the trace of the root is the sum of the singular values of R1 R2^T, which also
    exists for fewer images than features. The distance is NaN for fewer than two images.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    x, y = (torch.from_numpy(features).double() for features in (a, b))
    roots = [_covariance_root(features) for features in (x, y)]
    traces = sum(root.square().sum() for root in roots)
    shared = torch.linalg.matrix_norm(roots[0] @ roots[1].T, "nuc")
    means = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    # For equal sets rounding can give a value slightly below 0.
    return max(0.0, float(means + traces - 2 * shared))


def _covariance_root(features: Tensor) -> Tensor:
    """Return R (min(n, D), D) such that R^T R is the covariance of ``features`` (n, D)."""
    centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centred).R if len(features) > features.shape[1] else centred


# SemSim


def semsim_metric(model: SemSim, *, normalised: bool = True) -> NetworkMetric:
    """Return ``SemSim.score`` as a metric that needs one forward per image for all comparisons."""
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
    """Network of torchvision whose activations LPIPS compares."""

    arch: str
    ends: tuple[int, ...]
    """Ends of the slices of its ``features`` after which activations are compared."""


TRUNKS = {
    "squeeze": Trunk("squeezenet1_1", (2, 5, 8, 10, 11, 12, 13)),
    "alex": Trunk("alexnet", (2, 5, 8, 10, 12)),
    "vgg": Trunk("vgg16", (4, 9, 16, 23, 30)),
}
"""Trunks with published channel weights that were learnt from human judgements."""


class Lpips(nn.Module):
    """LPIPS: weighted squared distances of unit-length activations, mean over positions, sum over layers.

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
        """Build LPIPS from ``slices``, consecutive parts of a network.

        ``channel_weights`` are non-negative (channels,) for each slice; None stands for weights of 1.
        ``size`` is the side in pixels to which images are resized; 0 keeps their size.
        """
        super().__init__()
        self.slices = nn.ModuleList(slices)
        self.channel_weights = channel_weights
        self.size = size
        # The published shift and scale for images in [-1, 1] equal ImageNet's mean and std in [0, 1].
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return activations (n, channels, height, width) of each slice, of length 1 per position."""
        if self.size and images.shape[2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", antialias=True
            )
        output = (images - self.mean) / self.std
        activations = []
        for part in self.slices:
            output = part(output)
            length = (output.square().sum(dim=1, keepdim=True) + _LPIPS_FLOOR).sqrt()
            activations.append(output / length)
        return activations

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Return the distances (n,) of the activations of two batches."""
        weights = self.channel_weights or [torch.ones_like(layer[0, :, 0, 0]) for layer in a]
        layers = zip(a, b, weights, strict=True)
        return sum(
            torch.einsum("nchw,c->nhw", (of_a - of_b).square(), weight).mean(dim=(1, 2))
            for of_a, of_b, weight in layers
        )


def lpips(network: Lpips, a: Tensor, b: Tensor) -> Tensor:
    """Return LPIPS (n,) of the images ``a`` and ``b``, differentiable in both; 0 for equal images."""
    return network.distance(network(a), network(b))


def lpips_metric(network: Lpips) -> NetworkMetric:
    return NetworkMetric("lpips", False, network, network.distance, network.mean.device)


def lpips_weights_file(trunk: str, weights: Path | None = None) -> Path:
    """Return the file of a trunk's ImageNet weights: ``weights``, or torchvision's in the hub cache.

    Raises ``UserError`` with the expected path if the file is missing.
    """
    if weights is None:
        return imagenet_weights_file(TRUNKS[trunk].arch, "--lpips_weights")
    if not weights.is_file():
        raise UserError(
            f"no weights of LPIPS at {weights}: --lpips_weights must be the weights of its trunk"
        )
    return weights


def load_lpips(
    trunk: str = "squeeze",
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    *,
    size: int = 0,
) -> Lpips:
    """Load LPIPS v0.1 on one of ``TRUNKS`` with the weights of ``lpips_weights_file``."""
    arch, ends = TRUNKS[trunk].arch, TRUNKS[trunk].ends
    layers = load_extractor(arch, lpips_weights_file(trunk, weights), device).network.features
    starts = (0, *ends[:-1])
    slices = [layers[start:end] for start, end in zip(starts, ends, strict=True)]
    return Lpips(slices, _learnt_weights(trunk, device), size).to(device)


def _learnt_weights(trunk: str, device: torch.device | str) -> list[Tensor]:
    """Read the channel weights (channels,) of each layer from torchmetrics."""
    package = importlib.metadata.distribution("torchmetrics")
    file = package.locate_file(f"torchmetrics/functional/image/lpips_models/{trunk}.pth")
    entries = torch.load(Path(str(file)), map_location=device, weights_only=True)
    return [entries[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(entries))]
