"""How well an image metric agrees with people, who say which reconstructions they recognise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
_CELLS_AT_ONCE = 2**22
"""Numbers in the largest array of one block of resamples."""
_ROUNDING = 1e-12
"""Part of the largest value by which equal means may differ, since sums are rounded."""


@dataclass(frozen=True)
class Estimate:
    """A value and its interval; NaN where it does not exist."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """The first three compare models, in -1 to 1; the others reconstructions, in 0 to 1."""

    spearman: Estimate
    kendall: Estimate
    """tau-b."""
    pearson: Estimate
    auc: Estimate
    """How often, of two reconstructions one of which people recognise, the metric says it is closer."""
    auc_within: Estimate
    """The same, of two reconstructions of one original, by two models."""
    n_models: int
    n_images: int


def agreement(
    scores: np.ndarray,
    human: np.ndarray,
    *,
    higher_is_closer: bool,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Compare a metric with people on reconstructions of the same images by several models.

    ``scores`` (models, images) are the metric's, ``human`` (models, images) the shares of people in
    [0, 1] who recognise each reconstruction. Models are compared by their means; a reconstruction
    counts as recognised where more than half recognise it. All values are positive where metric and
    people agree, whichever way the metric is oriented.

    Intervals are percentiles of a bootstrap that draws models and, independently, images, since both
    are samples (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007); resamples in
    which a value does not exist, such as those of one model only, are left out. The same ``seed``
    draws the same resamples for every metric. Raises ``ValueError`` for arrays of unlike shapes, empty
    ones and values that are not finite.
    """
    _require_table(scores, human)
    closeness = np.asarray(scores, np.float64) * (1 if higher_is_closer else -1)
    recognised = np.asarray(human) > 0.5
    n_models, n_images = closeness.shape
    rng = np.random.default_rng(seed)
    models, images = (_with_all(_draws(n, resamples, rng)) for n in (n_models, n_images))
    means = [images @ values.T / n_images for values in (closeness, np.asarray(human, np.float64))]
    values = {
        **_correlations(*means, models),
        "auc": _auc(closeness, recognised, models, images),
        "auc_within": _auc_within(closeness, recognised, models, images),
    }
    estimates = {name: _estimate(of, confidence) for name, of in values.items()}
    return Agreement(**estimates, n_models=n_models, n_images=n_images)


def _require_table(scores: np.ndarray, human: np.ndarray) -> None:
    if scores.ndim != 2 or scores.shape != human.shape or scores.size == 0:
        raise ValueError(f"scores {scores.shape} and people {human.shape} are no (models, images)")
    if not (np.isfinite(scores).all() and np.isfinite(human).all()):
        raise ValueError("scores or people's shares are not finite")


def _draws(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, n) float64: how often each of ``n`` is drawn in ``n`` draws with replacement."""
    return rng.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float64)


def _with_all(counts: np.ndarray) -> np.ndarray:
    """A first row of ones: the sample itself."""
    return np.insert(counts, 0, 1, axis=0)


def _estimate(values: np.ndarray, confidence: float) -> Estimate:
    """From the sample's own value and those of its resamples."""
    own, known = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(own) or len(known) == 0:
        return Estimate(own, np.nan, np.nan)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(known, (tail, 100 - tail))
    return Estimate(own, float(low), float(high))


def _blocks(rows: int, cells: int) -> Iterator[slice]:
    """Slices of ``rows`` that have ``cells`` numbers each."""
    step = max(1, _CELLS_AT_ONCE // cells)
    return (slice(first, first + step) for first in range(0, rows, step))


def _correlations(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Pearson's, Spearman's and Kendall's coefficient of each row, (rows,) each.

    ``x`` and ``y`` (rows, models) are values, ``counts`` how often each model is there.
    """
    parts = [
        _general_correlations(x[block], y[block], counts[block])
        for block in _blocks(len(x), x.shape[1] ** 2)
    ]
    together = np.concatenate(parts, axis=1)
    return dict(zip(("pearson", "spearman", "kendall"), together, strict=True))


def _general_correlations(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(3, rows): the three are one coefficient (Daniels, Biometrika 1944), of differences of pairs.

    Those are differences of values (Pearson), of ranks (Spearman), or only their signs (Kendall).
    """
    pairs = counts[:, :, None] * counts[:, None]
    differences = _differences(x), _differences(y)
    signs = tuple(map(np.sign, differences))
    # Who stands below minus who stands above is twice the mean rank among all drawn, but for a constant.
    ranks = (np.einsum("rij,rj->ri", sign, counts) for sign in signs)
    ranked = map(_differences, ranks)
    return np.stack([_coefficient(*of, pairs) for of in (differences, ranked, signs)])


def _differences(values: np.ndarray) -> np.ndarray:
    """(rows, n) -> (rows, n, n) of all pairs, 0 for equal ones."""
    differences = values[:, :, None] - values[:, None]
    smallest = _ROUNDING * np.abs(values).max(axis=1)[:, None, None]
    return np.where(np.abs(differences) <= smallest, 0, differences)


def _coefficient(a: np.ndarray, b: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """sum(ab) / sqrt(sum(aa) sum(bb)) of each row; NaN where all are equal."""
    ab, aa, bb = (np.einsum("rij,rij,rij->r", pairs, *of) for of in ((a, b), (a, a), (b, b)))
    with np.errstate(invalid="ignore"):
        return ab / np.sqrt(aa * bb)


def _auc(
    closeness: np.ndarray, recognised: np.ndarray, models: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """(rows,): among all reconstructions (models, images), each as often as its model and image."""
    order = np.argsort(closeness, axis=None)
    of_model, of_image = np.unravel_index(order, closeness.shape)
    right = recognised[of_model, of_image]
    # Reconstructions of the same score stand together: neither of them is closer.
    scores = closeness[of_model, of_image]
    first = np.flatnonzero(np.append(True, np.diff(scores) != 0))
    parts = []
    for block in _blocks(len(models), closeness.size):
        counts = models[block][:, of_model] * images[block][:, of_image]
        known = np.add.reduceat(counts * right, first, axis=1)
        unknown = np.add.reduceat(counts * ~right, first, axis=1)
        won = (known * (unknown.cumsum(axis=1) - unknown / 2)).sum(axis=1)
        parts.append(_share(won, known.sum(axis=1) * unknown.sum(axis=1)))
    return np.concatenate(parts)


def _auc_within(
    closeness: np.ndarray, recognised: np.ndarray, models: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """(rows,): among pairs of reconstructions of one image, one recognised and one not."""
    closeness, recognised = closeness.T, recognised.T
    pairs = recognised[:, :, None] & ~recognised[:, None]
    won = pairs * (1 + np.sign(closeness[:, :, None] - closeness[:, None])) / 2
    sums = (np.einsum("ri,imn->rmn", images, of, optimize=True) for of in (won, pairs * 1.0))
    return _share(*(np.einsum("rmn,rm,rn->r", of, models, models) for of in sums))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return part / whole
