"""Regions that explain a class (LIME), beside each other and beside attention maps.

Masks are (n, H, W) integers: positive where a region supports the class, negative where it opposes it,
0 elsewhere. Results are (n,) float64.
"""

import numpy as np
from scipy import ndimage

from src.metrics.attention import blind, equal_area, overlap


def support_overlap(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """IoU of the supporting regions of two explanations of an image; 1 where neither has any."""
    return overlap(clean > 0, attacked > 0)


def attention_agreement(masks: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """IoU of the supporting region and the area of the same size that is attended most.

    ``maps`` (n, h, w), signed, are enlarged to the pixels of the masks bilinearly. NaN where the
    explanation supports nothing and where the map is ``blind``.
    """
    if len(masks) != len(maps):
        raise ValueError(f"{len(masks)} masks, {len(maps)} maps")
    support = masks > 0
    area = support.sum(axis=(1, 2))
    attended = equal_area(_enlarged(maps, masks.shape[1:]), area)
    unknown = blind(maps) | (area == 0)
    return np.where(unknown, np.nan, overlap(support, attended))


def _enlarged(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(n, H, W): bilinear between the centres of cells, constant beyond the outermost."""
    factors = [1, *(pixels / cells for pixels, cells in zip(size, maps.shape[1:], strict=True))]
    return ndimage.zoom(maps.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
