"""Image operations on (N, 3, H, W) in [0, 1]: fewer levels, fewer pixels, blur, median."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from src.artifacts.errors import UserError


def round_to_bits(images: Tensor, n: int) -> Tensor:
    """Round to the nearest of 2^n equally spaced levels from 0 to 1."""
    largest = 2**n - 1
    return (images * largest).round() / largest


def shrink_and_back(images: Tensor, side: int) -> Tensor:
    """Resample to ``side`` x ``side`` pixels, averaging, and back to the original size.

    Raises ``UserError`` for images that are not larger.
    """
    height, width = images.shape[2:]
    if min(height, width) <= side:
        raise UserError(f"resize:side={side} would not shrink images of {width}x{height} pixels")
    small = _resample(images, (side, side))
    return _resample(small, (height, width)).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of ``sigma`` pixels, cut off at 3 sigma; edges are repeated."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    channels = images.shape[1]
    rows = kernel.view(1, 1, 1, -1).expand(channels, -1, -1, -1)
    blurred = F.conv2d(padded, rows, groups=channels)
    return F.conv2d(blurred, rows.transpose(2, 3), groups=channels).clamp(0, 1)


def median(images: Tensor, side: int) -> Tensor:
    """Return the median of each channel in windows of ``side`` x ``side`` pixels; edges are repeated."""
    windows = _padded(images, side).unfold(2, side, 1).unfold(3, side, 1)
    return windows.flatten(start_dim=4).median(dim=4).values


def mean(images: Tensor, side: int) -> Tensor:
    """Return the mean of each channel in windows of ``side`` x ``side`` pixels; edges are repeated."""
    return F.avg_pool2d(_padded(images, side), side, stride=1)


def _padded(images: Tensor, side: int) -> Tensor:
    return F.pad(images, (side // 2,) * 4, mode="replicate")


def _resample(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", antialias=True)
