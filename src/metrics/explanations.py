"""Comparisons of LIME explanations with each other and with attention maps.

Masks are (n, H, W) integers: positive in regions that support the class, negative in regions that
oppose it, 0 elsewhere. Results are (n,) float64.
"""

import numpy as np
from scipy import ndimage

from src.metrics.attention import blind, equal_area, overlap


def support_overlap(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """Return the IoU of the supporting regions of two explanations; 1 if neither has one."""
    return overlap(clean > 0, attacked > 0)


def attention_agreement(masks: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return the IoU of the supporting region and the most attended area of equal size.

    ``maps`` (n, h, w), signed, are enlarged bilinearly to the pixels of the masks. The value is NaN if
    the explanation has no supporting region or the map is ``blind``.
    """
    if len(masks) != len(maps):
        raise ValueError(f"{len(masks)} masks, {len(maps)} maps")
    support = masks > 0
    area = support.sum(axis=(1, 2))
    attended = equal_area(_enlarged(maps, masks.shape[1:]), area)
    unknown = blind(maps) | (area == 0)
    return np.where(unknown, np.nan, overlap(support, attended))


def _enlarged(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Enlarge maps to (n, H, W): bilinear between centres of cells, constant beyond the outer ones."""
    factors = [1, *(pixels / cells for pixels, cells in zip(size, maps.shape[1:], strict=True))]
    return ndimage.zoom(maps.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
