"""The one interface of every image network: pixels in, logits and features out of one forward."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from src.artifacts.errors import UserError
from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD

Precision = Literal["fp32", "bf16", "fp16"]
_AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Prediction:
    """Output of a network for N images: ``logits`` (N, C) and ``features`` (N, D), both float32."""

    logits: Tensor
    features: Tensor


class Preprocess(Protocol):
    """A step in front of a network: images in, images of the same shape out."""

    @property
    def text(self) -> str:
        """Its name and parameters, for manifests."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Change ``images`` (N, 3, H, W) in [0, 1], with gradients."""
        ...


class Extractor(nn.Module):
    """A backbone and a head of classes: reads pixels in [0, 1], returns logits and features.

    The features are the input of the head; a map is averaged over its positions (ResNet50: the 2048 of
    its pooling). The features of an embedder (``embedders.Embedder``) have length 1. Images of one
    channel are read as grey. Pixels are normalised inside and never clamped, so gradients reach every
    pixel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        labels: Sequence[str],
        head: str,
        *,
        arch: str = "",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """``labels`` names the classes in order, ``head`` the layer of ``network`` that scores them.

        ``arch`` is the name that the network was built by. Raises ``ValueError`` when the head has not
        one output for each label.
        """
        super().__init__()
        self.network = network
        self.labels = tuple(labels)
        self.arch = arch
        self.precision: Precision = "fp32"
        """Precision of the forward pass (autocast); parameters stay float32."""
        self.preprocess: Preprocess | None = None
        """Changes images before they are normalised; None leaves them as they are."""
        self.trained_size: int | None = None
        """Side in pixels of the images that the parameters were trained on; None where no file says."""
        self.weights_file: Path | None = None
        """File that the parameters were read from; None where they were drawn at random."""
        self.head_name = head
        n_outputs = len(network.get_submodule(head).weight)
        if n_outputs != len(self.labels):
            raise ValueError(
                f"the head {head} has {n_outputs} outputs for {len(self.labels)} labels"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1))

    @property
    def n_classes(self) -> int:
        return len(self.labels)

    @property
    def n_features(self) -> int:
        return self.network.get_submodule(self.head_name).weight.shape[1]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def forward(self, images: Tensor) -> Prediction:
        """Classify ``images`` (N, 3 or 1, height, width), float in [0, 1], on this extractor's device."""
        if self.preprocess is not None:
            images = _changed(images, self.preprocess)
        head_inputs: list[Tensor] = []
        head = self.network.get_submodule(self.head_name)
        hook = head.register_forward_pre_hook(lambda _, inputs: head_inputs.append(inputs[0]))
        try:
            dtype = _AUTOCAST[self.precision]
            with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
                logits = self.network((images - self.mean) / self.std)
        finally:
            hook.remove()
        features = head_inputs[0].float()
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        return Prediction(logits.float(), features)


def _changed(images: Tensor, preprocess: Preprocess) -> Tensor:
    changed = preprocess(images)
    if changed.shape != images.shape:
        shapes = " to ".join("x".join(map(str, of.shape[1:])) for of in (images, changed))
        raise UserError(f"{preprocess.text} turns images of {shapes}: a defence keeps their shape")
    return changed


def fast_copy(extractor: Extractor, precision: Precision = "fp32") -> Extractor:
    """A tuned copy for forward and attack passes; the original stays as it was and judges.

    Evaluation mode, frozen parameters, batch norm folded into the convolutions before it, channels
    last, and with ``bf16`` or ``fp16`` autocast (casting the parameters themselves is slower on a
    CPU). In fp32 logits and features differ from the original's by rounding only.
    """
    fast = copy.deepcopy(extractor).eval().requires_grad_(False)
    fast.network = _fold_batch_norms(fast.network).to(memory_format=torch.channels_last)
    fast.precision = precision
    return fast


def _fold_batch_norms(network: nn.Module) -> nn.Module:
    """Merge each batch norm into the convolution that alone feeds it; ``network`` is consumed.

    A network whose control flow cannot be traced is returned as it is.
    """
    try:
        graph = fx.symbolic_trace(network)
    except (fx.proxy.TraceError, TypeError):
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
