"""Pixels of training pictures as tensors, and their augmentation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import THREADS, read_ahead
from src.extractors.device import READERS, generator_on
from src.extractors.extractor import Precision, fast_layout
from src.extractors.feeding import copied_ahead, pinned
from src.training.ats import Policy, parse_policy


def read_pixels(
    pictures: ImageSet, batches: Iterable[Tensor], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (positions, pixels) of each of the ``batches`` of positions, in order.

    Pixels are (m, C, H, W) uint8 on ``device``. On a GPU their channels are last in memory, as in files.
    """

    def read(positions: Tensor) -> Tensor:
        pixels = torch.from_numpy(pictures.batch(positions.numpy())).permute(0, 3, 1, 2)
        return pixels.contiguous() if device.type == "cpu" else pinned(pixels, device)

    threads = THREADS if device.type == "cpu" else READERS
    return copied_ahead(read_ahead(read, batches, threads), device)


def to_images(pixels: Tensor, precision: Precision = "fp32") -> Tensor:
    """Convert uint8 ``pixels`` (m, C, H, W) to float in [0, 1], in ``fast_layout`` on a GPU."""
    if pixels.is_cpu:
        return pixels.float() / 255
    return pixels.to(torch.float32, memory_format=fast_layout(precision, pixels.device)) / 255


def flip_and_shift(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the pictures and shift each by up to a sixteenth of its side."""
    height, width = pixels.shape[2:]
    reach = max(1, min(height, width) // 16)
    padded = functional.pad(pixels, (reach, reach, reach, reach), mode="replicate")
    return _random_windows(padded, height, width, generator)


_FRAME = 4


def flip_and_crop(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Flip half of the pictures and cut a random square of ``side`` pixels out of each."""
    height, width = pixels.shape[2:]
    return _random_windows(pixels, min(side, height), min(side, width), generator)


def flip_and_pad(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the pictures, add a black frame of ``_FRAME`` pixels, and crop to the old size."""
    height, width = pixels.shape[2:]
    padded = functional.pad(pixels, (_FRAME, _FRAME, _FRAME, _FRAME))
    return _random_windows(padded, height, width, generator)


def centre_crop(pixels: Tensor, side: int) -> Tensor:
    """Crop larger pictures to the central square of ``side`` pixels."""
    height, width = pixels.shape[2:]
    top, left = max(height - side, 0) // 2, max(width - side, 0) // 2
    return pixels[:, :, top : top + side, left : left + side]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of pictures in training."""

    kind: Literal["none", "flip", "shift", "crop", "padded_crop"]
    """Transformation: flip flips half of the pictures, shift is ``flip_and_shift``, crop is
    ``flip_and_crop``, padded_crop is ``flip_and_pad``."""
    side: int = 0
    """Side of the windows that crop takes from larger pictures."""
    policy: Policy | None = None
    """Policy that is applied afterwards, for privacy."""

    def training(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Augment (n, C, H, W) uint8 on any device; the result depends only on ``generator``'s state."""
        moved = self._moved(pixels, generator)
        return moved if self.policy is None else self.policy(moved, generator)

    def _moved(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        match self.kind:
            case "flip":
                return flip_and_crop(pixels, max(pixels.shape[2:]), generator)
            case "shift":
                return flip_and_shift(pixels, generator)
            case "crop":
                return flip_and_crop(pixels, self.side, generator)
            case "padded_crop":
                return flip_and_pad(pixels, generator)
            case _:
                return pixels

    def testing(self, pixels: Tensor) -> Tensor:
        """Return the test form of pictures for an extractor that was trained with this augmentation."""
        return centre_crop(pixels, self.side) if self.kind == "crop" else pixels


UNCHANGED = Augmentation("none")
FLIPPED = Augmentation("flip")
SHIFTED = Augmentation("shift")
PADDED = Augmentation("padded_crop")
AUGMENTATIONS = {"none": UNCHANGED, "flip": FLIPPED, "shift": SHIFTED, "crop": PADDED}
"""Augmentations by the names in options."""


def parse_augmentation(text: str) -> Augmentation:
    """Parse a key of ``AUGMENTATIONS``, or ``ats:<policy>``, which is crop and a policy.

    Raises ``UserError`` for other texts.
    """
    name, colon, policy = text.partition(":")
    if name == "ats" and colon:
        return replace(PADDED, policy=parse_policy(policy))
    if text not in AUGMENTATIONS:
        raise UserError(
            f"unknown augmentation {text}: choose from {', '.join(AUGMENTATIONS)}, ats:<policy> "
            "(ats:3-1-7+43-18-18)"
        )
    return AUGMENTATIONS[text]


def _random_windows(pixels: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Cut a random window of ``height`` x ``width`` from each picture, and flip half of them."""
    n, channels = pixels.shape[:2]
    on = {"device": pixels.device}
    draws = {"generator": generator_on(pixels.device, generator), **on}
    tops, lefts = pixels.shape[2] - height + 1, pixels.shape[3] - width + 1
    rows = torch.randint(tops, (n, 1), **draws) + torch.arange(height, **on)
    columns = torch.randint(lefts, (n, 1), **draws) + torch.arange(width, **on)
    flipped = torch.rand(n, 1, **draws) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    return pixels[
        torch.arange(n, **on)[:, None, None, None],
        torch.arange(channels, **on)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
