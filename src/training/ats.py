"""Automatic transformation search (ATS): policies against the leakage of images through gradients.

Gao et al., "Privacy-preserving Collaborative Learning with Automatic Transformation Search" (CVPR 2021),
define fifty sub-policies, each an operation with a magnitude. A policy names chains of their numbers:
``3-1-7+43-18-18`` has two chains of three, of which every image gets one, drawn uniformly. The published
probabilities of sub-policies are not used: every sub-policy of a chain is applied.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as images

from src.artifacts.errors import UserError
from src.extractors.feeding import send

_LAST = 9
"""Largest index of a magnitude; the smallest is 0."""
_GREY = 128
_SHIFT = 150 / 331
"""Largest translation as a share of the side."""


@dataclass(frozen=True)
class Kind:
    """Operation on pixels (n, C, H, W) uint8 with its range of magnitudes."""

    apply: Callable[[Tensor, float], Tensor]
    first: float = 0.0
    """Magnitude at index 0, from which it changes linearly to ``last`` at index 9."""
    last: float = 0.0
    signed: bool = False
    """True if each image draws the sign of the magnitude."""


def _shear_y(pixels: Tensor, slope: float) -> Tensor:
    """Shear: shift each column vertically by ``slope`` times its number, and fill with black."""
    degrees = math.degrees(math.atan(slope))
    return images.affine(
        pixels,
        angle=0,
        translate=[0, 0],
        scale=1,
        shear=[0, degrees],
        interpolation=InterpolationMode.BILINEAR,
        center=[0, 0],
    )


def _translate(pixels: Tensor, columns: int, rows: int) -> Tensor:
    """Shift by whole pixels and fill with black."""
    return images.affine(
        pixels, angle=0, translate=[columns, rows], scale=1, shear=[0, 0], fill=None
    )


KINDS = {
    "shearY": Kind(_shear_y, 0, 0.3, signed=True),
    "translateX": Kind(lambda x, m: _translate(x, round(m * x.shape[3]), 0), 0, _SHIFT, True),
    "translateY": Kind(lambda x, m: _translate(x, 0, round(m * x.shape[2])), 0, _SHIFT, True),
    "rotate": Kind(lambda x, m: images.rotate(x, m, fill=_GREY), 0, 30),
    "color": Kind(lambda x, m: images.adjust_saturation(x, 1 + m), 0, 0.5, signed=True),
    "contrast": Kind(lambda x, m: images.adjust_contrast(x, 1 + m), 0, 0.5, signed=True),
    "sharpness": Kind(lambda x, m: images.adjust_sharpness(x, 1 + m), 0, 0.5, signed=True),
    "brightness": Kind(lambda x, m: images.adjust_brightness(x, 1 + m), 0, 0.5, signed=True),
    "posterize": Kind(lambda x, m: images.posterize(x, round(m)), 8, 4),
    # torchvision's solarize accepts no threshold of 256, which is above every pixel.
    "solarize": Kind(lambda x, m: torch.where(x < m, x, 255 - x), 256, 0),
    "autocontrast": Kind(lambda x, _: images.autocontrast(x)),
    "equalize": Kind(lambda x, _: images.equalize(x)),
    "invert": Kind(lambda x, _: images.invert(x)),
}


@dataclass(frozen=True)
class SubPolicy:
    """Operation of ``KINDS`` with the index, 0 to 9, of its magnitude."""

    operation: str
    index: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.operation]

    @property
    def magnitude(self) -> float:
        """Unsigned share of the side, degrees, change of a factor, bits or threshold."""
        return self.kind.first + (self.kind.last - self.kind.first) * self.index / _LAST


_PUBLISHED = """
    invert7     contrast6     rotate2       translateX9   sharpness1
    sharpness3  shearY2       translateY2   autocontrast5 equalize2
    shearY5     posterize5    color3        brightness5   sharpness9
    brightness9 equalize5     equalize1     contrast7     sharpness5
    color5      translateX5   equalize7     autocontrast8 translateY3
    sharpness6  brightness6   color8        solarize0     invert0
    equalize0   autocontrast0 equalize8     equalize4     color5
    equalize5   autocontrast4 solarize4     brightness3   color0
    solarize1   autocontrast0 translateY3   translateY3   autocontrast1
    solarize1   equalize5     invert0       translateY3   autocontrast1
"""

SUB_POLICIES = tuple(SubPolicy(name[:-1], int(name[-1])) for name in _PUBLISHED.split())
"""Sub-policies by number, repetitions included."""


@dataclass(frozen=True)
class Policy:
    """Chains of numbers of ``SUB_POLICIES``, written as ``3-1-7+43-18-18``."""

    chains: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        return "+".join("-".join(map(str, chain)) for chain in self.chains)

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Transform each image of ``pixels`` (n, 1 or 3, H, W) uint8 by a random chain and random signs.

        Images with the same chain and sign are transformed together.
        """
        longest = max(map(len, self.chains))
        drawn = torch.randint(len(self.chains), (len(pixels),), generator=generator)
        negative = torch.rand(len(pixels), longest, generator=generator) < 0.5
        transformed = pixels.clone()
        for number, chain in enumerate(self.chains):
            follows = drawn == number
            for place, sub_policy in enumerate(map(SUB_POLICIES.__getitem__, chain)):
                kind, magnitude = sub_policy.kind, sub_policy.magnitude
                turned = negative[:, place] & kind.signed
                for chosen, signed in (
                    (follows & ~turned, magnitude),
                    (follows & turned, -magnitude),
                ):
                    if chosen.any():
                        rows = send(chosen.nonzero()[:, 0], pixels.device)
                        transformed[rows] = kind.apply(transformed[rows], signed)
        return transformed


def parse_policy(text: str) -> Policy:
    """Parse a policy such as ``3-1-7+43-18-18``; ``UserError`` for other text and numbers beyond 49."""
    chains = [chain.split("-") for chain in text.split("+")]
    numbers = [number for chain in chains for number in chain]
    if not all(n.isdecimal() and int(n) < len(SUB_POLICIES) for n in numbers):
        raise UserError(
            f"{text!r} is no policy: chain numbers from 0 to {len(SUB_POLICIES) - 1} by - and "
            "alternatives by +, like 3-1-7+43-18-18"
        )
    return Policy(tuple(tuple(map(int, chain)) for chain in chains))
