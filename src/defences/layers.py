"""Operations of a traced network whose outputs can be bounded: affine ones, ReLU and max pooling.

An affine operation moves bounds forward (interval arithmetic) and slopes backward (its transpose). Batch
norm is affine in evaluation mode.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from src.artifacts.errors import UserError

_AFFINE_MODULES = (
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.BatchNorm1d),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout),
)
_AFFINE_FUNCTIONS = {
    *(torch.flatten, torch.mean, torch.add, torch.cat, operator.add, operator.iadd),
    *(operator.getitem, functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.pad),
}
_AFFINE_METHODS = {"flatten", "mean", "add", "add_"}
_POOLING_FUNCTIONS = {functional.max_pool2d}
_RELU_FUNCTIONS = {functional.relu, torch.relu, functional.relu_, torch.relu_}
_RELU_METHODS = {"relu", "relu_"}


@dataclass(frozen=True)
class ReLU:
    """max(x, 0) of a node."""

    source: fx.Node


@dataclass(frozen=True)
class Affine:
    """Affine function of one or more nodes, which are its positional tensors."""

    sources: tuple[fx.Node, ...]
    apply: Callable[..., Tensor]
    """The function; it takes a batch of each source's values."""
    module: nn.Module | None = None

    def interval(self, boxes: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the bounds of the outputs for inputs in the ``boxes`` (low, high)."""
        lows, highs = zip(*boxes, strict=True)
        if isinstance(self.module, nn.Conv2d | nn.Linear):
            centre, radius = (lows[0] + highs[0]) / 2, (highs[0] - lows[0]) / 2
            middle = self.apply(centre)
            spread = self._weigh(radius, self.module.weight.abs())
            return middle - spread, middle + spread
        # All others weigh each entry by one sign: averages, sums, moves, and a factor a channel.
        ends = self.apply(*lows), self.apply(*highs)
        return torch.minimum(*ends), torch.maximum(*ends)

    def backward(self, slopes: Tensor, shapes: list[torch.Size]) -> tuple[list[Tensor], Tensor]:
        """Return slopes (rows, ...) in each source's values, and the constant (rows,).

        ``slopes`` (rows, ...) are those in the outputs, ``shapes`` are the sources' without the batch.
        """
        offset = self.apply(*(slopes.new_zeros(1, *shape) for shape in shapes))
        constant = (slopes * offset).flatten(1).sum(1)
        if isinstance(self.module, nn.Linear):
            return [slopes @ self.module.weight], constant
        if isinstance(self.module, nn.Conv2d):
            of = self.module
            size = (len(slopes), *shapes[0])
            moved = torch.nn.grad.conv2d_input(
                size, of.weight, slopes, of.stride, of.padding, of.dilation, of.groups
            )
            return [moved], constant
        with torch.enable_grad():
            inputs = [slopes.new_zeros(len(slopes), *of, requires_grad=True) for of in shapes]
            outputs = self.apply(*inputs)
        return list(torch.autograd.grad(outputs, inputs, slopes)), constant

    def _weigh(self, values: Tensor, weight: Tensor) -> Tensor:
        of = self.module
        if isinstance(of, nn.Linear):
            return values @ weight.T
        return functional.conv2d(
            values, weight, None, of.stride, of.padding, of.dilation, of.groups
        )


@dataclass(frozen=True)
class MaxPool:
    """Largest value of each window of a node's maps."""

    source: fx.Node
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool

    def apply(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest values (N, C, h, w) of maps (N, C, H, W), and their places in H x W."""
        return functional.max_pool2d(
            maps, self.size, self.stride, self.padding, 1, self.ceil_mode, return_indices=True
        )

    def without(self, maps: Tensor, places: Tensor) -> Tensor:
        """Return the largest value of each window of ``maps`` (1, C, H, W) beside that at its place.

        ``places`` (1, C, h, w) are positions in H x W; a window of one value has -inf.
        """
        (height, width), (rows, columns) = maps.shape[2:], places.shape[2:]
        near = [
            max(0, (count - 1) * stride + size - side - padding)
            for count, stride, size, side, padding in zip(
                *((rows, columns), self.stride, self.size, (height, width), self.padding),
                strict=True,
            )
        ]
        around = (self.padding[1], near[1], self.padding[0], near[0])
        positions = torch.arange(height * width, device=maps.device).view(1, height, width)
        padded = functional.pad(maps[0], around, value=-torch.inf)
        at = functional.pad(positions, around, value=-1)
        windows, at = (
            of.unfold(1, self.size[0], self.stride[0]).unfold(2, self.size[1], self.stride[1])
            for of in (padded, at)
        )
        windows, at = windows[:, :rows, :columns], at[:, :rows, :columns]
        others = windows.masked_fill(at == places[0, ..., None, None], -torch.inf)
        return others.amax(dim=(3, 4))[None]


Operation = Affine | ReLU | MaxPool


def operation_of(node: fx.Node, modules: dict[str, nn.Module]) -> Operation:
    """Return what a node of a traced network computes; ``UserError`` names a layer without bounds."""
    target = node.target
    module = modules[target] if node.op == "call_module" else None
    if isinstance(module, nn.ReLU) or target in _RELU_FUNCTIONS | _RELU_METHODS:
        return ReLU(node.args[0])
    if (pooling := _max_pool_of(node, module)) is not None:
        return pooling
    is_affine = (
        isinstance(module, _AFFINE_MODULES)
        or target in _AFFINE_FUNCTIONS
        or (node.op == "call_method" and target in _AFFINE_METHODS)
    )
    if not is_affine or not _is_plain(node, module):
        kind = type(module).__name__ if module else getattr(target, "__name__", target)
        raise UserError(
            f"layer {node.name} ({kind}) has no bounds: they exist for convolutions, linear layers, "
            "ReLU, pooling, batch norm, flattening and sums"
        )
    sources = tuple(node.all_input_nodes)

    def apply(*values: Tensor) -> Tensor:
        given = dict(zip(sources, values, strict=True))
        arguments = fx.node.map_arg(node.args, given.__getitem__)
        options = fx.node.map_arg(node.kwargs, given.__getitem__)
        if module is not None:
            return module(*arguments, **options)
        if node.op == "call_method":
            return getattr(arguments[0], target)(*arguments[1:], **options)
        return target(*arguments, **options)

    return Affine(sources, apply, module)


def _max_pool_of(node: fx.Node, module: nn.Module | None) -> MaxPool | None:
    """Return the max pooling of a node; None for another operation, and for a dilated one."""
    if isinstance(module, nn.MaxPool2d):
        of = module
    elif node.target in _POOLING_FUNCTIONS:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        of = nn.MaxPool2d(**given)
    else:
        return None
    if of.return_indices or _pair(of.dilation) != (1, 1):
        return None
    sides = (_pair(side) for side in (of.kernel_size, of.stride, of.padding))
    return MaxPool(node.args[0], *sides, of.ceil_mode)


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else tuple(sides)


def _is_plain(node: fx.Node, module: nn.Module | None) -> bool:
    """Return whether an operation of an affine kind is affine with signs as ``Affine`` takes them."""
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        return module.track_running_stats
    if node.target is functional.pad:
        return (node.kwargs.get("mode") or "constant") == "constant" and len(node.args) < 3
    return True
