"""Table ``DEFENCES`` of all defences in front of an extractor, and the parameters of each.

Your own defence may have a file of its own; only its row has to be here. The engines load
torch, so each defence imports its engine when it runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from src.artifacts.errors import UserError, choose_from
from src.defences.defence import (
    Chain,
    Defence,
    NoDefence,
    expected,
    file_parameter,
    parameter,
    parameters_of,
    reads_file,
)

if TYPE_CHECKING:
    from torch import Tensor

    from src.defences.defence import Network
    from src.extractors.extractor import Prediction


@dataclass(frozen=True)
class JPEG(Defence):
    """Pillow's encoder on 8-bit levels, with its default subsampling of colours."""

    kind: ClassVar = "jpeg"
    backward: ClassVar = "a differentiable JPEG"

    quality: int = parameter(75, "of the encoder", least=1, most=100)

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.jpeg import jpeg

        return jpeg(images, self.quality)


@dataclass(frozen=True)
class Bits(Defence):
    """Fewer levels: Xu et al., "Feature Squeezing", NDSS 2018."""

    kind: ClassVar = "bits"
    backward: ClassVar = "the identity"

    n: int = parameter(4, "bits of a channel", least=1, most=8)

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.filters import round_to_bits
        from src.defences.surrogate import with_gradient_of

        return with_gradient_of(round_to_bits(images, self.n), images)


@dataclass(frozen=True)
class Resize(Defence):
    """Fewer pixels: resampling to a square and back to the original size."""

    kind: ClassVar = "resize"

    side: int = parameter(112, "pixels of the square", least=1, most=4096)

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.filters import shrink_and_back

        return shrink_and_back(images, self.side)


@dataclass(frozen=True)
class Blur(Defence):
    """Gaussian blur."""

    kind: ClassVar = "blur"

    sigma: float = parameter(1.0, "pixels", least=0.1, most=20)

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.filters import gaussian_blur

        return gaussian_blur(images, self.sigma)


@dataclass(frozen=True)
class MedianFilter(Defence):
    """Median of a window around each pixel: Xu et al., "Feature Squeezing", NDSS 2018.

    The identity is too weak as its gradient: with a window of 5 pixels, PGD with the identity succeeds
    for half as many images as with the mean of the window.
    """

    kind: ClassVar = "median_filter"
    backward: ClassVar = "the mean of the window"

    side: int = parameter(3, "pixels of the window, odd", least=3, most=15)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % 2 == 0:
            raise UserError(f"{self.kind}: side is odd, not {self.side}")

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.filters import mean, median
        from src.defences.surrogate import with_gradient_of

        return with_gradient_of(median(images, self.side), mean(images, self.side))


@dataclass(frozen=True)
class TotalVariation(Defence):
    """Nearby image of less total variation: Rudin, Osher and Fatemi, Physica D 60, 1992."""

    kind: ClassVar = "tv"

    weight: float = parameter(0.05, "of the total variation", least=0.001, most=1)

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.filters import less_varied

        return less_varied(images, self.weight)


@dataclass(frozen=True)
class Denoiser(Defence):
    """Residual U-Net that was trained to remove perturbations (``unet.py``)."""

    kind: ClassVar = "denoiser"

    file: str = file_parameter("checkpoint of a denoiser")

    def __call__(self, images: "Tensor") -> "Tensor":
        from src.defences.unet import denoise

        return denoise(images, Path(self.file))


@dataclass(frozen=True)
class RandomNoise(Defence):
    """Normal noise, drawn again in each pass."""

    kind: ClassVar = "random_noise"
    is_random: ClassVar = True

    sigma: float = parameter(0.05, "deviation, 1 being white", least=0.001, most=1)

    def __call__(self, images: "Tensor") -> "Tensor":
        import torch

        return (images + self.sigma * torch.randn_like(images)).clamp(0, 1)


@dataclass(frozen=True)
class Smooth(Defence):
    """Coordinate-wise median of the features of ``n`` noisy copies, and the mean of their logits.

    Every image meets the same noise, which a fixed seed draws. Median smoothing: Chiang et al.,
    "Detection as Regression", NeurIPS 2020.
    """

    kind: ClassVar = "smooth"
    changes_images: ClassVar = False

    sigma: float = parameter(0.1, "deviation of the noise, 1 being white", least=0.001, most=1)
    n: int = parameter(100, "noisy copies of an image", least=1, most=10_000)

    def predict(self, network: "Network", images: "Tensor") -> "Prediction":
        from src.defences.smoothing import smoothed

        return smoothed(network, images, self.sigma, self.n)


DEFENCES: dict[str, type[Defence]] = {
    row.kind: row
    for row in (
        NoDefence,
        JPEG,
        Bits,
        Resize,
        Blur,
        MedianFilter,
        TotalVariation,
        Denoiser,
        RandomNoise,
        Smooth,
    )
}
"""By the name that commands and experiments give it."""


def parse_defence(text: str) -> Defence:
    """Read ``jpeg:quality=50``, ``denoiser:FILE``, ``resize:side=200+jpeg:quality=75`` or ``none``.

    A missing parameter has its default. Raises ``UserError`` for other texts.
    """
    links = [_parse_link(part) for part in text.split("+")]
    if len(links) == 1:
        return links[0]
    if any(isinstance(link, NoDefence) for link in links):
        raise UserError(f"{text}: {NoDefence.kind} stands alone")
    return Chain(tuple(links))


def _parse_link(text: str) -> Defence:
    kind, colon, rest = text.partition(":")
    if kind not in DEFENCES:
        raise UserError(f"no defence {kind!r}: {choose_from(kind, DEFENCES)}")
    known = {of.name: of for of in parameters_of(DEFENCES[kind])}
    if any(map(reads_file, known.values())):
        if not rest:
            raise UserError(f"{text}: write {kind}:FILE")
        return DEFENCES[kind](rest)
    values: dict[str, int | float] = {}
    for part in rest.split(",") if colon else []:
        name, equals, value = part.partition("=")
        if not equals or name not in known or name in values:
            forms = ",".join(f"{of}=NUMBER" for of in known)
            raise UserError(f"{text}: write {kind}{forms and ':'}{forms}")
        try:
            values[name] = type(known[name].default)(value)
        except ValueError as error:
            raise UserError(f"{kind}: {expected(known[name])}, not {value}") from error
    return DEFENCES[kind](**values)
