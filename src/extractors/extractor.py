"""Contract of every image network: pixels in, logits and features out of one forward."""

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from src.cli import require_precision
from src.extractors.heads import ClassMeans, Head, Linear, NoHead, ZeroShot
from src.extractors.tf32 import EnterTF32, LeaveTF32, allow_tf32
from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Prediction:
    """Output of an extractor for N images: ``logits`` (N, C) and ``features`` (N, D), both float32.

    ``logits`` is None for an extractor without a head.
    """

    logits: Tensor | None
    features: Tensor


class Preprocess(Protocol):
    """Defence in front of a network."""

    @property
    def text(self) -> str:
        """Name and parameters, for messages."""
        ...

    @property
    def recorded(self) -> str:
        """Name and parameters, for manifests."""
        ...

    @property
    def changes_images(self) -> bool:
        """Whether the network makes one prediction for each image."""
        ...

    @property
    def is_random(self) -> bool:
        """Whether each prediction draws random numbers."""
        ...

    def predict(self, network: Callable[[Tensor], Prediction], images: Tensor) -> Prediction:
        """Return what the defended ``network`` makes of ``images`` (N, 3, H, W) in [0, 1]."""
        ...


class Extractor(nn.Module):
    """Backbone and head; it reads pixels in [0, 1] and returns logits and features.

    The features are the input of a layer of the network, or its output. Maps and tokens are averaged
    over their positions (ResNet50: the 2048 of its pooling). The features of an embedder
    (``embedders.Embedder``) have length 1. Images of one channel are read as grey. Pixels are normalised
    inside and never clamped, so gradients reach every pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        labels: Sequence[str],
        head: str | Head,
        *,
        features: str | None = None,
        arch: str = "",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """Take a ``network`` and the ``labels`` of its classes in order, none for ``NoHead``.

        ``head`` scores the classes; the name of a layer of ``network`` stands for ``Linear``.
        ``features`` is the layer that reads the features; None takes the output of ``network``. A
        linear head reads its own input. ``arch`` is the name that the network was built by. Raises
        ``ValueError`` unless the head has one output for each label.
        """
        super().__init__()
        self.network = network
        self.labels = tuple(labels)
        self.arch = arch
        self.precision: Precision = "fp32"
        """Precision of the passes (autocast, or TF32 on a GPU); parameters stay float32."""
        self.preprocess: Preprocess | None = None
        """Stands in front of the network; None leaves images as they are."""
        self.trained_size: int | None = None
        """Side in pixels of the images that the parameters were trained on; None where no file says."""
        self.weights_file: Path | None = None
        """File that the parameters were read from; None where they were drawn at random."""
        self.head = Linear(head) if isinstance(head, str) else head
        self.features_layer = self.head.layer if isinstance(self.head, Linear) else features
        """Name of the layer whose input the features are; None where they are the network's output."""
        n_outputs = len(self._class_weights) if self.head_scores else 0
        if n_outputs != len(self.labels):
            raise ValueError(f"the head has {n_outputs} outputs for {len(self.labels)} labels")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1))

    @property
    def n_classes(self) -> int:
        return len(self.labels)

    @property
    def head_scores(self) -> bool:
        """Whether the head scores classes."""
        return not isinstance(self.head, NoHead)

    @property
    def n_features(self) -> int:
        """Number of features that the head reads; ``ValueError`` without a head."""
        return self._class_weights.shape[1]

    @property
    def head_name(self) -> str:
        """Name of the layer that is the linear head; ``ValueError`` for any other head."""
        if not isinstance(self.head, Linear):
            raise ValueError(f"{self.arch} has no linear head")
        return self.head.layer

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def is_random(self) -> bool:
        """Whether a defence in front of the network draws random numbers."""
        return self.preprocess is not None and self.preprocess.is_random

    @property
    def _class_weights(self) -> Tensor:
        """Row of the linear layer's weight for each class, or the class's mean or text embedding."""
        if isinstance(self.head, ClassMeans):
            return self.head.means
        if isinstance(self.head, ZeroShot):
            return self.head.texts
        return self.network.get_submodule(self.head_name).weight

    def forward(self, images: Tensor) -> Prediction:
        """Classify ``images`` (N, 3 or 1, height, width), float in [0, 1], on this extractor's device."""
        if self.preprocess is not None:
            return self.preprocess.predict(self._predict, images)
        return self._predict(images)

    def _predict(self, images: Tensor) -> Prediction:
        images = (images - self.mean) / self.std
        if self.precision == "tf32":
            features, output = LeaveTF32.apply(*self._read(EnterTF32.apply(images)))
        else:
            # A backward pass in TF32 that ended at weights has left it on.
            allow_tf32(False)
            with self._autocast(images.device):
                features, output = self._read(images)
        features = features.float()
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        elif features.ndim == 3:
            features = features.mean(dim=1)
        return Prediction(self.head(features, output.float()), features)

    def _autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        if self.precision not in _AUTOCAST:
            return contextlib.nullcontext()
        return torch.autocast(device.type, _AUTOCAST[self.precision])

    def _read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and output of the network for normalised ``images``."""
        if self.features_layer is None:
            output = self.network(images)
            return output, output
        inputs: list[Tensor] = []
        layer = self.network.get_submodule(self.features_layer)
        hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            output = self.network(images)
        finally:
            hook.remove()
        return inputs[0], output

    def replaced(
        self,
        *,
        network: nn.Module | None = None,
        head: ClassMeans | ZeroShot | None = None,
        labels: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> "Extractor":
        """Return an extractor with the given parts; it shares all others with this one."""
        other = Extractor(
            network or self.network,
            self.labels if labels is None else labels,
            head or self.head,
            features=self.features_layer,
            arch=self.arch,
            mean=self.mean.flatten().tolist() if mean is None else mean,
            std=self.std.flatten().tolist() if std is None else std,
        ).to(self.device)
        other.precision, other.training = self.precision, self.training
        other.preprocess = self.preprocess
        other.trained_size, other.weights_file = self.trained_size, self.weights_file
        return other


def fast_layout(precision: Precision, device: torch.device) -> torch.memory_format:
    """Return the order in memory of images and weights in which convolutions are fast.

    Channels are last, except in fp32 on a GPU: with them last the tuned copy was slower there than the
    exact network. Tensor cores, for which that order is made, do not compute in fp32.
    """
    planes = precision == "fp32" and device.type != "cpu"
    return torch.contiguous_format if planes else torch.channels_last


def fast_copy(extractor: Extractor, precision: Precision = "fp32") -> Extractor:
    """Return a tuned copy for forward and attack passes; the original stays unchanged and judges.

    Evaluation mode, frozen parameters, batch norm folded into the convolutions before it, the order in
    memory of ``fast_layout``, and with ``bf16`` or ``fp16`` autocast (casting the parameters themselves
    is slower on a CPU). In fp32 logits and features differ from the original's by rounding only.
    Raises ``UserError`` for ``tf32`` on the CPU.
    """
    require_precision(precision, on_cpu=extractor.device.type == "cpu")
    fast = copy.deepcopy(extractor).eval().requires_grad_(False)
    layout = fast_layout(precision, extractor.device)
    fast.network = _fold_batch_norms(fast.network).to(memory_format=layout)
    fast.precision = precision
    return fast


def _fold_batch_norms(network: nn.Module) -> nn.Module:
    """Merge each batch norm into the convolution before it; ``network`` is changed.

    A network that has none is returned unchanged, and so is one whose control flow cannot be traced.
    """
    if not any(type(module) is nn.BatchNorm2d for module in network.modules()):
        return network  # a traced network would print a traceback for images that it cannot read
    try:
        graph = fx.symbolic_trace(network)
    except (
        Exception
    ):  # code of other authors, run on stand-ins for tensors, raises errors of any kind
        return network
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if (
            not isinstance(source, fx.Node)
            or source.op != "call_module"
            or len(source.users) > 1
            or type(modules[node.target]) is not nn.BatchNorm2d
            or type(modules[source.target]) is not nn.Conv2d
        ):
            continue
        fused = fuse_conv_bn_eval(modules[source.target], modules[node.target])
        graph.set_submodule(source.target, fused)
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
