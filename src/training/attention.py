"""Attention of a network in training: maps that a recipe reads, preserves and erases by.

Activation rectification and preservation (ARP) after Wu et al., "Attention, Please! Adversarial Defense
via Activation Rectification and Preservation" (2018; ACM TOMM 2023), whose published code gives the
exact maps and masks of the ``paper`` preset.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from src.artifacts.errors import UserError
from src.extractors.attention import (
    Attended,
    Fill,
    Norm,
    Watched,
    above_mean,
    class_directions,
    energy,
    erase,
    fill_of,
    map_distance,
    normalise,
    soft_cells,
    top_cells,
)
from src.extractors.extractor import Extractor
from src.training.views import Views

_NO_SCALE = 1e-5


@dataclass(frozen=True)
class Attention:
    """Maps (N, h, w) that a recipe reads: signed, and each of one image alone."""

    layer: str | None = None
    """Layer of the network; None for the last one with spatial maps."""
    map: Literal["cam", "gradcam", "energy"] = "cam"
    """cam: closed form only. gradcam: differentiation if there is no closed form. energy: no read-out."""
    label: Literal["true", "pred"] = "true"
    """Class whose read-out is mapped: the true or the predicted one."""
    scale: Literal["image", "batch"] = "image"
    """Scale of maps. batch, as published, divides by the root mean square of the batch's gradient."""

    def watch(self, extractor: Extractor) -> Watched:
        """Return the watched ``extractor``; ``UserError`` without the layer or a closed form."""
        watched = Watched(extractor, self.layer)
        if self.map == "cam" and not watched.averaged:
            raise UserError(
                f"{extractor.arch} has no closed form of attention at {watched.layer}: --arp map=gradcam"
            )
        return watched

    def maps(self, watched: Watched, attended: Attended, classes: Tensor) -> Tensor:
        """Return the maps of images of ``classes`` (N,) int64; gradients flow through."""
        if self.map == "energy":
            return energy(attended.maps)
        shown = classes if self.label == "true" else attended.logits.argmax(dim=1)
        directions = class_directions(watched.extractor, shown)
        gradient = watched.gradient(
            attended, directions, differentiable=attended.maps.requires_grad
        )
        if self.scale == "batch":
            gradient = gradient / (gradient.square().mean().sqrt() + _NO_SCALE)
        return torch.einsum("nk,nkhw->nhw", gradient.mean(dim=(2, 3)), attended.maps)


@dataclass(frozen=True)
class Cells:
    """Rule that says which cells of a map count as attended."""

    kind: Literal["hard_topq", "hard_mean", "soft"] = "hard_topq"
    share: float = 0.125
    """Share of the cells that hard_topq marks."""
    norm: Norm = "l2"
    """Normalisation of the map whose mean hard_mean takes; the mean of a softmax is 1 / hw."""

    def of(self, maps: Tensor) -> Tensor:
        """Mark cells (N, h, w): bool, or soft ones in (0, 1), which alone have a gradient."""
        match self.kind:
            case "hard_topq":
                return top_cells(maps.detach(), self.share)
            case "hard_mean":
                return above_mean(normalise(maps.detach(), self.norm))
            case _:
                return soft_cells(maps)


TOP_CELLS = Cells()


@dataclass(frozen=True)
class Preserve:
    """Term L_p: attention to a perturbed image should equal that to the benign one; 0 if maps agree."""

    norm: Norm = "l2"
    distance: Literal["l2", "l1", "cos", "js"] = "l2"
    """l2 is the squared distance."""
    teacher: Literal["self", "stopgrad", "frozen"] = "self"
    """Source of the benign map: the network, the network without a gradient, or the network before
    training."""
    enlarged: bool = False
    """True compares pixels after bilinear enlargement, as published."""
    reduction: Literal["mean", "sum"] = "mean"
    """Reduction over the images; the published sum makes the term's weight grow with the batch."""

    def __call__(self, views: Views) -> Tensor:
        clean = {
            "self": lambda: views.benign_map,
            "stopgrad": lambda: views.benign_map.detach(),
            "frozen": lambda: views.teacher_map,
        }[self.teacher]()
        first, second = normalise(clean, self.norm), normalise(views.perturbed_map, self.norm)
        if self.enlarged:
            first, second = enlarge(first, views.images), enlarge(second, views.images)
        apart = map_distance(first, second, self.distance)
        return apart.sum() if self.reduction == "sum" else apart.mean()


def enlarge(maps: Tensor, images: Tensor) -> Tensor:
    """Enlarge maps (N, h, w) bilinearly to the size of ``images`` (N, C, H, W)."""
    return functional.interpolate(maps[:, None], images.shape[2:], mode="bilinear").squeeze(1)


@dataclass(frozen=True)
class Rectify:
    """Term L_r: the prediction must change without the attended cells, so that attention is complete.

    -1/2 sum over branches and classes of (f(x) - f(x_m))^2, where x_m is x with its attended cells
    erased. A branch is clean or perturbed images, each erased by its own map.
    """

    cells: Cells = TOP_CELLS
    fill: Fill = "mean"
    branches: Literal["both", "clean", "adv"] = "both"
    every: int = 1
    """Interval n of steps: the term counts in every n-th step, with n times the weight."""
    batch_norm: Literal["eval", "separate", "shared"] = "separate"
    """Statistics of batch norm for erased images: running ones (eval), those of their batch (separate),
    or those of their batch, which also change the running ones (shared). With eval training
    minimises the term by driving the two modes of batch norm apart: the network then withstands images in
    training mode that fool it in evaluation mode (CIFAR-10: 10 % under PGD-20, with separate 27)."""
    cap: float | None = None
    """Largest useful sum over classes: a prediction that changed so much need not change more."""
    enlarged: bool = False
    """True takes pixels of the softmax of the enlarged map as cells, as published."""
    over_classes: Literal["sum", "mean"] = "sum"
    """mean is as published: it vanishes for many classes, and is not halved."""

    def __call__(self, views: Views) -> Tensor:
        if views.step % self.every:
            return views.images.new_zeros(())
        branches = self._branches(views)
        images = torch.cat([images for images, _, _ in branches])
        full = torch.cat([prediction.logits for _, prediction, _ in branches]).softmax(dim=1)
        maps = torch.cat([maps for _, _, maps in branches])
        if self.enlarged:
            maps = enlarge(normalise(maps, "softmax"), images)
        cells = self.cells.of(maps)
        extractor = views.network.extractor
        erased = erase(images, cells, fill_of(extractor, images, self.fill))
        with batch_norms(extractor, self.batch_norm):
            without = extractor(erased).logits.softmax(dim=1)
        change = (full - without).square().sum(dim=1)
        if self.cap is not None:
            change = change.clamp_max(self.cap)
        weight = 0.5 if self.over_classes == "sum" else 1 / full.shape[1]
        return -self.every * weight * change.mean() * len(branches)

    def _branches(self, views: Views) -> list[tuple[Tensor, Attended, Tensor]]:
        """Return images, the network's predictions for them, and its maps of them."""
        chosen = []
        if self.branches != "adv":
            chosen.append((views.images, views.benign, views.benign_map))
        if self.branches != "clean":
            chosen.append((views.points, views.perturbed, views.perturbed_map))
        return chosen


@contextlib.contextmanager
def batch_norms(
    extractor: Extractor, kind: Literal["eval", "separate", "shared"]
) -> Iterator[None]:
    """Set how batch norm treats erased images, and put everything back at the end.

    eval uses the running statistics, separate those of the batch without changing the running ones, and
    shared those of the batch as for any other batch.
    """
    modules = [module for module in extractor.modules() if isinstance(module, _BatchNorm)]
    before = [(module.training, module.momentum) for module in modules]
    try:
        for module in modules:
            if kind == "eval":
                module.eval()
            elif kind == "separate":
                module.momentum = 0.0
        yield
    finally:
        for module, (training, momentum) in zip(modules, before, strict=True):
            module.training, module.momentum = training, momentum
