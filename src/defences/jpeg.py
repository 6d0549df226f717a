"""JPEG by Pillow's encoder, and a differentiable stand-in for its gradient.

The stand-in does the same steps with tensors (YCbCr, colours at half resolution, cosine transform of
8 x 8 blocks, quantisation by the encoder's own tables), but rounds softly: Shin and Song,
"JPEG-resistant adversarial images" (2017).
"""

import functools
import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from src.defences.surrogate import with_gradient_of

_BLOCK = 8
_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Encode and decode images (N, 3, H, W) in [0, 1] in 8 bits, with the stand-in's gradient."""
    exact = stored_as_jpeg(images, quality)
    if images.requires_grad and torch.is_grad_enabled():
        return with_gradient_of(exact, soft_jpeg(images, quality))
    return exact


def stored_as_jpeg(images: Tensor, quality: int) -> Tensor:
    """Round to 8-bit levels, encode and decode each image with Pillow."""
    levels = images.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
    decoded = [
        np.asarray(_encoded(image, quality)) for image in levels.permute(0, 2, 3, 1).cpu().numpy()
    ]
    pixels = torch.from_numpy(np.stack(decoded)).to(images.device)
    return pixels.permute(0, 3, 1, 2).to(images.dtype) / 255


def soft_jpeg(images: Tensor, quality: int) -> Tensor:
    """Approximate ``stored_as_jpeg`` by differentiable operations."""
    height, width = images.shape[2:]
    two_blocks = 2 * _BLOCK
    padding = (0, -width % two_blocks, 0, -height % two_blocks)
    levels = F.pad(images * 255, padding, mode="replicate")
    to_ycbcr = levels.new_tensor(_TO_YCBCR)
    channels = torch.einsum("ck,nkhw->nchw", to_ycbcr, levels)
    # The format subtracts 128 from brightness; colours have no offset here.
    brightness, colours = channels[:, :1] - 128, F.avg_pool2d(channels[:, 1:], 2)
    of_brightness, of_colours = (levels.new_tensor(table) for table in _tables(quality))
    brightness = _quantised(brightness, of_brightness) + 128
    colours = F.interpolate(_quantised(colours, of_colours), scale_factor=2, mode="bilinear")
    channels = torch.cat([brightness, colours], dim=1)
    restored = torch.einsum("ck,nkhw->nchw", torch.linalg.inv(to_ycbcr), channels)
    return restored[..., :height, :width] / 255


def _encoded(image: np.ndarray, quality: int) -> Image.Image:
    """Encode ``image`` (H, W, 3) uint8 as a JPEG and open it for reading."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@functools.cache
def _tables(quality: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return the steps of quantisation (8, 8) of brightness and colours that the encoder writes."""
    written = _encoded(np.zeros((_BLOCK, _BLOCK, 3), np.uint8), quality).quantization
    brightness, colours = (np.array(written[n]).reshape(_BLOCK, _BLOCK).tolist() for n in (0, 1))
    return brightness, colours


def _quantised(channels: Tensor, steps: Tensor) -> Tensor:
    """Transform (N, C, H, W) block by block, round softly to multiples of ``steps``, transform back."""
    n, c, height, width = channels.shape
    cosines = _cosines(channels)
    blocks = channels.view(n, c, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    coefficients = torch.einsum("ui,ncaibj,vj->ncabuv", cosines, blocks, cosines)
    rounded = _soft_round(coefficients / steps) * steps
    restored = torch.einsum("ui,ncabuv,vj->ncaibj", cosines, rounded, cosines)
    return restored.reshape(n, c, height, width)


def _soft_round(values: Tensor) -> Tensor:
    """Return the integer nearest to each value, plus the cube of the rest, which has a slope."""
    nearest = values.round().detach()
    return nearest + (values - nearest) ** 3


def _cosines(like: Tensor) -> Tensor:
    """Return the orthonormal cosine transform of 8 points, (frequency, position)."""
    position = torch.arange(_BLOCK, device=like.device, dtype=like.dtype)
    cosines = torch.cos(math.pi / _BLOCK * position[:, None] * (position + 0.5))
    cosines[0] /= math.sqrt(2)
    return cosines * math.sqrt(2 / _BLOCK)
