"""Measures of attention maps: shift under attack, scatter and incompleteness.

Maps are (N, h, w) finite floats, batch first, h * w >= 2, of any sign. Measures are (N,), float64
unless said otherwise; arrays that do not fit raise ``ValueError``. Each measure reads the signed map
or its positive part, which is what the ReLU of Grad-CAM leaves (Selvaraju et al., ICCV 2017). A map
without a positive cell is ``blind`` and has no attended area: measures that compare areas are NaN,
and measures that read the positive part as a distribution over cells use the uniform distribution.

Distances between cells are in units of the map's diagonal, from the centre of one corner cell to the
centre of the opposite one, so that 1 is the largest distance.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, stats
from scipy.special import entr, rel_entr

TOP_SHARE = 0.125
"""Share of the cells that count as attended, 8 of the 64 of an 8 x 8 map, as is usual."""
FURTHER_SHARES = {"iou_top10": 0.1, "iou_top20": 0.2, "iou_top30": 0.3}
"""Shares by column name, which show whether a finding depends on ``TOP_SHARE``."""

SSIM_SIDE = 3
"""Side of SSIM's window in cells. The usual 7 or 11 would cover all of a 7 x 7 map."""
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

_FOUR_NEIGHBOURS = np.stack([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))])
"""Neighbourhood (image, row, column): cells of one image that share a side are connected."""


def blind(maps: np.ndarray) -> np.ndarray:
    """Return which maps have no positive cell, (N,) bool; some measures are NaN for them."""
    return _checked(maps).max(axis=(1, 2)) <= 0


def equal_area(maps: np.ndarray, n_cells: int | np.ndarray) -> np.ndarray:
    """Mark the ``n_cells`` highest cells of every map: (N, h, w) bool.

    Ties go to the cell with the lower index. ``n_cells`` is one number or (N,) integers,
    each in 0..h*w.
    """
    maps = _checked(maps)
    flat = _flat(maps)
    order = np.argsort(-flat, axis=1, kind="stable")
    chosen = np.arange(flat.shape[1]) < np.reshape(n_cells, (-1, 1))
    cells = np.empty(flat.shape, bool)
    np.put_along_axis(cells, order, np.broadcast_to(chosen, flat.shape), axis=1)
    return cells.reshape(maps.shape)


def top_cells(maps: np.ndarray, share: float = TOP_SHARE) -> np.ndarray:
    """Mark exactly the ceil(share * h * w) highest cells of every map: (N, h, w) bool.

    Ties go to the cell with the lower index. ``share`` lies in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of cells must be in (0, 1], not {share}")
    n_cells = math.prod(maps.shape[1:])
    # Round before the ceiling: 0.07 * 100 is a little more than 7 and would become 8.
    return equal_area(maps, math.ceil(round(share * n_cells, 9)))


def above_mean(maps: np.ndarray) -> np.ndarray:
    """Mark cells higher than the mean of their own map, (N, h, w) bool; none in a constant map."""
    maps = _checked(maps)
    return maps > _mean(maps)


def above_half_max(maps: np.ndarray) -> np.ndarray:
    """Mark cells higher than half the maximum of their own map, (N, h, w) bool; none if it is <= 0."""
    maps = _checked(maps)
    return maps > maps.max(axis=(1, 2), keepdims=True) / 2


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return intersection over union, in [0, 1], of masks (N, h, w) bool; 1 if both are empty."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    _same_shape(a, b)
    union = (a | b).sum(axis=(1, 2))
    return np.where(union > 0, (a & b).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)


def shift(
    clean: np.ndarray, attacked: np.ndarray, share: float = TOP_SHARE
) -> dict[str, np.ndarray]:
    """Measure how far an attack moved the maps; row i of both arrays is the same image.

    ==================  ========  ====================================================================
    key                 reads     value
    ==================  ========  ====================================================================
    iou_top             signed    ``overlap`` of the ``top_cells``, in [0, 1]
    iou_top10, 20, 30   signed    ``overlap`` of the highest 10, 20 and 30 % of the cells
    iou_mean            positive  ``overlap`` of the cells ``above_mean``
    iou_half_max        positive  ``overlap`` of the cells ``above_half_max``
    pearson             signed    correlation, in [-1, 1]; NaN where a map is constant
    spearman            signed    correlation of ranks, equals sharing their mean rank; NaN likewise
    cosine              signed    in [-1, 1]; NaN where a map is zero everywhere
    js                  positive  Jensen-Shannon divergence to base 2, in [0, 1]
    ssim                signed    ``ssim`` of the maps as they are displayed, each scaled to [0, 1]
    centroid_distance   positive  between the centres of mass, in [0, 1]
    top_cell_moved      signed    bool: another cell is the highest one
    ==================  ========  ====================================================================

    All IoU are NaN if either map is ``blind``. ``iou_top`` reads the signed map: of cells that the ReLU
    sets to 0 the same low indices would be chosen in both maps, which would look like an overlap.
    """
    clean, attacked = _checked(clean), _checked(attacked)
    _same_shape(clean, attacked)
    attended, attended_after = np.maximum(clean, 0), np.maximum(attacked, 0)
    unknown = blind(clean) | blind(attacked)

    def iou(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return np.where(unknown, np.nan, overlap(before, after))

    centroid, centroid_after = _centroid(_distribution(clean)), _centroid(_distribution(attacked))
    distance = np.linalg.norm(centroid_after - centroid, axis=1) / _diagonal(clean.shape)
    return {
        **{
            name: iou(top_cells(clean, marked), top_cells(attacked, marked))
            for name, marked in {"iou_top": share, **FURTHER_SHARES}.items()
        },
        "iou_mean": iou(above_mean(attended), above_mean(attended_after)),
        "iou_half_max": iou(above_half_max(attended), above_half_max(attended_after)),
        "pearson": _pearson(clean, attacked),
        "spearman": _pearson(_ranks(clean), _ranks(attacked)),
        "cosine": _cosine(clean, attacked),
        "js": _jensen_shannon(_distribution(clean), _distribution(attacked)),
        "ssim": ssim(_displayed(clean), _displayed(attacked)),
        "centroid_distance": distance,
        "top_cell_moved": _top_cell(clean) != _top_cell(attacked),
    }


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the structural similarity, in [-1, 1], of maps in [0, 1] (Wang et al., IEEE TIP 2004).

    It is the mean over all windows of 3 x 3 equally weighted cells that lie inside the map. A map with
    fewer than 3 rows or columns has smaller windows. K1 = 0.01, K2 = 0.03.
    """
    mean_a, mean_b = _window_means(a), _window_means(b)
    variance_a = _window_means(a * a) - mean_a**2
    variance_b = _window_means(b * b) - mean_b**2
    covariance = _window_means(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_a + variance_b + SSIM_C2)
    return (luminance * structure).mean(axis=(1, 2))


def scatter(maps: np.ndarray, share: float = TOP_SHARE) -> dict[str, np.ndarray]:
    """Measure how scattered each map is. ``gini`` falls with scatter, the other three grow.

    ``entropy``: entropy of the positive part, divided by log(h * w); 0 for a single cell, 1 for equal
    cells.
    ``spread``: root of the mean squared distance of the positive part from its centre of mass,
    in [0, 0.5].
    ``components``: connected components of the ``top_cells`` (signed map); NaN for a ``blind`` map.
    ``gini``: inequality of the cells of the positive part, from 0 for equal cells to 1 - 1 / (h * w)
    for a single cell.
    """
    maps = _checked(maps)
    distribution = _distribution(maps)
    n_cells = math.prod(maps.shape[1:])
    return {
        "entropy": entr(distribution).sum(axis=(1, 2)) / np.log(n_cells),
        "spread": _spread(distribution),
        "components": np.where(blind(maps), np.nan, components(top_cells(maps, share))),
        "gini": _gini(distribution),
    }


def components(masks: np.ndarray) -> np.ndarray:
    """Count the 4-connected components of masks (N, h, w) bool: (N,) integers."""
    labels, n_components = ndimage.label(masks, _FOUR_NEIGHBOURS)
    image_of = np.zeros(n_components + 1, np.int64)
    image_of[labels.ravel()] = np.repeat(np.arange(len(masks)), math.prod(masks.shape[1:]))
    return np.bincount(image_of[1:], minlength=len(masks))


def incompleteness(
    probability: np.ndarray,
    erased_probability: np.ndarray,
    maps: np.ndarray,
    objects: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Measure how much of the relevant area attention misses; larger is more incomplete for every key.

    ``inc3``: 1 - (p_y(x) - p_y(x erased)), in [0, 2], where ``probability`` (N,) is the probability of
    the class y of the image and ``erased_probability`` (N,) the probability of y after the attended
    cells were erased. 0: erasing them removes the class; 1: erasing them changes nothing.

    ``objects`` (N, h, w) bool marks the cells of the object (see ``cells_of_boxes``); None if they are
    not known. With objects the result also has

    - ``inc1``: 1 - |A and G| / |G|, in [0, 1]: the share of the object G that is not attended, where A
      are the cells of the positive part ``above_mean``;
    - ``inc2``: 1 - IoU, in [0, 1], of the object and equally many highest cells (signed map).

    Both are NaN if the map is ``blind`` or the object has no cell.
    """
    drop = np.asarray(probability, np.float64) - np.asarray(erased_probability, np.float64)
    incomplete = {"inc3": 1 - drop}
    if objects is None:
        return incomplete
    maps, objects = _checked(maps), np.asarray(objects, bool)
    _same_shape(maps, objects)
    area = objects.sum(axis=(1, 2))
    unknown = blind(maps) | (area == 0)
    attended = above_mean(np.maximum(maps, 0))
    covered = (attended & objects).sum(axis=(1, 2)) / np.maximum(area, 1)
    aligned = overlap(equal_area(maps, area), objects)
    return incomplete | {
        "inc1": np.where(unknown, np.nan, 1 - covered),
        "inc2": np.where(unknown, np.nan, 1 - aligned),
    }


def cells_of_boxes(boxes: np.ndarray, sizes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mark the cells whose centre lies in the box of their image: (N, h, w) bool, ``shape`` = (h, w).

    ``boxes`` (N, 4) are x0, y0, x1, y1 in pixels, x1 and y1 excluded; ``sizes`` (N, 2) or (2,) are the
    (height, width) of the images. A box too small to hold the centre of a cell gets the cell that
    holds the centre of the box. For several boxes in an image, unite their masks.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    sizes = np.broadcast_to(sizes, (len(boxes), 2))
    in_axis = []
    for axis, n_cells in enumerate(shape):
        start, end = (boxes[:, :, 1 - axis] * (n_cells / sizes[:, axis, None])).T
        inside = (start >= 0) & (start < end) & (end <= n_cells * (1 + 1e-9))
        if not inside.all():
            raise ValueError(f"box {inside.argmin()} is empty or reaches out of its image")
        centres = np.arange(n_cells) + 0.5
        held = (centres >= start[:, None]) & (centres < end[:, None])
        nearest = np.arange(n_cells) == np.floor((start + end) / 2)[:, None]
        in_axis.append(np.where(held.any(axis=1, keepdims=True), held, nearest))
    rows, columns = in_axis
    return rows[:, :, None] & columns[:, None, :]


def _checked(maps: np.ndarray) -> np.ndarray:
    """Return the maps as float64; ``ValueError`` unless they are (N, h, w) and finite."""
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3 or math.prod(maps.shape[1:]) < 2:
        raise ValueError(f"maps must be (N, h, w) of two cells or more, not {maps.shape}")
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"the map of image {finite.argmin()} is not finite")
    return maps


def _same_shape(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")


def _flat(maps: np.ndarray) -> np.ndarray:
    """Flatten maps to (N, h * w), also for N = 0, where NumPy cannot infer the second number."""
    return maps.reshape(len(maps), math.prod(maps.shape[1:]))


def _mean(maps: np.ndarray) -> np.ndarray:
    """Return the mean of each map, (N, 1, 1); exact for constant maps, so that no cell lies above it."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return np.clip(maps.mean(axis=(1, 2), keepdims=True), low, high)


def _distribution(maps: np.ndarray) -> np.ndarray:
    """Scale the positive part of each map to the sum 1; uniform for a blind map."""
    positive = np.maximum(maps, 0)
    positive = np.where(blind(maps)[:, None, None], 1.0, positive)
    return positive / positive.sum(axis=(1, 2), keepdims=True)


def _displayed(maps: np.ndarray) -> np.ndarray:
    """Scale each map to [0, 1]; a constant map becomes 0."""
    low = maps.min(axis=(1, 2), keepdims=True)
    extent = maps.max(axis=(1, 2), keepdims=True) - low
    return (maps - low) / np.where(extent > 0, extent, 1)


def _ranks(maps: np.ndarray) -> np.ndarray:
    return stats.rankdata(_flat(maps), axis=1).reshape(maps.shape)


def _top_cell(maps: np.ndarray) -> np.ndarray:
    return _flat(maps).argmax(axis=1)


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _cosine(a - _mean(a), b - _mean(b))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    products = (a * b).sum(axis=(1, 2))
    norms = np.sqrt((a * a).sum(axis=(1, 2))) * np.sqrt((b * b).sum(axis=(1, 2)))
    known = norms > 0
    cosine = products / np.where(known, norms, 1)
    return np.where(known, np.clip(cosine, -1, 1), np.nan)


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence to base 2: 0 if ``p`` and ``q`` are equal, 1 if disjoint."""
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=(1, 2))
    return np.clip(divergence / (2 * np.log(2)), 0, 1)


def _window_means(maps: np.ndarray) -> np.ndarray:
    """Average all windows of 3 x 3 cells, first along rows, then along columns: (N, h - 2, w - 2)."""
    for axis in (1, 2):
        side = min(SSIM_SIDE, maps.shape[axis])
        maps = sliding_window_view(maps, side, axis=axis).mean(axis=-1)
    return maps


def _diagonal(shape: tuple[int, ...]) -> float:
    """Return the distance between the centres of opposite corner cells."""
    return math.hypot(shape[1] - 1, shape[2] - 1)


def _coordinates(shape: tuple[int, ...]) -> np.ndarray:
    """Return row and column of every cell: (h, w, 2)."""
    return np.moveaxis(np.indices(shape[1:]), 0, -1).astype(np.float64)


def _centroid(distribution: np.ndarray) -> np.ndarray:
    """Return row and column of the centre of mass: (N, 2)."""
    return np.tensordot(distribution, _coordinates(distribution.shape), axes=2)


def _spread(distribution: np.ndarray) -> np.ndarray:
    from_centroid = _coordinates(distribution.shape) - _centroid(distribution)[:, None, None]
    squares = np.square(from_centroid).sum(axis=-1)
    variance = (distribution * squares).sum(axis=(1, 2))
    return np.sqrt(variance) / _diagonal(distribution.shape)


def _gini(distribution: np.ndarray) -> np.ndarray:
    ordered = np.sort(_flat(distribution), axis=1)
    n = ordered.shape[1]
    return np.clip(ordered @ (2 * np.arange(1, n + 1) - n - 1.0) / n, 0, 1)
