"""Image operations on (N, 3, H, W) in [0, 1]: levels, pixels, blur, median, total variation."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from src.artifacts.errors import UserError

_TV_STEPS, _TV_STEP = 30, 0.24
"""Steps and their length; it converges below 1/4 in practice."""
_TINY = 1e-12


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


def less_varied(images: Tensor, weight: float) -> Tensor:
    """Minimise |y - x|^2 / 2 + weight TV(y) over y, channel by channel, by 30 steps on the dual problem.

    Chambolle, "An algorithm for total variation minimization", 2004. The steps are differentiable, once.
    """
    return _LessVaried.apply(images, weight)


class _LessVaried(torch.autograd.Function):
    """Steps on the dual problem, whose adjoint takes two thirds of the time of autograd's.

    A step is dual' = (dual + t slopes) / (1 + t length), with slopes = S(D(dual) - images / weight). D is
    minus the adjoint of S, so that S D is its own adjoint.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: float) -> Tensor:
        ctx.weight, ctx.steps = weight, []
        weighed, dual = images / weight, images.new_zeros(2, *images.shape)
        for _ in range(_TV_STEPS):
            slopes = _slopes(_divergence(dual) - weighed)
            length = (slopes.square().sum(dim=0) + _TINY).sqrt()
            scale = 1 + _TV_STEP * length
            dual = (dual + _TV_STEP * slopes) / scale
            if ctx.needs_input_grad[0]:
                ctx.steps.append((dual, slopes / length, scale))
        changed = images - weight * _divergence(dual)
        ctx.inside = (changed >= 0) & (changed <= 1)
        return changed.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, of_changed: Tensor) -> tuple[Tensor, None]:
        of_changed = of_changed * ctx.inside
        of_dual = ctx.weight * _slopes(of_changed)
        divergences = torch.zeros_like(of_changed)
        for dual, direction, scale in reversed(ctx.steps):
            of_dual = of_dual / scale
            of_length = (of_dual * dual).sum(dim=0)
            divergence = _TV_STEP * _divergence(of_dual - of_length * direction)
            of_dual = of_dual + _slopes(divergence)
            divergences += divergence
        return of_changed + divergences / ctx.weight, None


def _slopes(images: Tensor) -> Tensor:
    """Return differences (2, N, 3, H, W) to the next row and column; 0 at the last one."""
    slopes = images.new_zeros(2, *images.shape)
    slopes[0, ..., :-1, :] = images.diff(dim=-2)
    slopes[1, ..., :-1] = images.diff(dim=-1)
    return slopes


def _divergence(dual: Tensor) -> Tensor:
    """Return minus the adjoint of ``_slopes``; the last row or column of each part is ignored."""
    down, right = dual[0, ..., :-1, :], dual[1, ..., :-1]
    divergence = dual.new_zeros(dual.shape[1:])
    divergence[..., :-1, :] += down
    divergence[..., 1:, :] -= down
    divergence[..., :-1] += right
    divergence[..., 1:] -= right
    return divergence


def _padded(images: Tensor, side: int) -> Tensor:
    return F.pad(images, (side // 2,) * 4, mode="replicate")


def _resample(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", antialias=True)
