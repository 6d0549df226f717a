"""Proven bounds of exposure, and of lists, over all images of an item within a budget.

A user whose bound of the score reaches his threshold could be shown the item; all others cannot,
whatever the image. Bounds come from the layers of the extractor (``defences/bounds.py``) or from noisy
copies (``defences/median_smoothing.py``), which then also rank.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_feature_rows
from src.artifacts.layout import Layout
from src.artifacts.parts import Parts
from src.artifacts.progress import progress_bar
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageSet
from src.defences.bounds import Bounded
from src.defences.median_smoothing import noisy_copies, smoothed_bounds
from src.extractors.extractor import Extractor
from src.extractors.feeding import FittingBatches
from src.measures.attack_records import attacked_ids, measurable, recorded_budget
from src.measures.exposure import Subject
from src.recommenders.delta import Changed
from src.recommenders.weights import unit_length

Method = Literal["crown", "ibp", "smoothing"]
NORMS: dict[str, str] = {"crown": "inf", "ibp": "inf", "smoothing": "2"}
"""Norm of the budget within which each method proves."""
COLUMNS = ("item", "clean", "attack", "bound", "method", "norm", "eps", "k", "found_by", "seconds")
"""Columns of ``bounds.tsv``; ``found_by`` is the attack that got furthest."""
LIST_COLUMNS = ("items", "clean", "attack", "bound", "method", "norm", "eps", "k", "found_by")
_ROUNDING = 1e-5
"""Share of the largest score by which float32, in which networks rank, may differ from float64."""
_ITEMS_AT_ONCE = 16
"""Items whose noisy copies are in memory together."""


class BoundExceeded(RuntimeError):
    """An attack got further than a proof allows: one of the two is wrong."""


@dataclass(frozen=True)
class Budget:
    """Images within ``eps`` grey levels of the clean one, in the norm of ``method``.

    Smoothing has noise of deviation ``sigma`` (1 being white) on ``n`` copies.
    """

    method: Method
    eps: float
    sigma: float = 0.25
    n: int = 1000

    @property
    def norm(self) -> str:
        return NORMS[self.method]

    def holds(self, other: tuple[float, str] | None) -> bool:
        """Return whether images within the budget ``other`` (eps, norm) are within this one."""
        return other is not None and other[1] == self.norm and other[0] <= self.eps


@dataclass(frozen=True)
class Proven:
    """Bounds of n items' scores, beside the recommender that they hold for."""

    changed: Changed
    rows: np.ndarray
    """Rows (n, d) float32 of the clean items."""
    bounds: np.ndarray
    """Upper bounds (n, users) on the scores of all images within the budget."""
    seconds: np.ndarray
    """Time (n,) in seconds that the proof of each item took."""
    rows_under: Callable[[Experiment, np.ndarray], np.ndarray]
    """Rows of some items (their ids) with their images in an attacked experiment."""


def prove(
    subject: Subject,
    extractor: Extractor,
    images: ImageSet,
    ids: np.ndarray,
    budget: Budget,
    parts: Parts,
) -> Proven:
    """Bound every user's score of each item of ``ids``; ``UserError`` if there is no proof."""
    subject.changed(ids)  # refuses items that nobody can be shown before any work is done
    if subject.recommender.slopes(np.arange(1)) is None:
        raise UserError(
            f"{subject.run.model}: its scores have no slopes in features, and no bounds"
        )
    if budget.method == "smoothing":
        return _prove_by_noise(subject, extractor, images, ids, budget, parts)
    return _prove_by_layers(subject, extractor, images, ids, budget, parts)


def _prove_by_layers(
    subject: Subject,
    extractor: Extractor,
    images: ImageSet,
    ids: np.ndarray,
    budget: Budget,
    parts: Parts,
) -> Proven:
    if subject.recommender.unit:
        raise UserError(
            "the recommender reads features of length 1, in which no score is linear: use --method "
            "smoothing"
        )
    bounded = Bounded(extractor)
    slopes = subject.recommender.slopes().astype(np.float64)

    def prove_item(position: int) -> dict[str, np.ndarray]:
        (picture,) = images.batch(ids[position : position + 1])
        return {"highest": bounded.highest(picture, budget.eps, slopes, budget.method)}

    found = list(_timed(prove_item, len(ids), parts, "items proven"))
    users, items = (of.astype(np.float64) for of in subject.factors)
    scores = items[ids] @ users.T
    by_features = subject.data.features[ids].astype(np.float64) @ slopes.T
    highest = np.stack([of["highest"] for of in found])
    rounding = _ROUNDING * max(np.abs(scores).max(), np.abs(by_features).max())

    def rows_under(experiment: Experiment, attacked: np.ndarray) -> np.ndarray:
        path = subject.layout.features(experiment)
        return subject.rows(read_feature_rows(path, attacked), attacked)

    return Proven(
        subject.changed(ids),
        subject.factors[1][ids],
        scores - by_features + highest + rounding,
        np.array([float(of["seconds"]) for of in found]),
        rows_under,
    )


def _prove_by_noise(
    subject: Subject,
    extractor: Extractor,
    images: ImageSet,
    ids: np.ndarray,
    budget: Budget,
    parts: Parts,
) -> Proven:
    """Rank by medians over noisy copies, for which users are unit vectors and items rows of scores."""
    users, items = subject.factors
    features = subject.data.features
    slopes = subject.recommender.slopes()
    read = unit_length if subject.recommender.unit else np.asarray
    constants = items @ users.T - read(features) @ slopes.T
    eps, n_bounds = budget.eps / 255, len(ids) * len(users)
    fitting = FittingBatches()

    def copies_of(batch: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the features (n, D) of noisy copies of each picture of a batch."""
        for of_rows in fitting.run(
            lambda rows: noisy_copies(extractor, batch[rows], budget.sigma, budget.n), len(batch)
        ):
            yield from of_rows

    def bounds_of(pictures: ImageSet, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return medians and bounds (m, users) of the items ``of``, whose images are ``pictures``."""
        bounds = []
        for start in range(0, len(of), _ITEMS_AT_ONCE):
            batch = pictures.batch(pictures.positions(of[start : start + _ITEMS_AT_ONCE]))
            bounds += [
                smoothed_bounds(slopes @ read(noisy).T, eps, budget.sigma, n_bounds)
                for noisy in copies_of(batch)
            ]
        own = constants[of]
        return own + [b.median for b in bounds], own + [b.high for b in bounds]

    blocks = [
        np.arange(start, min(start + _ITEMS_AT_ONCE, len(items)))
        for start in range(0, len(items), _ITEMS_AT_ONCE)
    ]

    def prove_block(position: int) -> dict[str, np.ndarray]:
        median, high = bounds_of(images, blocks[position])
        return {"median": median, "high": high[np.isin(blocks[position], ids)]}

    found = list(_timed(prove_block, len(blocks), parts, f"blocks of {_ITEMS_AT_ONCE} items"))
    medians = np.concatenate([of["median"] for of in found]).astype(np.float32)
    seconds = np.concatenate(
        [
            np.full(len(block), float(of["seconds"]) / len(block))
            for block, of in zip(blocks, found, strict=True)
        ]
    )

    def rows_under(experiment: Experiment, attacked: np.ndarray) -> np.ndarray:
        folder = subject.layout.attacked_images(experiment)
        pictures = open_catalogue(folder, images.side)
        return bounds_of(pictures, attacked)[0].astype(np.float32)

    interactions = subject.data.at_test_time
    changed = Changed(np.eye(len(users), dtype=np.float32), medians, interactions, ids, subject.k)
    high = np.concatenate([of["high"] for of in found]) + _ROUNDING * np.abs(medians).max()
    return Proven(changed, medians[ids], high, seconds[ids], rows_under)


def _timed(
    work: Callable[[int], dict[str, np.ndarray]], n: int, parts: Parts, what: str
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of each of ``n`` parts, with their ``seconds``; finished ones are read."""
    for number in progress_bar(range(n), desc=what, unit="part"):
        if (found := parts.load(number)) is None:
            began = time.perf_counter()
            found = work(number)
            found["seconds"] = np.array(time.perf_counter() - began)
            parts.save(number, found)
        yield dict(found)


def attacks_within(layout: Layout, model_dir: str | None, budget: Budget) -> list[Experiment]:
    """Return the attacked experiments of an extractor whose images lie within the budget."""
    return [
        of
        for of in measurable(layout)
        if of.model_dir == model_dir and budget.holds(recorded_budget(layout, of))
    ]


def bounds_tables(
    proven: Proven, layout: Layout, budget: Budget, attacks: Sequence[Experiment]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of items, and the one of lists when all items are attacked at once.

    Raises ``BoundExceeded`` where an attack got further than its bound.
    """
    changed, ids = proven.changed, proven.changed.ids
    best, others = changed.best(), changed.others()
    thresholds, may_see = changed.thresholds()

    def exposure(rows: np.ndarray) -> np.ndarray:
        return changed.users_shown(rows, best) / changed.audience

    def places(rows: np.ndarray) -> float:
        return float(np.isin(changed.lists(rows, others).items, ids).sum(axis=1).mean())

    bounds = proven.bounds.T
    shown = ((bounds >= thresholds) & may_see).sum(axis=0) / changed.audience
    reach = ((bounds >= others.scores[:, -1:]) & may_see).sum(axis=1)
    said = {"method": budget.method, "norm": budget.norm, "eps": budget.eps, "k": changed.k}
    items = pd.DataFrame(
        {
            "item": ids,
            "clean": exposure(proven.rows),
            "attack": np.nan,
            "bound": shown,
            **said,
            "found_by": "",
            "seconds": proven.seconds,
        }
    )
    together = {
        "items": len(ids),
        "clean": places(proven.rows),
        "attack": np.nan,
        "bound": float(np.minimum(reach, changed.k).mean()),
        **said,
        "found_by": "",
    }
    for experiment in attacks:
        covered = np.isin(ids, attacked_ids(layout, experiment))
        rows = proven.rows.copy()
        if covered.any():
            rows[covered] = proven.rows_under(experiment, ids[covered])
        _require_within(proven, rows, experiment)
        reached = exposure(rows)
        further = covered & ~(reached <= items["attack"].to_numpy())
        items.loc[further, "attack"] = reached[further]
        items.loc[further, "found_by"] = experiment.name
        held = places(rows)
        if covered.all() and not held <= together["attack"]:
            together |= {"attack": held, "found_by": experiment.name}
    _require_below(items, together)
    return items[list(COLUMNS)], pd.DataFrame([together])[list(LIST_COLUMNS)]


def _require_within(proven: Proven, rows: np.ndarray, experiment: Experiment) -> None:
    scores = rows @ proven.changed.users.T
    if (above := scores > proven.bounds).any():
        position, user = np.argwhere(above)[0]
        raise BoundExceeded(
            f"{experiment.name}: user {user} gives item {proven.changed.ids[position]} "
            f"{scores[position, user]:.6g}, above the bound {proven.bounds[position, user]:.6g}"
        )


def _require_below(items: pd.DataFrame, together: dict[str, object]) -> None:
    """Raise ``BoundExceeded`` where a measured exposure, clean or attacked, is above its bound."""
    for table in (items, pd.DataFrame([together])):
        for name in ("clean", "attack"):
            if (table[name] > table["bound"]).any():
                raise BoundExceeded(f"{name} is above its bound: {table.to_dict('records')[0]}")


def read_bounds(path: Path) -> pd.DataFrame:
    """Read ``bounds.tsv`` or the table of lists."""
    numbers = ("item", "clean", "attack", "bound", "eps", "k")
    table = read_results(path, LIST_COLUMNS[1:], text=("norm",), numbers=numbers)
    return table.fillna({"found_by": ""})


def bounds_summary(items: pd.DataFrame, together: pd.DataFrame) -> str:
    """Return two sentences for the terminal: single items, and all at once."""
    first = items.iloc[0]
    norm = "L-inf" if first["norm"] == "inf" else f"L{first['norm']}"
    within = f"within {first['eps']:g}/255 in {norm}"
    alone = (
        f"exposure@{first['k']} of {len(items)} items, each alone, {within}: "
        f"{_said(items['clean'].mean(), items['attack'].mean(), items['bound'].mean())} "
        f"({first['method']}, {items['seconds'].mean():.3g} s an item)"
    )
    row = together.iloc[0]
    at_once = (
        f"places of {row['k']}, all at once: {_said(row['clean'], row['attack'], row['bound'])}"
    )
    return f"{alone}\n{at_once}"


def _said(clean: float, attack: float, bound: float) -> str:
    found = f"best attack {attack:.4f}, " if np.isfinite(attack) else ""
    ratio = f", {bound / attack:.2f} times the attack" if attack > 0 else ""
    return f"clean {clean:.4f}, {found}proven at most {bound:.4f}{ratio}"
