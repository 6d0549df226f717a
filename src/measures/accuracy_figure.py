"""Figure of accuracy against the strength of an attack, for each recommender."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from src.metrics.significance import mean_interval

NAMES = {"hr": "HR", "ndcg": "nDCG", "auc": "AUC"}
"""Names of the metrics, in the order of ``Line.means``."""
PANELS = ("hr", "auc")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which readers who do not see all colours can tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("--", (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
"""Dashes of attacks of several steps."""
BAND = 0.15
"""Opacity of intervals."""
LOOK = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "text.parse_math": False,  # text such as "$ 10" must not become a formula
    "svg.hashsalt": "",  # equal figures give equal files
}


@dataclass(frozen=True)
class Line:
    """Recommender under one kind of attack of growing strength."""

    recommender: str
    attack: str
    """Attack in words."""
    kind: str
    """Kind of attack: ``fgsm``, ``bim``, ``pgd`` or ``random``."""
    eps: np.ndarray
    """Budgets (n,), ascending from 0."""
    means: np.ndarray
    """Means over users (seeds, n, metrics)."""


Style = dict[str, Any]
"""Properties of a drawn line."""


def draw_accuracy(lines: Sequence[Line], k: int, title: str, paths: Sequence[Path]) -> None:
    """Draw HR@``k`` and AUC and write the figure to ``paths``, each in the format of its suffix.

    Bands are 95 % intervals of the mean over seeds (Student's t).
    """
    of_recommender, of_attack = _recommender_styles(lines), _attack_styles(lines)
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.8, 3.4), layout="constrained")
        figure.suptitle(title, fontsize=9)
        for axes, metric in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            for line in lines:
                style = of_recommender[line.recommender] | of_attack[line.attack]
                _draw(axes, line, list(NAMES).index(metric), style)
            axes.set_xlabel("budget ε of each row (table units)")
            axes.set_ylabel(NAMES[metric] + ("" if metric == "auc" else f"@{k}"))
            axes.margins(x=0.03)
        handles = _legend(of_recommender, of_attack, n_seeds=len(lines[0].means))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=300, metadata=metadata)


def _legend(
    of_recommender: Mapping[str, Style], of_attack: Mapping[str, Style], n_seeds: int
) -> list[Artist]:
    """Draw the legend: colours for recommenders, dashes for attacks of any colour."""
    styles = of_recommender | {name: {"color": "0.3"} | of for name, of in of_attack.items()}
    handles: list[Artist] = [Line2D([], [], label=name, **of) for name, of in styles.items()]
    if n_seeds > 1:
        label = f"95 % interval, {n_seeds} seeds"
        handles.append(Patch(facecolor="0.3", alpha=BAND, label=label))
    return handles


def _draw(axes: Axes, line: Line, metric: int, style: Style) -> None:
    means = line.means[:, :, metric]
    axes.plot(line.eps, means.mean(axis=0), **style)
    if line.kind != "random":
        low, high = mean_interval(means)
        axes.fill_between(line.eps, low, high, color=style["color"], alpha=BAND, linewidth=0)


def _recommender_styles(lines: Sequence[Line]) -> dict[str, Style]:
    """Return a colour and, for readers who do not see it, a marker for each recommender."""
    names = dict.fromkeys(line.recommender for line in lines)
    looks = cycle(zip(COLOURS, MARKERS, strict=True))
    return {
        name: {"color": colour, "marker": marker, "markersize": 3.5}
        for name, (colour, marker) in zip(names, looks, strict=False)
    }


def _attack_styles(lines: Sequence[Line]) -> dict[str, Style]:
    """Return line styles: solid for one step, dashed for several, thin and dotted for the control."""
    dashes = cycle(DASHES)
    styles: dict[str, Style] = {}
    for line in lines:
        if line.attack in styles:
            continue
        if line.kind == "random":
            styles[line.attack] = {"linestyle": ":", "linewidth": 0.9, "marker": ""}
        else:
            dash = "-" if line.kind == "fgsm" else next(dashes)
            styles[line.attack] = {"linestyle": dash, "linewidth": 1.4}
    return styles
