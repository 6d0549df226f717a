"""Image towers of the open_clip library (an optional extra), and the texts that they are compared with.

    open_clip:ViT-B-32.laion2b_s34b_b79k    network and its published weights
    open_clip:ViT-B-32                      the same network, with weights from a file
    open_clip:hf-hub:chs20/fare2-clip       repository of the Hugging Face hub in open_clip's format

FARE (Schlarmann et al. 2024) and TeCoA (Mao et al. 2023) tune OpenAI's image towers and publish either
all parameters or the image tower alone. Their files belong to ``open_clip:ViT-L-14.openai`` and the like.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from src.artifacts.errors import UserError
from src.extractors.heads import ZeroShot
from src.extractors.optional import cached_file, optional_library
from src.extractors.zoo import OPEN_CLIP, no_classes

_HUB = "hf-hub:"
_CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_IMAGES = "visual."
"""Prefix of the entries of the image tower in a checkpoint of both towers."""
_NO_TEXTS = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
_NO_IMAGES = {"image_size": 32, "patch_size": 32, "width": 64, "layers": 1}
"""Configurations of the smallest tower, in place of one that is not read."""


@dataclass(frozen=True)
class OpenClipModel:
    """Record in open_clip of a network with an image tower and a text tower."""

    name: str
    source: str
    """Name of the library's configuration, or ``local-dir:`` and the folder of one."""
    size: int
    """Side in pixels of the images that it was trained on."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quick_gelu: bool
    """Whether the weights need x sigmoid(1.702 x) as activation even if the configuration has GELU."""
    repository: str | None
    """Repository of the weights on the Hugging Face hub; None if the name chooses no weights."""
    files: tuple[str, ...] = _WEIGHTS
    """Names that the file of the weights may have there."""
    head: ClassVar[None] = None
    """Features are the output of the image tower, and no layer scores classes."""

    @classmethod
    def of(cls, arch: str) -> "OpenClipModel":
        """Find the model of ``open_clip:<name>``; ``UserError`` if it or the library is missing."""
        library = optional_library("open_clip")
        name = arch.removeprefix(OPEN_CLIP)
        if name.startswith(_HUB):
            return cls._of_repository(name)
        model, _, tag = name.partition(".")
        if model not in library.list_models():
            raise UserError(f"--arch {arch}: open_clip has no model {model!r}")
        tags = library.list_pretrained_tags_by_model(model)
        if tag and tag not in tags:
            raise UserError(
                f"--arch {arch}: the weights of {model} are {', '.join(tags) or 'not published'}"
            )
        # Nearly all weights of a model read images alike, so that the first ones stand for a file.
        published = library.get_pretrained_cfg(model, tag or tags[0]) if tags else {}
        repository, _, file = published.get("hf_hub", "").rpartition("/")
        return cls(
            name,
            model,
            _side(library.get_model_config(model)),
            *_normalisation(published),
            quick_gelu=bool(tag) and published.get("quick_gelu", False),
            repository=repository if tag else None,
            files=(file,) if file else _WEIGHTS,
        )

    @classmethod
    def _of_repository(cls, name: str) -> "OpenClipModel":
        repository = name.removeprefix(_HUB)
        path = cached_file(repository, [_CONFIG], f"{_CONFIG} of {repository}")
        try:
            config = json.loads(path.read_text())
            side, channels = _side(config["model_cfg"]), _normalisation(config["preprocess_cfg"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} does not describe a model of open_clip") from error
        return cls(name, f"local-dir:{path.parent}", side, *channels, False, repository)

    def require_head(self) -> str:
        """Raise ``UserError``: no layer of the network scores classes."""
        raise no_classes(OPEN_CLIP + self.name)

    def build_image_tower(self) -> nn.Module:
        """Build a randomly initialised network: images (N, 3, H, W) to embeddings (N, D)."""
        tower = self._create(text_cfg=_NO_TEXTS).visual
        tower.output_tokens = False  # CoCa's returns its tokens too
        return tower

    def build_text_tower(self) -> nn.Module:
        """Build a randomly initialised network of texts; its entry ``visual`` is a stand-in.

        Raises ``UserError`` for a text tower of the transformers library, whose configuration would be
        downloaded.
        """
        config = optional_library("open_clip").get_model_config(self.source)
        if "hf_model_name" in config["text_cfg"]:
            raise UserError(
                f"--head zero_shot: the text tower of {self.name} belongs to another library "
                f"({config['text_cfg']['hf_model_name']}) and is not read"
            )
        return self._create(vision_cfg=_NO_IMAGES).eval().requires_grad_(False)

    def _create(self, **stand_in: Any) -> nn.Module:
        library = optional_library("open_clip")
        try:
            with _without_warnings():
                return library.create_model(
                    self.source,
                    load_weights=False,
                    force_quick_gelu=self.quick_gelu,
                    pretrained_text=False,
                    **stand_in,
                )
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"open_clip cannot build {self.name}: {reason}") from error

    def embed_classes(self, tower: nn.Module, labels: Sequence[str]) -> ZeroShot:
        """Return the head that compares images with the names ``labels`` through the text ``tower``.

        The embedding of a class is the mean of those of seven sentences with its name, which OpenAI
        chose for CLIP (Radford et al. 2021), brought to length 1. Raises ``UserError`` if the tokenizer
        is missing.
        """
        library = optional_library("open_clip")
        # A tokenizer of the transformers library would be downloaded.
        text = library.get_model_config(self.source)["text_cfg"]
        options = {"local_files_only": True} if "hf_tokenizer_name" in text else {}
        try:
            tokenizer = library.get_tokenizer(self.source, **options)
        except (ImportError, OSError, ValueError) as error:
            raise UserError(
                f"--head zero_shot: the tokenizer of {self.name} is missing: `pip install transformers` "
                f"and `hf download {text.get('hf_tokenizer_name') or self.repository}`"
            ) from error
        texts = library.build_zero_shot_classifier(
            tower, tokenizer, list(labels), library.SIMPLE_IMAGENET_TEMPLATES
        )
        return ZeroShot(texts.T.contiguous(), tower.logit_scale.exp().item())

    def cached_weights(self, option: str) -> Path:
        """Return the file of the published weights in the hub's cache, without a download.

        Raises ``UserError`` if it is missing; the message names ``option``, which takes another file.
        """
        if self.repository is None:
            raise UserError(
                f"--arch {OPEN_CLIP}{self.name} names no weights: add their name after a dot, or name a "
                f"checkpoint with {option}"
            )
        return cached_file(self.repository, self.files, f"weights of {self.name}", option)


def image_tower(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the image tower, from a checkpoint of both towers or of that one alone."""
    found = {k.removeprefix(_IMAGES): v for k, v in entries.items() if k.startswith(_IMAGES)}
    return found or dict(entries)


def text_tower(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the text tower and the logit scale; none of an image tower alone."""
    texts = {key: value for key, value in entries.items() if not key.startswith(_IMAGES)}
    return texts if len(texts) < len(entries) else {}


def _side(config: Mapping[str, Any]) -> int:
    size = config["vision_cfg"].get("image_size", 224)
    return size if isinstance(size, int) else size[-1]


def _normalisation(published: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of ``published`` weights; the library's default is OpenAI's."""
    library = optional_library("open_clip")
    mean = published.get("mean", library.OPENAI_DATASET_MEAN)
    return tuple(mean), tuple(published.get("std", library.OPENAI_DATASET_STD))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep open_clip from warning that the network has random weights, which are loaded later."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
