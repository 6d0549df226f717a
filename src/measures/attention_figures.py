"""Figures of attention: single images, and all images by the outcome of the attack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from src.attacks.observed import Observed, Seen
from src.measures.accuracy_figure import LOOK
from src.measures.attention_tables import (
    EASY,
    RELABELLED,
    SUCCESS,
    measures_of,
    outcome_to_show,
    outcomes_of,
)
from src.metrics.attention import top_cells
from src.metrics.significance import bootstrap_interval, wilson_interval
from src.metrics.vulnerability import decile_curve

COLOURS = {True: "#D55E00", False: "#0072B2"}
"""Okabe and Ito's colours of successes and failures, which differ in lightness as well."""
MARKERS = {True: "^", False: "o"}
CHANCE = "0.45"
HEAT = mpl.colormaps["inferno"]
SIGNED = mpl.colormaps["PuOr_r"]
"""Colours of places that add to a score (orange) or take from it (purple)."""
AMPLIFIED = 100
"""Grey levels to which the largest change of an image is amplified in its picture."""
MOST_OPAQUE = 0.75
"""Opacity of the heat where attention is largest."""
OUTLINE = "#56B4E9"
CELL_EDGE = 32
"""Points on a side of a cell where its outline is traced."""
PER_OUTCOME = 3
"""Images of either outcome that are shown where none are asked for."""

_WORDS = {
    SUCCESS: {True: "succeeded", False: "failed"},
    EASY: {True: "easy", False: "hard"},
}
_MOVED = {
    "1 - iou_top": "1 − IoU of the top cells",
    "1 - pearson": "1 − correlation",
    "centroid_distance": "shift of the centre",
    "entropy_change": "change of entropy",
}
_GROUPS = ("class", "predicted", RELABELLED, "target", "score")
"""Read-outs from left to right; the control stands beside what it controls."""
_BEFORE = {
    ("class", "inc3"): "incompleteness (inc3)",
    ("class", "entropy_clean"): "entropy of the map",
    ("", "-margin"): "− margin of the class",
    ("", "object_size"): "size of the object",
}


@dataclass(frozen=True)
class Shown:
    """Pictures (height, width, 3) uint8 of an image, and its row in the ``Observed``."""

    row: int
    clean: np.ndarray
    attacked: np.ndarray
    erased: np.ndarray
    """Clean picture without the cells that its class attends to."""


def rows_to_draw(observed: Observed, table: pd.DataFrame) -> np.ndarray:
    """Return rows of the successes with the largest shift of attention, then failures with the least.

    The shift is the correlation of the maps of the origin class. If there are too few failures, successes
    with the least shift take their places.
    """
    moved = 1 - table["class_pearson"].to_numpy(np.float64)
    order = np.argsort(-np.nan_to_num(moved, nan=-1.0), kind="stable")
    furthest = order[observed.success[order]][:PER_OUTCOME]
    # A stable sort by outcome puts the failures before the successes, both by ascending shift.
    rest = order[::-1][~np.isin(order[::-1], furthest)]
    return np.concatenate([furthest, rest[np.argsort(observed.success[rest], kind="stable")]])[
        : 2 * PER_OUTCOME
    ]


def draw_panels(
    observed: Observed, shown: Sequence[Shown], labels: Sequence[str], path: Path
) -> None:
    """Draw a row for each image: clean, attacked, difference, attention before and after, erased.

    Attention is a colour over the grey picture: the positive part of a class's map, whose top cells are
    outlined, or both parts of a score's map, divided by the largest value. ``labels`` names the
    classes.
    """
    rows = [_pictures(observed, image, labels) for image in shown]
    with mpl.rc_context(LOOK | {"axes.grid": False, "font.size": 7}):
        size = (1.3 * len(rows[0]) + 0.3, 1.5 * len(rows) + 0.2)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
        for image, pictures, line in zip(shown, rows, grid, strict=True):
            for picture, axes in zip(pictures, line, strict=True):
                _draw(axes, picture)
            success = bool(observed.success[image.row])
            outcome = "succeeded" if success else "failed"
            side = f"item {observed.image_ids[image.row]}\nattack {outcome}"
            line[0].set_ylabel(side, color=COLOURS[success])
        for picture, axes in zip(rows[0], grid[0], strict=True):
            axes.set_title(picture.title, fontsize=7)
        figure.savefig(path, dpi=200)


@dataclass(frozen=True)
class Picture:
    """Cell of the figure of single images."""

    title: str
    pixels: np.ndarray
    """Pixels (height, width, 3) uint8."""
    caption: str
    cells: np.ndarray | None = None
    """Cells (h, w) bool that a line surrounds."""


def _pictures(observed: Observed, image: Shown, labels: Sequence[str]) -> list[Picture]:
    """Return one row of the figure."""
    row, clean, attacked = image.row, observed.clean, observed.attacked

    def said(probability: float, number: int) -> str:
        return f"{labels[number].split(',')[0]} {100 * probability:.0f} %"

    def predicted(seen: Seen) -> str:
        number = int(seen.predicted[row])
        return said(seen.probabilities[row, number], number)

    def attention(title: str, seen: Seen, read_out: str, number: int | None) -> Picture:
        heat = seen.maps[read_out][row]
        pixels = image.clean if seen is clean else image.attacked
        value = (
            f"{heat.sum():+.3f}"
            if number is None
            else said(seen.probabilities[row, number], number)
        )
        # The highest cells of a score may lower it, and an outline would mislead.
        cells = None if number is None else top_cells(heat[None], observed.share)[0]
        return Picture(title, _heated(pixels, heat, signed=number is None), value, cells)

    pictures = [
        Picture("clean", image.clean, predicted(clean)),
        Picture("attacked", image.attacked, predicted(attacked)),
        _difference(image),
        attention("origin class,\nclean", clean, "class", observed.origin),
        attention("origin class,\nattacked", attacked, "class", observed.origin),
    ]
    if observed.target is not None:
        pictures.append(attention("target,\nattacked", attacked, "target", observed.target))
    if "score" in clean.maps:
        pictures.append(attention("score,\nclean", clean, "score", None))
        pictures.append(attention("score,\nattacked", attacked, "score", None))
    lost = said(observed.erased["class"][row], observed.origin)
    return [*pictures, Picture("clean,\nerased", image.erased, lost)]


def _difference(image: Shown) -> Picture:
    """Return the change by the attack, amplified around grey."""
    change = image.attacked.astype(np.float64) - image.clean
    largest = float(np.abs(change).max())
    pixels = (128 + AMPLIFIED / max(largest, 1) * change).clip(0, 255).astype(np.uint8)
    return Picture("difference,\namplified", pixels, f"at most {largest:.0f}/255")


def _heated(pixels: np.ndarray, heat: np.ndarray, *, signed: bool) -> np.ndarray:
    """Return the grey picture under ``heat`` (h, w), more opaque for larger values or their ReLU."""
    height, width = pixels.shape[:2]
    heat = heat if signed else np.maximum(heat, 0)
    relative = heat / max(float(np.abs(heat).max()), 1e-12)
    enlarged = Image.fromarray(relative.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    heat = np.asarray(enlarged)
    colour = SIGNED((heat + 1) / 2) if signed else HEAT(heat)
    opacity = MOST_OPAQUE * np.sqrt(np.abs(heat))[:, :, None]
    grey = pixels.mean(axis=2, keepdims=True) / 255
    return (255 * ((1 - opacity) * grey + opacity * colour[:, :, :3])).astype(np.uint8)


def _draw(axes: Axes, picture: Picture) -> None:
    height, width = picture.pixels.shape[:2]
    axes.imshow(picture.pixels)
    if picture.cells is not None:
        # Cells are enlarged to pixels, so that the line runs along their borders.
        edges = np.kron(picture.cells, np.ones((CELL_EDGE, CELL_EDGE)))
        rows, columns = edges.shape
        axes.contour(
            (np.arange(columns) + 0.5) * width / columns - 0.5,
            (np.arange(rows) + 0.5) * height / rows - 0.5,
            edges,
            levels=[0.5],
            colors=OUTLINE,
            linewidths=0.8,
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(picture.caption, fontsize=6, labelpad=2)


def draw_outcomes(table: pd.DataFrame, path: Path) -> None:
    """Draw shifts of attention of successes and failures (above) and success rates (below).

    Shifts are grouped by read-out, rates by deciles of measures of the clean image. Bars are 95 %
    intervals, of means by bootstrap and of rates by Wilson (1927). If nearly all attacks have the same
    outcome, images with a small smallest budget (easy) are compared with the others (hard).
    """
    name = outcome_to_show(table)
    outcome = outcomes_of(table)[name]
    measures = measures_of(table)
    with mpl.rc_context(LOOK | {"axes.grid": False}):
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        moved, before = figure.subplots(2, len(_MOVED))
        for (measure_name, title), axes in zip(_MOVED.items(), moved, strict=True):
            of = {m.read_out: m.of(table) for m in measures if m.name == measure_name}
            ordered = sorted(of, key=_GROUPS.index)
            _draw_groups(axes, {name: of[name] for name in ordered}, outcome)
            axes.set_title(title, fontsize=8)
        for ((read_out, measure_name), title), axes in zip(_BEFORE.items(), before, strict=True):
            (measure,) = [m for m in measures if (m.read_out, m.name) == (read_out, measure_name)]
            _draw_deciles(axes, measure.of(table), outcome)
            axes.set_xlabel(title)
        words = _WORDS[name]
        before[0].set_ylabel(f"% {words[True]}, by decile of")
        handles = [
            Line2D([], [], linestyle="", marker=MARKERS[of], color=COLOURS[of], label=label)
            for of, label in _labelled(words, outcome).items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        figure.savefig(path, dpi=200)


def _labelled(words: Mapping[bool, str], outcome: np.ndarray) -> dict[bool, str]:
    return {of: f"{word} ({int((outcome == of).sum())})" for of, word in words.items()}


def _draw_groups(axes: Axes, values: Mapping[str, np.ndarray], outcome: np.ndarray) -> None:
    """Draw points, their mean and its interval for each read-out and outcome."""
    jitter = np.random.default_rng(0).uniform(-0.13, 0.13, len(outcome))
    for at, of_read_out in enumerate(values.values()):
        for success, place in ((True, at - 0.2), (False, at + 0.2)):
            chosen = (outcome == success) & np.isfinite(of_read_out)
            points = of_read_out[chosen]
            look = {"color": COLOURS[success], "marker": MARKERS[success]}
            axes.scatter(place + jitter[chosen], points, s=3, alpha=0.3, linewidths=0, **look)
            if len(points) > 1:
                low, high = (bound.item() for bound in bootstrap_interval(points[:, None]))
                axes.vlines(place, low, high, color="black", linewidth=1.6)
                axes.plot(place, points.mean(), markersize=5, markeredgecolor="black", **look)
    axes.set_xticks(range(len(values)), values, rotation=30, ha="right", rotation_mode="anchor")


def _draw_deciles(axes: Axes, values: np.ndarray, outcome: np.ndarray) -> None:
    known = np.isfinite(values)
    curve = decile_curve(outcome[known], values[known])
    successes = np.rint(curve.success_rate / 100 * curve.count)
    low, high = wilson_interval(successes, curve.count)
    deciles = np.arange(1, len(low) + 1)
    axes.axhline(100 * outcome.mean(), color=CHANCE, linewidth=0.8, linestyle="--")
    axes.vlines(deciles, 100 * low, 100 * high, color="0.55", linewidth=1)
    axes.plot(deciles, curve.success_rate, "s", color="black", markersize=3.5)
    axes.set(ylim=(-3, 103), xticks=(1, 5, 10))
