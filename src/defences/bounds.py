"""Proven bounds of linear functions of an extractor's features over all images within a budget.

A visual recommender's score is linear in the features, so the bound of a row of slopes is a bound of a
user's score. Interval bounds (IBP) go forward, layer by layer. CROWN (Zhang et al., "Efficient neural
network robustness certification with general activation functions", NeurIPS 2018) takes slopes backward
and puts a line above and below each ReLU and each maximum of a window. All is computed in float64.
"""

import copy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, fx

from src.artifacts.errors import UserError
from src.defences.layers import Affine, MaxPool, Operation, ReLU, operation_of
from src.extractors.extractor import Extractor

Method = Literal["crown", "ibp"]
Box = tuple[Tensor, Tensor]
"""Lower and upper bounds, both of one shape."""
_SLOPES_AT_ONCE, _FEWEST_ROWS = 2**19, 16
"""Slopes in the largest layer that are held at once, 4 MB that stay near the processor, and the fewest
rows."""


class Bounded:
    """Features of an extractor as a graph of operations that can be bounded."""

    def __init__(self, extractor: Extractor) -> None:
        """Trace the extractor; ``UserError`` names a part that has no bounds."""
        if extractor.preprocess is not None:
            raise UserError(
                f"{extractor.preprocess.text} in front of the network has no bounds: leave it out"
            )
        network = copy.deepcopy(extractor.network).double().eval().requires_grad_(False)
        try:
            graph = fx.symbolic_trace(network)
        except (fx.proxy.TraceError, TypeError) as error:
            raise UserError(f"{extractor.arch} has no bounds: {error}") from error
        self._output = _features_node(graph, extractor)
        modules = dict(graph.named_modules())
        self.input = next(node for node in graph.graph.nodes if node.op == "placeholder")
        wanted = _behind(self._output)
        self.operations: dict[fx.Node, Operation] = {
            node: operation_of(node, modules)
            for node in graph.graph.nodes
            if node in wanted and node is not self.input
        }
        """Operations in the order of computation."""
        self._mean, self._std = extractor.mean.double(), extractor.std.double()

    def upper_bounds(
        self, image: Tensor, eps: float, slopes: Tensor, method: Method = "crown"
    ) -> Tensor:
        """Return the bounds (rows,) of slopes . f(x) for images x in [0, 1] within ``eps`` of ``image``.

        ``image`` is (3, H, W) in [0, 1], ``slopes`` (rows, features). Lower bounds are minus the upper
        bounds of minus the slopes. A bound of CROWN is never above that of IBP.
        """
        region = _Region(self, self._box(image, eps), refined=method == "crown")
        slopes = slopes.double()
        features = region.boxes[self._output]
        low, high = (_pooled(of).flatten() for of in features)
        by_interval = slopes.clamp(min=0) @ high + slopes.clamp(max=0) @ low
        if method == "ibp":
            return by_interval
        return torch.minimum(by_interval, region.upper(self._output, _spread(slopes, features[0])))

    def highest(
        self, picture: np.ndarray, levels: float, slopes: np.ndarray, method: Method = "crown"
    ) -> np.ndarray:
        """Return ``upper_bounds`` as an array, of a picture (H, W, 3) uint8 within grey ``levels``."""
        image, rows = (torch.from_numpy(of).to(self._mean.device) for of in (picture, slopes))
        pixels = image.permute(2, 0, 1).double() / 255
        return self.upper_bounds(pixels, levels / 255, rows, method).cpu().numpy()

    def _box(self, image: Tensor, eps: float) -> Box:
        pixels = image.double()
        ends = (pixels - eps).clamp(0, 1), (pixels + eps).clamp(0, 1)
        low, high = (((end - self._mean) / self._std)[None] for end in ends)
        return low, high


class _Region:
    """Bounds of every node of a network whose input lies in one box."""

    def __init__(self, network: Bounded, box: Box, *, refined: bool) -> None:
        """Go forward by intervals; ``refined``, inputs of ReLU get CROWN's bounds where sign is open."""
        self._operations = network.operations
        self._input = network.input
        self._box = box
        self.boxes: dict[fx.Node, Box] = {network.input: box}
        exact = {network.input}
        for node, of in network.operations.items():
            if isinstance(of, Affine):
                self.boxes[node] = of.interval([self.boxes[source] for source in of.sources])
                # Intervals through a single affine layer of the input are exact already.
                if of.sources == (network.input,):
                    exact.add(node)
                continue
            if isinstance(of, MaxPool):
                self.boxes[node] = tuple(of.apply(end)[0] for end in self.boxes[of.source])
                continue
            if refined and of.source not in exact:
                self.boxes[of.source] = self._refined(of.source)
            self.boxes[node] = tuple(end.clamp(min=0) for end in self.boxes[of.source])

    def _refined(self, node: fx.Node) -> Box:
        """Return the box of a ReLU's input, tighter where its bounds have two signs."""
        low, high = (end.clone(memory_format=torch.contiguous_format) for end in self.boxes[node])
        open_units = torch.nonzero(((low < 0) & (high > 0)).flatten()).flatten()
        if not len(open_units):
            return low, high
        flat_low, flat_high = low.view(-1), high.view(-1)
        for units in open_units.split(self._rows_at_once):
            rows = low.new_zeros(len(units), low.numel())
            rows[torch.arange(len(units)), units] = 1
            rows = rows.view(-1, *low.shape[1:])
            above, below = self._backward(node, torch.cat([rows, -rows])).chunk(2)
            flat_high[units] = torch.minimum(flat_high[units], above)
            flat_low[units] = torch.maximum(flat_low[units], -below)
        return low, high

    def upper(self, node: fx.Node, slopes: Tensor) -> Tensor:
        """Return upper bounds (rows,) of ``slopes`` (rows, ...) times a node's values, by CROWN."""
        parts = slopes.split(self._rows_at_once)
        return torch.cat([self._backward(node, part) for part in parts])

    @property
    def _rows_at_once(self) -> int:
        largest = max(low.numel() for low, _ in self.boxes.values())
        return max(_FEWEST_ROWS, _SLOPES_AT_ONCE // largest)

    def _backward(self, node: fx.Node, slopes: Tensor) -> Tensor:
        """Take slopes back to a linear bound in the pixels; return its largest value in the box."""
        pending = {node: slopes}
        bound = slopes.new_zeros(len(slopes))
        for current in reversed(self._operations):
            if (of_current := pending.pop(current, None)) is None:
                continue
            operation = self._operations[current]
            if isinstance(operation, ReLU):
                moved, constant = _through_relu(of_current, *self.boxes[operation.source])
                passed = {operation.source: moved}
            elif isinstance(operation, MaxPool):
                moved, constant = _through_maximum(
                    operation, of_current, *self.boxes[operation.source]
                )
                passed = {operation.source: moved}
            else:
                shapes = [self.boxes[source][0].shape[1:] for source in operation.sources]
                slopes_of, constant = operation.backward(of_current, shapes)
                passed = dict(zip(operation.sources, slopes_of, strict=True))
            bound += constant
            for source, values in passed.items():
                pending[source] = pending[source] + values if source in pending else values
        at_pixels = pending[self._input].flatten(1)
        low, high = (end.flatten() for end in self._box)
        return bound + at_pixels.clamp(min=0) @ high + at_pixels.clamp(max=0) @ low


def _through_relu(slopes: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return slopes and constants (rows,) in a ReLU's input, given those in its output.

    Positive slopes take the line above the ReLU, through (low, 0) and (high, high); negative ones the
    line below it, of slope 1 or 0, whichever leaves the smaller area.
    """
    is_open = (low < 0) & (high > 0)
    width = torch.where(is_open, high - low, 1)
    above = torch.where(is_open, high / width, (low >= 0).to(low))
    below = torch.where(is_open, (high > -low).to(low), above)
    offset = torch.where(is_open, -above * low, 0)
    constant = slopes.clamp(min=0).flatten(1) @ offset.flatten()
    return slopes * torch.where(slopes > 0, above, below), constant


def _through_maximum(
    pooling: MaxPool, slopes: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Return slopes and constants (rows,) in the input of a max pooling, given those in its output.

    The maximum is at least the value with the highest lower bound, and equal to it where no other value
    of the window can be larger. Elsewhere positive slopes take a constant: the highest upper bound.
    """
    lowest, places = pooling.apply(low)
    is_equal = lowest >= pooling.without(high, places)
    kept = torch.where((slopes < 0) | is_equal, slopes, 0)
    moved = slopes.new_zeros(len(slopes), *low.shape[1:]).flatten(2)
    moved.scatter_add_(2, places.flatten(2).expand(len(slopes), -1, -1), kept.flatten(2))
    constant = (slopes - kept).flatten(1) @ pooling.apply(high)[0].flatten()
    return moved.view(len(slopes), *low.shape[1:]), constant


def _features_node(graph: fx.GraphModule, extractor: Extractor) -> fx.Node:
    """Return the node whose values are the features, before they are averaged over positions."""
    nodes = graph.graph.nodes
    if extractor.features_layer is None:
        return next(node for node in nodes if node.op == "output").args[0]
    return next(node for node in nodes if node.target == extractor.features_layer).args[0]


def _behind(output: fx.Node) -> set[fx.Node]:
    """Return the nodes that ``output`` is computed from, itself included."""
    found, left = set(), [output]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found


def _pooled(values: Tensor) -> Tensor:
    """Return features (1, D) of values (1, D) or of maps (1, D, H, W), as the extractor averages them."""
    return values.mean(dim=(2, 3)) if values.ndim == 4 else values


def _spread(slopes: Tensor, values: Tensor) -> Tensor:
    """Return slopes in a node's ``values`` that equal ``slopes`` (rows, D) in the features."""
    if values.ndim == 2:
        return slopes
    shape = values.shape[2:]
    return (slopes / shape.numel())[..., None, None].expand(-1, -1, *shape)
