"""Class activation maps, which show where in an image a read-out of features comes from, and masks.

A read-out is a direction v in feature space; its value is s = v . f. The rows of the head are the class
read-outs, E theta_u is that of a recommender. If the features f are the spatial means of maps A,

    M(i, j) = (1 / hw) sum_k v_k A_k(i, j),   so that   sum_ij M = v . f   exactly,

and M is CAM (Zhou et al., CVPR 2016), Grad-CAM without its ReLU (Selvaraju et al., ICCV 2017) and
HiResCAM (Draelos and Carin 2020) at once, without a backward pass. Otherwise Grad-CAM is computed by
differentiation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.architectures import input_size
from src.extractors.extractor import Extractor, Prediction

Norm = str
"""Name of a normalisation: ``l2``, ``minmax``, ``sum``, ``softmax``, or ``softmax_T`` (temperature T)."""
Fill = Literal["mean", "zero", "blur"]

_TINY = 1e-8


@dataclass(frozen=True)
class Attended(Prediction):
    """Prediction with the ``maps`` (N, K, h, w) float32 of the watched layer."""

    maps: Tensor


class Watched:
    """Extractor that also returns the maps of one of its layers: images -> ``Attended``."""

    def __init__(self, extractor: Extractor, layer: str | None = None) -> None:
        """Watch ``layer``, the dotted name of a module of ``extractor.network``, in its last call.

        None chooses the last layer whose spatial means are the features or, without one, the last layer
        with spatial maps. Raises ``UserError`` for an unknown name, if no layer has spatial maps, and for
        a defence that asks for several predictions of an image.
        """
        if extractor.preprocess and not extractor.preprocess.changes_images:
            raise UserError(
                f"{extractor.preprocess.text} asks the network more than once for an image, so that no "
                "map is its attention"
            )
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
        """True if the features are the means of these maps, so that attention has a closed form."""

    def __call__(self, images: Tensor) -> Attended:
        """Predict ``images`` (N, 3 or 1, H, W) in [0, 1] with one forward."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            if self.averaged:
                # This tensor is no copy, since a later in-place ReLU, as in DenseNet, must change it too:
                # the features are means of the changed maps.
                kept.append(output)
                return output
            # The kept tensor stays in the graph; later in-place layers change only the returned copy.
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
        """Return signed maps (N, h, w) of the read-outs ``directions`` (N, D) of each image.

        If ``averaged``, the maps have a closed form and sum to the read-out's value. Otherwise they are
        Grad-CAM without its ReLU, for which ``attended`` must have been made with gradients enabled;
        ``differentiable`` keeps the graph through the gradient (double backward).
        """
        gradient = self.gradient(attended, directions, differentiable=differentiable)
        return torch.einsum("nk,nkhw->nhw", gradient.mean(dim=(2, 3)), attended.maps)

    def gradient(
        self, attended: Attended, directions: Tensor, *, differentiable: bool = False
    ) -> Tensor:
        """Return ds/dA of the read-outs: (N, K, 1, 1) in closed form, else (N, K, h, w)."""
        maps = attended.maps
        if self.averaged:
            return directions[:, :, None, None] / maps[0, 0].numel()
        value = (directions * attended.features).sum()
        (gradient,) = torch.autograd.grad(
            value, maps, create_graph=differentiable, retain_graph=True
        )
        return gradient


def class_directions(extractor: Extractor, classes: Tensor) -> Tensor:
    """Return read-outs (N, D) of ``classes`` (N,) int64: rows of the linear or convolutional head.

    A logit is the read-out's value plus a bias. A convolutional head (SqueezeNet) also clips at 0 at each
    position.
    """
    weight = extractor.network.get_submodule(extractor.head_name).weight
    return weight.flatten(2).mean(dim=2)[classes] if weight.ndim == 4 else weight[classes]


def energy(maps: Tensor) -> Tensor:
    """Return sum_k A_k^2 of maps (N, K, h, w), attention without read-out (Zagoruyko, Komodakis 2017)."""
    return maps.square().sum(dim=1)


def normalise(maps: Tensor, kind: Norm) -> Tensor:
    """Normalise each of the maps (N, h, w) separately, so that no map depends on other images.

    l2: to length 1. softmax_T: exp(M/T) / sum exp(M/T). minmax: to [0, 1], for display. sum: the positive
    part scaled to the sum 1; a map without a positive part becomes uniform. Raises ``ValueError`` for
    other names.
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
    """Return distances (N,) of maps (N, h, w): l2 (squared), l1, cos (1 - cosine), js (in nats).

    Maps for js must sum to 1.
    """
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
    """Return KL(first || second), (N,); 0 log 0 = 0 with a finite gradient."""
    tiny = torch.finfo(first.dtype).tiny
    return (first * (first.clamp_min(tiny).log() - second.clamp_min(tiny).log())).sum(dim=1)


def temperature(kind: Norm) -> float:
    """Return T of ``softmax_T``, which is 1 for ``softmax``; ``ValueError`` for other names."""
    name, _, number = kind.partition("_")
    value = float(number) if number else 1.0
    if name != "softmax" or not value > 0:
        raise ValueError(f"unknown normalisation {kind!r}")
    return value


def top_cells(maps: Tensor, share: float) -> Tensor:
    """Mark the ceil(``share`` hw) largest cells of each map (N, h, w); ties go to the lower index."""
    flat = maps.flatten(1)
    # The subtraction keeps a product such as .125 * 64 from rounding up to 9 cells.
    n_cells = math.ceil(share * flat.shape[1] - 1e-9)
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :n_cells]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True).view_as(maps)


def above_mean(maps: Tensor) -> Tensor:
    """Mark the cells of each map (N, h, w) above its mean."""
    return maps > maps.mean(dim=(1, 2), keepdim=True)


def soft_cells(maps: Tensor) -> Tensor:
    """Return sigmoid(10 (minmax(M) - 0.5)) in (0, 1), differentiable (GAIN; Li et al., CVPR 2018)."""
    return torch.sigmoid(10 * (normalise(maps, "minmax") - 0.5))


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return intersection over union (N,) of masks (N, h, w) bool; 1 for two empty masks."""
    union = (first | second).sum(dim=(1, 2))
    both = (first & second).sum(dim=(1, 2))
    return torch.where(union > 0, both / union.clamp_min(1), 1.0)


def erase(images: Tensor, cells: Tensor, fill: Tensor | float) -> Tensor:
    """Replace the ``cells`` (N, h, w), bool or shares in [0, 1], of ``images`` (N, C, H, W) by ``fill``.

    Cells are enlarged to pixels, bool cells with sharp borders. ``fill`` is a pixel value or a tensor
    that broadcasts against the images, such as ``fill_of``.
    """
    mode = "nearest" if cells.dtype == torch.bool else "bilinear"
    mask = functional.interpolate(cells[:, None].to(images.dtype), images.shape[2:], mode=mode)
    if not isinstance(fill, Tensor):
        fill = images.new_full((), fill)
    return torch.lerp(images, fill.to(images).expand_as(images), mask)


def fill_of(extractor: Extractor, images: Tensor, kind: Fill) -> Tensor | float:
    """Return the fill of erased pixels: the mean of the network's normalisation, mid-grey or a blur.

    Mid-grey is the 0 of networks that read pixels in [-1, 1], as published (Wu et al. 2018).
    """
    if kind == "zero":
        return 0.5
    if kind == "mean":
        # A network without normalisation has the mean 0, and black is no neutral fill.
        # ``if`` would wait for a GPU in every step.
        return torch.where(extractor.mean.any(), extractor.mean, 0.5)
    from torchvision.transforms.functional import gaussian_blur

    side = min(images.shape[2:])
    kernel = side // 4 * 2 + 1
    return gaussian_blur(images, [kernel, kernel], [side / 8, side / 8])


@torch.no_grad()
def _probe(extractor: Extractor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the outputs (N, K, h, w) of spatial modules in the order of last calls, and the features."""
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
    preprocess, extractor.preprocess = extractor.preprocess, None  # it may not read this size
    try:
        features = extractor(image).features
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in zip(modules.values(), modes, strict=True):
            module.training = mode
        extractor.precision, extractor.preprocess = precision, preprocess
    return outputs, features


def _averages_to(maps: Tensor, features: Tensor) -> bool:
    if maps.shape[:2] != features.shape:
        return False
    return torch.allclose(maps.mean(dim=(2, 3)), features, rtol=1e-3, atol=1e-5)


def _some(names: dict[str, Tensor]) -> str:
    """Return the outermost names, for a message."""
    outer = [name for name in names if "." not in name]
    return f"choose from {', '.join(outer or list(names)[-8:])}"
