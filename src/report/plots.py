"""Plots of the report, each with one pair of axes, for pages and for papers."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.measures.accuracy_figure import BAND, COLOURS, LOOK, MARKERS

SIZE = (4.6, 3.6)
"""Inches: text of 9 points stays readable where a phone shows the plot at its width."""
_LINE = 66
"""Characters of a title that fit."""
_LEGEND_LINE, _HANDLE = 68, 8
"""Characters of a line of the legend that fit; those that a sample of a line takes beside its label."""
_LEGEND_ROWS, _ROW = 2, 0.17
"""Rows of a legend for which there is room; inches of height for each further one."""
_LIGHT = {"text": "#1b1f24", "grid": "#e3e6ea", "page": "#ffffff"}
_DARK = {"text": "#e4e7eb", "grid": "#333a43", "page": "#1a1e24"}
_LOG_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
NEUTRAL = "#858b94"
"""Grey of controls, which is seen on white and on black."""
PALETTE = COLOURS[:-1]
"""Colours without black, which a dark page hides."""


@dataclass(frozen=True)
class Curve:
    """Line through ``x`` with its interval (NaN without one)."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    style: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``Axes.plot``; without a colour the line has that of the text."""
    bars: bool = False
    """True draws intervals as bars at the points, False as a band."""

    @classmethod
    def of(
        cls, label: str, x: np.ndarray, rows: pd.DataFrame, name: str, style: Mapping[str, Any]
    ) -> "Curve":
        """Return the curve of the estimates ``name`` of some rows, one for each of ``x``."""
        y, low, high = (rows[f"{name}{end}"].to_numpy(np.float64) for end in ("", "_low", "_high"))
        return cls(label, x, y, low, high, style)


@dataclass(frozen=True)
class Plot:
    """Plot under its file name's stem; ``alt`` describes it in words."""

    name: str
    title: str
    alt: str
    draw: Callable[[Axes], None]
    kind = "plot"

    @cached_property
    def light(self) -> dict[str, bytes]:
        """Files for light pages and for papers, by format: ``svg``, ``png`` and ``pdf``; always equal."""
        return self._files("svg", "png", "pdf")

    @cached_property
    def page(self) -> bytes:
        """SVG for the report, whose text, grid and background follow the reader's colour scheme."""
        svg = self.light["svg"].decode()
        for name, colour in _LIGHT.items():
            svg = svg.replace(colour, f"var(--{name})")
        schemes = [_scheme(of) for of in (_LIGHT, _DARK)]
        dark = f"@media screen and (prefers-color-scheme: dark) {{{schemes[1]}}}"
        start = svg.index(">", svg.index("<svg")) + 1
        svg = svg[svg.index("<svg") : start] + f"<style>{schemes[0]}{dark}</style>" + svg[start:]
        return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).encode()

    def _files(self, *suffixes: str) -> dict[str, bytes]:
        with mpl.rc_context(_look(_LIGHT)):
            figure = Figure(figsize=SIZE, layout="constrained")
            axes = figure.subplots()
            figure.suptitle(textwrap.fill(self.title, _LINE), fontsize=9)
            self.draw(axes)
            if labelled := axes.get_legend_handles_labels()[1]:
                columns = _LEGEND_LINE // (max(map(len, labelled)) + _HANDLE)
                columns = min(max(columns, 1), len(labelled), 3)
                figure.legend(loc="outside lower center", ncols=columns)
                rows = -(-len(labelled) // columns)
                figure.set_figheight(SIZE[1] + _ROW * max(rows - _LEGEND_ROWS, 0))
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # places are found once, not again for each file
            return {suffix: _saved(figure, suffix) for suffix in suffixes}


def _scheme(colours: Mapping[str, str]) -> str:
    return "svg{" + "".join(f"--{name}:{colour};" for name, colour in colours.items()) + "}"


def _saved(figure: Figure, suffix: str) -> bytes:
    stream = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(stream, format=suffix, dpi=200, metadata=dates.get(suffix))
    return stream.getvalue()


def _look(colours: Mapping[str, str]) -> dict[str, Any]:
    text, page = colours["text"], colours["page"]
    return LOOK | {
        "font.size": 9,
        "legend.fontsize": 8,
        "grid.color": colours["grid"],
        "figure.facecolor": page,
        "axes.facecolor": page,
        "axes.axisbelow": True,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), text),
        **dict.fromkeys(("xtick.color", "ytick.color", "axes.titlecolor"), text),
    }


def styles_of(names: Sequence[str], *, controls: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return a colour and a marker for each name, in order; controls are grey and dotted."""
    styles: dict[str, dict[str, Any]] = {}
    for at, name in enumerate(name for name in names if name not in controls):
        colour, marker = PALETTE[at % len(PALETTE)], MARKERS[at % len(MARKERS)]
        styles[name] = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.3}
        if at // len(PALETTE) % 2:
            # If a colour repeats, points are hollow and lines broken.
            hollow = {"fillstyle": "none", "markersize": 5, "markeredgewidth": 0.9}
            styles[name] |= hollow | {"linestyle": (0, (4, 1.5))}
    for at, name in enumerate(name for name in names if name in controls):
        marker = MARKERS[-1 - at % len(MARKERS)]
        styles[name] = {
            "color": NEUTRAL, "marker": marker, "markersize": 3, "linestyle": ":", "linewidth": 1,
        }  # fmt: skip
    return styles


def draw_curves(
    axes: Axes, curves: Sequence[Curve], x_label: str, y_label: str, *, log: bool = False,
    limits: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """Draw lines with bands or bars; their points are the ticks, and ``log`` scales the x axis.

    ``limits`` are the ends of the y axis, which otherwise has room for the curves alone.
    """
    for curve in curves:
        style = {"color": mpl.rcParams["text.color"]} | dict(curve.style)
        if curve.bars:
            # Rounding may put a bound on the wrong side of its mean by an ulp.
            reach = np.maximum([curve.y - curve.low, curve.high - curve.y], 0)
            axes.errorbar(
                curve.x, curve.y, reach, label=curve.label, capsize=2, elinewidth=0.8, **style
            )
        else:
            axes.plot(curve.x, curve.y, label=curve.label, **style)
            if not np.isnan(curve.low).all():
                axes.fill_between(
                    curve.x, curve.low, curve.high, color=style["color"], alpha=BAND, linewidth=0
                )
    ticks = np.unique(np.concatenate([curve.x for curve in curves]))
    if log:
        axes.set_xscale("log")
        ticks = ticks[np.isin(ticks, _LOG_TICKS)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_ylim(limits)
    axes.margins(x=0.05)
