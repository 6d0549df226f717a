"""Networks of the timm library (an optional extra), as ``timm:<name>`` or ``timm:<name>.<tag>``.

Baselines of Kurakin et al. 2017 and Tramer et al. 2018, trained on single-step adversaries, are:

    timm:inception_v3.tf_adv_in1k                adv_inception_v3 and, with --model_file,
                                                 ens3_adv_ and ens4_adv_inception_v3
    timm:inception_resnet_v2.tf_ens_adv_in1k     ens_adv_inception_resnet_v2
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from src.artifacts.errors import UserError
from src.extractors.optional import cached_file, optional_library
from src.extractors.zoo import TIMM, WITHOUT_CLASSES, no_classes

_CLASS_LISTS = {1000, 11221, 11821, 19168, 21841, 21842, 21843, 115217}
"""Lengths of the lists of classes that timm's classifiers tell apart (ImageNet-1k, -12k, -21k, -22k,
WordNet, Bamboo). A head of another width (CLIP: 512 to 1280) projects into a space of images
and texts."""
_CACHED_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class TimmModel:
    """Record in timm of a network and its published weights."""

    name: str
    size: int
    """Side in pixels of the images that it was trained on."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head: str | None
    """Name of the last layer; None if there is no single last layer."""
    n_outputs: int
    """Width of the published head; 0 without one."""
    repository: str | None
    """Repository of the weights on the Hugging Face hub."""

    @classmethod
    def of(cls, arch: str) -> "TimmModel":
        """Find the model of ``timm:<name>``; ``UserError`` if timm is missing or lacks the name."""
        timm = optional_library("timm")
        name = arch.removeprefix(TIMM)
        try:
            published = timm.get_pretrained_cfg(name, allow_unregistered=False)
        except RuntimeError as error:
            raise UserError(f"--arch {arch}: {error}") from error
        return cls(
            name,
            published.input_size[-1],
            published.mean,
            published.std,
            published.classifier if isinstance(published.classifier, str) else None,
            published.num_classes,
            published.hf_hub_id,
        )

    def require_head(self) -> str:
        """Return the name of the last layer; ``UserError`` if there is no single last layer."""
        if self.head is None:
            raise UserError(
                f"--arch {TIMM}{self.name} is no classifier with one last layer; {WITHOUT_CLASSES}"
            )
        return self.head

    @property
    def cut(self) -> str | None:
        """Layer that reads the features of the published weights.

        None for encoders (CLIP, SigLIP, DINOv2), whose features are their output, and for networks
        with several heads, which all read the features.
        """
        return self.head if self.n_outputs in _CLASS_LISTS else None

    def require_classes(self) -> None:
        """Raise ``UserError`` if the published weights have no head of classes (CLIP, SigLIP, DINOv2)."""
        if self.n_outputs not in _CLASS_LISTS:
            raise no_classes(TIMM + self.name)

    def build(self, n_outputs: int) -> nn.Module:
        """Build a randomly initialised network with ``n_outputs`` outputs."""
        timm = optional_library("timm")
        return timm.create_model(self.name, pretrained=False, num_classes=n_outputs)

    def build_encoder(self, published: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Build the network whose output is the features, with ``published`` weights or random ones.

        timm translates weights of other libraries (open_clip, DINOv2). Transformers read images of any
        size that their patches divide. Raises ``ValueError`` if the weights do not fit.
        """
        timm = optional_library("timm")
        options: dict[str, Any] = {"num_classes": self.n_outputs}
        if published is not None:
            options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": published}}
        try:
            network = _create(timm.create_model, self.name, options)
        except MemoryError:
            raise
        except (
            Exception
        ) as error:  # timm's translation raises errors of any type for foreign tensors
            # torch lists all keys, one line for each kind of difference; the first key is enough.
            differences = str(error).splitlines() or [""]
            first = (differences[1:] or differences)[0].partition(",")[0]
            raise ValueError(first.strip() or type(error).__name__) from error
        return network if self.head else _BeforeHeads(network)

    def cached_weights(self, option: str) -> Path:
        """Return the file of the published weights in the hub's cache, without a download.

        Raises ``UserError`` if it is missing; the message names ``option``, which takes another file.
        """
        if self.repository is None:
            raise UserError(f"there are no weights of {self.name}: name a checkpoint with {option}")
        return cached_file(self.repository, _CACHED_FILES, f"weights of {self.name}", option)

    def translated(self, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights that lack timm's name of the head by timm's present names.

        Earlier versions of timm and the authors' code (Swin, ConvNeXt) name layers otherwise. Weights
        that timm cannot translate are returned as they are.
        """
        if f"{self.head}.weight" in state_dict:
            return state_dict
        network = self.build(self.n_outputs)
        translate = getattr(
            importlib.import_module(type(network).__module__), "checkpoint_filter_fn", None
        )
        if translate is None:
            return state_dict
        try:
            return translate(dict(state_dict), network)
        except MemoryError:
            raise
        except Exception:  # timm's translation raises errors of any type for foreign tensors
            return state_dict

    def without_background(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Remove class 0 of TensorFlow's checkpoints, the background, which is no class of ImageNet.

        A ``state_dict`` is changed only if its head has one class more than the published one.
        """
        return {
            key: value[1:]
            if key.startswith(f"{self.head}.") and value.shape[:1] == (self.n_outputs + 1,)
            else value
            for key, value in state_dict.items()
        }


class _BeforeHeads(nn.Module):
    """Features that the heads of a network of timm read."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_head(self.network.forward_features(images), pre_logits=True)


def _create(create: Callable[..., nn.Module], name: str, options: Mapping[str, Any]) -> nn.Module:
    """Let transformers that can do so interpolate their positions to other sizes of images."""
    try:
        return create(name, dynamic_img_size=True, **options)
    except TypeError:  # no such option
        return create(name, **options)
