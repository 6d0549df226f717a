"""Networks of the timm library (an optional extra), as ``timm:<name>`` or ``timm:<name>.<tag>``.

Baselines of Kurakin et al. 2017 and Tramer et al. 2018, trained on single-step adversaries, are:

    timm:inception_v3.tf_adv_in1k                adv_inception_v3 and, with --model_file,
                                                 ens3_adv_ and ens4_adv_inception_v3
    timm:inception_resnet_v2.tf_ens_adv_in1k     ens_adv_inception_resnet_v2
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from src.artifacts.errors import UserError
from src.extractors.optional import optional_library
from src.extractors.zoo import TIMM, no_classes

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
    head: str
    """Name of the last layer."""
    n_outputs: int
    """Width of the published head; 0 where none is published."""
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
        if not isinstance(published.classifier, str):
            raise UserError(f"--arch {arch} is no classifier with one last layer")
        return cls(
            name,
            published.input_size[-1],
            published.mean,
            published.std,
            published.classifier,
            published.num_classes,
            published.hf_hub_id,
        )

    def require_classes(self) -> None:
        """``UserError`` where the published weights have no head of classes (CLIP, SigLIP, DINOv2)."""
        if self.n_outputs not in _CLASS_LISTS:
            raise no_classes(TIMM + self.name)

    def build(self, n_outputs: int) -> nn.Module:
        """Build a randomly initialised network with ``n_outputs`` outputs."""
        timm = optional_library("timm")
        return timm.create_model(self.name, pretrained=False, num_classes=n_outputs)

    def cached_weights(self, option: str) -> Path:
        """Return the file of the published weights in the hub's cache, without a download.

        Raises ``UserError`` if it is missing; the message names ``option``, which takes another file.
        """
        if self.repository is None:
            raise UserError(f"there are no weights of {self.name}: name a checkpoint with {option}")
        hub = optional_library("huggingface_hub")
        for file in _CACHED_FILES:
            if isinstance(path := hub.try_to_load_from_cache(self.repository, file), str):
                return Path(path)
        raise UserError(
            f"no weights of {self.name} in the hub's cache: run `hf download {self.repository}`, or "
            f"get them elsewhere and give their path with {option}"
        )

    def without_background(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Remove class 0 of TensorFlow's checkpoints, the background, which is no class of ImageNet.

        A ``state_dict`` is changed only if its head has one class more than the published one.
        """
        return {
            key: value[1:]
            if key.startswith(f"{self.head}.") and len(value) == self.n_outputs + 1
            else value
            for key, value in state_dict.items()
        }
