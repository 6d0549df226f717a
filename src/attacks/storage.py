"""Attacked images as 8-bit files that keep to the budget.

The pipeline sees an attacked image only as a file of 256 grey levels. Arrays of levels are (n, height,
width, 3) uint8 here, as Pillow reads them; tensors are (n, 3, height, width) float in [0, 1].
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.images import write_image
from src.attacks.attack import Budget
from src.datasets.image_files import read_image

SUFFIX = ".tiff"
_SLACK = 1e-6
"""Relative rounding error that is forgiven when a stored change is held to its budget."""


def norms(change: np.ndarray, order: float) -> np.ndarray:
    """Return norms (n,) float64 of ``change`` (n, ...), in its unit; ``order`` is infinity, 1 or 2."""
    return np.linalg.norm(change.reshape(len(change), -1).astype(np.float64), order, axis=1)


def exceeds(change: np.ndarray, budget: Budget, slack: float = 0.0) -> np.ndarray:
    """Return whether each ``change`` (n, ...), in grey levels, exceeds the ``budget``: (n,) bool."""
    return norms(change, budget.order) > budget.eps * (1 + slack)


def to_pixels(levels: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Convert grey levels to (n, 3, height, width) float32 in [0, 1], as a network reads them."""
    return torch.from_numpy(levels).to(device).permute(0, 3, 1, 2).contiguous().float() / 255


def to_levels(
    images: Tensor,
    clean: np.ndarray,
    rounding: Literal["round", "truncate"] = "round",
    budget: Budget | None = None,
) -> np.ndarray:
    """Turn attacked ``images`` into grey levels.

    ``truncate`` drops the fraction, as the published code does: a level falls by one if float
    arithmetic leaves it a little below an integer. ``round`` takes the nearest level. If ``budget``
    is given, the change against the ``clean`` levels keeps within it: L-inf clips, L2 and L1 round
    towards the clean level once the budget is used up.
    """
    scaled = images.detach().float().cpu().mul(255).permute(0, 2, 3, 1).numpy()
    if rounding == "truncate":
        return scaled.clip(0, 255).astype(np.uint8)
    levels = np.rint(scaled.clip(0, 255)).astype(np.int16)
    change = levels - clean
    if budget is not None and budget.norm == "inf":
        whole = math.floor(budget.eps * (1 + _SLACK))
        change = change.clip(-whole, whole)
    elif budget is not None:
        for row in np.flatnonzero(exceeds(change, budget)):
            exact = (scaled[row] - clean[row]).ravel()
            change[row] = _round_within(exact, budget).reshape(change[row].shape)
    return (clean + change).astype(np.uint8)


def _round_within(change: np.ndarray, budget: Budget) -> np.ndarray:
    """Round ``change`` (d,) to integers whose L1 or L2 norm keeps to the budget.

    Every coordinate is rounded towards zero. The rest of the budget is then spent on rounding away from
    zero, in descending order of fractions. A step from t to t + 1 adds 1 to the L1 norm and 2t + 1 to the
    square of the L2 norm.
    """
    size = np.abs(change)
    whole = np.floor(size).astype(np.int64)
    fraction = size - whole
    order = np.argsort(-fraction, kind="stable")
    order = order[fraction[order] >= 0.5]
    price = 2 * whole + 1 if budget.order == 2 else np.ones_like(whole)
    left = budget.eps**budget.order - np.sum(whole**budget.order)
    whole[order[np.cumsum(price[order]) <= left]] += 1
    return (np.sign(change) * whole).astype(np.int16)


def write_images(
    folder: Path,
    image_ids: Sequence[int],
    levels: np.ndarray,
    clean: np.ndarray,
    budget: Budget | None,
    suffix: str = SUFFIX,
) -> None:
    """Write ``<folder>/<id>.tiff``, or another lossless format by its ``suffix``, and read each back.

    Raises ``UserError`` if a file does not hold the written levels, or its change against the
    ``clean`` levels exceeds ``budget``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, image, before in zip(image_ids, levels, clean, strict=True):
        path = folder / f"{image_id}{suffix}"
        with atomic_output(path) as temporary:
            write_image(temporary, Image.fromarray(image), suffix[1:])
        stored, _ = read_image(path)
        if not np.array_equal(stored, image):
            raise UserError(f"{path} does not hold the image that was written: check the disk")
        if budget is not None:
            check_change(path, stored.astype(np.int16) - before, budget)


def check_change(path: Path, change: np.ndarray, budget: Budget) -> None:
    """Raise ``UserError`` where the ``change`` (grey levels) of the image ``path`` exceeds ``budget``."""
    if exceeds(change[None], budget, _SLACK)[0]:
        size = norms(change[None], budget.order)[0]
        raise UserError(f"{path}: changed by {size:.3f} grey levels, over its budget {budget.eps}")
