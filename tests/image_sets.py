"""Image sets that tests draw as tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.datasets.image_set import ImageArray, ImageSet


def image_set(pixels: Tensor, classes: Tensor, labels: Sequence[str]) -> ImageSet:
    """Return the images ``pixels`` (n, C, H, W), levels of 0 to 255, in memory."""
    levels = pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return ImageSet.of(ImageArray(levels), classes.numpy(), labels)


def tensors(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Return the pixels (n, C, H, W) uint8 and the classes (n,) of ``images``."""
    pixels = torch.from_numpy(images.pixels()).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.from_numpy(images.classes)


def colour_pictures(n: int = 96) -> ImageSet:
    """Draw noisy pictures of 16 x 16 pixels whose colour channel shows the category."""
    generator = torch.Generator().manual_seed(0)
    categories = torch.arange(n) % 3
    pixels = torch.randint(0, 120, (n, 3, 16, 16), generator=generator)
    pixels[torch.arange(n), categories] += 60
    return image_set(pixels, categories, ("red", "green", "blue"))
