"""Where in an image a read-out of the features comes from: class activation maps and their masks.

A read-out is a direction v in feature space; its value is s = v . f. The rows of the head are the class
read-outs, E theta_u that of a recommender. Where the features f are the spatial means of maps A,

    M(i, j) = (1 / hw) sum_k v_k A_k(i, j),   so that   sum_ij M = v . f   exactly,

and M is CAM (Zhou et al., CVPR 2016), Grad-CAM without its ReLU (Selvaraju et al., ICCV 2017) and
HiResCAM (Draelos and Carin 2020) at once, without a backward pass. Elsewhere Grad-CAM is taken by
differentiation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from src.artifacts.errors import UserError
from src.extractors.architectures import input_size
from src.extractors.extractor import Extractor, Prediction

Norm = str
"""``l2``, ``minmax``, ``sum``, ``softmax``, or ``softmax_T`` with a temperature T."""
Fill = Literal["mean", "zero", "blur"]

_TINY = 1e-8


@dataclass(frozen=True)
class Attended(Prediction):
    """A prediction and the ``maps`` (N, K, h, w) float32 of the watched layer that led to it."""

    maps: Tensor


class Watched:
    """An extractor that also returns the maps of one of its layers: images -> ``Attended``."""

    def __init__(self, extractor: Extractor, layer: str | None = None) -> None:
        """``layer``: dotted name of a module of ``extractor.network``, whose last call counts.

        None: the last one whose spatial means are the features; where there is none, the last one that
        has spatial maps at all. Raises ``UserError`` for an unknown name and where nothing is spatial.
        """
        self.extractor = extractor
        outputs, features = _probe(extractor)
        averaged = [name for name, maps in outputs.items() if _averages_to(maps, features)]
        if layer is None:
            if not outputs:
                raise UserError(f"{extractor.arch} has no layer with spatial maps")
            layer = (averaged or list(outputs))[-1]
        elif layer not in outputs:
            raise UserError(f"{extractor.arch} has no spatial layer {layer!r}: {_some(outputs)}")
        self.layer = layer
        self.averaged = layer in averaged
        """Whether the features are the means of these maps, and attention has its closed form."""

    def __call__(self, images: Tensor) -> Attended:
        """Of ``images`` (N, 3 or 1, H, W) in [0, 1]; one forward."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            if self.averaged:
                # Also what is done to it in place afterwards, as DenseNet's ReLU: that is averaged.
                kept.append(output)
                return output
            # What is kept stays in the graph that follows, which changes no more than a copy.
            kept.append(output.float())
            return kept[-1].to(output.dtype, copy=True)

        hook = self.extractor.network.get_submodule(self.layer).register_forward_hook(keep)
        try:
            prediction = self.extractor(images)
        finally:
            hook.remove()
        return Attended(prediction.logits, prediction.features, kept[-1].float())

    def attention(
        self, attended: Attended, directions: Tensor, *, differentiable: bool = False
    ) -> Tensor:
        """Signed maps (N, h, w) of the read-outs ``directions`` (N, D) of each image.

        In closed form where ``averaged``; their sum is then the read-out's value. Otherwise Grad-CAM
        without its ReLU, for which ``attended`` must have been made with gradients enabled;
        ``differentiable`` keeps the graph through the gradient itself (double backward).
        """
        gradient = self.gradient(attended, directions, differentiable=differentiable)
        return torch.einsum("nk,nkhw->nhw", gradient.mean(dim=(2, 3)), attended.maps)

    def gradient(
        self, attended: Attended, directions: Tensor, *, differentiable: bool = False
    ) -> Tensor:
        """ds/dA of the read-outs: (N, K, 1, 1) in closed form, the same everywhere, else (N, K, h, w)."""
        maps = attended.maps
        if self.averaged:
            return directions[:, :, None, None] / maps[0, 0].numel()
        value = (directions * attended.features).sum()
        (gradient,) = torch.autograd.grad(
            value, maps, create_graph=differentiable, retain_graph=True
        )
        return gradient


def class_directions(extractor: Extractor, classes: Tensor) -> Tensor:
    """Read-outs (N, D) of ``classes`` (N,) int64: rows of the head, which is linear or convolutional.

    A logit is the read-out's value plus a bias; that of a convolutional head (SqueezeNet) is clipped at
    0 position by position besides.
    """
    weight = extractor.network.get_submodule(extractor.head_name).weight
    return weight.flatten(2).mean(dim=2)[classes] if weight.ndim == 4 else weight[classes]


def energy(maps: Tensor) -> Tensor:
    """sum_k A_k^2 of maps (N, K, h, w): attention without a read-out (Zagoruyko and Komodakis 2017)."""
    return maps.square().sum(dim=1)


def normalise(maps: Tensor, kind: Norm) -> Tensor:
    """Maps (N, h, w), each by itself: never over the batch, or an image's map depends on the others.

    l2: of length 1. softmax_T: exp(M/T) / sum exp(M/T). minmax: to [0, 1], for display. sum: the
    positive part, summing to 1; a map without one becomes uniform. Raises ``ValueError`` for other names.
    """
    flat = maps.flatten(1)
    match kind:
        case "l2":
            flat = flat / (flat.norm(dim=1, keepdim=True) + _TINY)
        case "minmax":
            low, high = flat.aminmax(dim=1, keepdim=True)
            flat = (flat - low) / (high - low + _TINY)
        case "sum":
            positive = flat.relu()
            total = positive.sum(dim=1, keepdim=True)
            uniform = torch.full_like(positive, 1 / flat.shape[1])
            flat = torch.where(total > 0, positive / total.clamp_min(_TINY), uniform)
        case _:
            flat = (flat / temperature(kind)).softmax(dim=1)
    return flat.view_as(maps)


def map_distance(first: Tensor, second: Tensor, kind: str) -> Tensor:
    """Distances (N,) of maps (N, h, w): l2 (squared), l1, cos (1 - cosine), js (of sums of 1, nats)."""
    first, second = first.flatten(1), second.flatten(1)
    match kind:
        case "l2":
            return (first - second).square().sum(dim=1)
        case "l1":
            return (first - second).abs().sum(dim=1)
        case "cos":
            return 1 - functional.cosine_similarity(first, second, dim=1)
        case "js":
            middle = (first + second) / 2
            return (_divergence(first, middle) + _divergence(second, middle)) / 2
    raise ValueError(f"unknown distance {kind!r}")


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second), (N,); 0 log 0 = 0, with a finite gradient there."""
    tiny = torch.finfo(first.dtype).tiny
    return (first * (first.clamp_min(tiny).log() - second.clamp_min(tiny).log())).sum(dim=1)


def temperature(kind: Norm) -> float:
    """T of ``softmax_T``; 1 for ``softmax`` alone. Raises ``ValueError`` for what is none."""
    name, _, number = kind.partition("_")
    value = float(number) if number else 1.0
    if name != "softmax" or not value > 0:
        raise ValueError(f"unknown normalisation {kind!r}")
    return value


def top_cells(maps: Tensor, share: float) -> Tensor:
    """The ceil(``share`` hw) largest cells of each map (N, h, w), bool; ties go to the lower index."""
    flat = maps.flatten(1)
    # The tiny excess keeps a product like .125 * 64 from rounding up to 9 cells.
    n_cells = math.ceil(share * flat.shape[1] - 1e-9)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :n_cells]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True).view_as(maps)


def above_mean(maps: Tensor) -> Tensor:
    """Cells of each map (N, h, w) above its own mean, bool."""
    return maps > maps.mean(dim=(1, 2), keepdim=True)


def above_half_max(maps: Tensor) -> Tensor:
    """Cells of each map (N, h, w) above half of its largest value, bool."""
    return maps > 0.5 * maps.amax(dim=(1, 2), keepdim=True)


def soft_cells(maps: Tensor) -> Tensor:
    """sigmoid(10 (minmax(M) - 0.5)) in (0, 1), differentiable (GAIN; Li et al., CVPR 2018)."""
    return torch.sigmoid(10 * (normalise(maps, "minmax") - 0.5))


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union (N,) of masks (N, h, w) bool; that of two empty ones is 1."""
    union = (first | second).sum(dim=(1, 2))
    both = (first & second).sum(dim=(1, 2))
    return torch.where(union > 0, both / union.clamp_min(1), 1.0)


def erase(images: Tensor, cells: Tensor, fill: Tensor | float) -> Tensor:
    """``images`` (N, C, H, W) with ``fill`` where ``cells`` (N, h, w) are: bool, or shares in [0, 1].

    Cells are enlarged to pixels, bool ones with sharp borders. ``fill`` is a pixel value or broadcasts
    against the images, like ``fill_of``.
    """
    mode = "nearest" if cells.dtype == torch.bool else "bilinear"
    mask = functional.interpolate(cells[:, None].to(images.dtype), images.shape[2:], mode=mode)
    return torch.lerp(images, torch.as_tensor(fill).to(images).expand_as(images), mask)


def fill_of(extractor: Extractor, images: Tensor, kind: Fill) -> Tensor | float:
    """What erased pixels become: the mean that the network subtracts, mid-grey, or the image blurred.

    Mid-grey is the 0 of networks that read pixels in [-1, 1], as published (Wu et al. 2018).
    """
    if kind == "zero":
        return 0.5
    if kind == "mean":
        # A network that normalises nothing has no mean of its own; black would be no neutral fill.
        return extractor.mean if extractor.mean.any() else 0.5
    side = min(images.shape[2:])
    kernel = side // 4 * 2 + 1
    return gaussian_blur(images, [kernel, kernel], [side / 8, side / 8])


@torch.no_grad()
def _probe(extractor: Extractor) -> tuple[dict[str, Tensor], Tensor]:
    """Outputs (N, K, h, w) of all spatial modules in the order of their last calls, and the features."""
    side = input_size(extractor.arch) if extractor.arch else 224
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, side, side, generator=generator).to(extractor.device)
    outputs: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            outputs.pop(name, None)
            if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
                outputs[name] = output.float()

        return hook

    modules = dict(extractor.network.named_modules())
    hooks = [module.register_forward_hook(remember(name)) for name, module in modules.items()]
    modes = [module.training for module in modules.values()]
    extractor.network.eval()
    precision, extractor.precision = extractor.precision, "fp32"  # means are compared below
    try:
        features = extractor(image).features
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in zip(modules.values(), modes, strict=True):
            module.training = mode
        extractor.precision = precision
    return outputs, features


def _averages_to(maps: Tensor, features: Tensor) -> bool:
    if maps.shape[:2] != features.shape:
        return False
    return torch.allclose(maps.mean(dim=(2, 3)), features, rtol=1e-3, atol=1e-5)


def _some(names: dict[str, Tensor]) -> str:
    """The outermost of them, for a message."""
    outer = [name for name in names if "." not in name]
    return f"choose from {', '.join(outer or list(names)[-8:])}"
