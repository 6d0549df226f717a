"""Page of the leaderboard: a table and a plot for each catalogue."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Template
from matplotlib.axes import Axes

from src.artifacts.atomic import atomic_outputs
from src.measures.leaderboard import COST, SUBMITTED, UNDEFENDED, ranked, read_results
from src.recommenders.reliance import HARDLY
from src.report.plots import NEUTRAL, Plot, styles_of

_HALF, _LOOKS, _TRAININGS = 0.5, 0.1, 3
"""A defence holds within these: largest share of the gain, loss of reliance, fewest trainings."""
_TEMPLATE = Path(__file__).with_name("templates") / "leaderboard.md.j2"


def write_page(page: Path, tables: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Write the page of the results ``tables`` (files by catalogue), one plot for each suite."""
    parts, plots = [], {}
    for name, files in tables.items():
        table = pd.concat([read_results(path) for path in files], ignore_index=True)
        for suite, of in table.groupby("suite"):  # rows of different suites do not compare
            rows = ranked(of)
            plot = _plot(name, rows)
            ending = re.sub(r"[^A-Za-z0-9._]+", "-", f"{name} {suite}")
            path = page.with_name(f"{page.stem}_{ending}.svg")
            plots[path] = plot.light["svg"]
            parts.append(_section(f"{name}, suite {suite}", rows, plot, path.name))
    template = Template(_TEMPLATE.read_text(), keep_trailing_newline=True)
    text = template.render(
        tables="\n".join(parts), cost=f"{100 * COST:.0f} %", hardly=f"{HARDLY:g}"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    with atomic_outputs(page, *plots) as (written, *files):
        written.write_text(text)
        for file, content in zip(files, plots.values(), strict=True):
            file.write_bytes(content)
    return [page, *plots]


def _section(name: str, rows: pd.DataFrame, plot: Plot, image: str) -> str:
    first = rows.iloc[0]
    norm = "∞" if first["norm"] == "inf" else first["norm"]
    trainings = sorted(set(rows["extractor_seeds"]))
    said = [
        f"## {name}\n",
        f"Within {first['eps']:g}/255 in L{norm}; {' or '.join(map(str, trainings))} training"
        f"{'' if trainings == [1] else 's'} of each extractor. {_summary(rows)}\n",
        f"![{plot.alt}]({image})\n",
        _table(rows),
    ]
    return "\n".join(said)


def _summary(rows: pd.DataFrame) -> str:
    """Say how far attacks get without a defence, and which defence holds or is nearest to that."""
    plain = rows[rows["entry"] == UNDEFENDED]
    if plain.empty:
        return ""
    plain = plain.iloc[0]
    gain = plain["exposure"] - plain["clean"]
    text = (
        "The best attack on the undefended recommender takes an item from "
        f"{_percent(plain['clean'])} to {_percent(plain['exposure'])} of the users. A defence holds "
        "where it is without a mark, leaves at most half of that gain, costs at most "
        f"{_LOOKS:g} of reliance, and {_TRAININGS} trainings keep the intervals apart. "
    )
    looking = rows["reliance"] >= plain["reliance"] - _LOOKS
    others = rows[(rows["entry"] != UNDEFENDED) & (rows["marks"].str.len() == 0) & looking]
    if others.empty or gain <= 0:
        return text + "None does: each has a mark or reads images much less."
    best = others.iloc[0]
    left = (best["exposure"] - best["clean"]) / gain
    apart = best["high"] < plain["low"] and best["extractor_seeds"] >= _TRAININGS
    if left <= _HALF and apart:
        return f"{text}{best['entry']} does: it leaves {100 * left:.0f} %."
    return f"{text}None does; the nearest is {best['entry']}, which leaves {100 * left:.0f} %."


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f} %"


def _table(rows: pd.DataFrame) -> str:
    heads = [
        *("entry", "place", "recommender", "HR", "reliance", "clean", "noise", "knows nothing"),
        *("knows the defence", "bound", "best known attack", "marks"),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for _, row in rows.iterrows():
        cells = [
            row["entry"],
            row["place"],
            row["recommender"],
            _interval(row["hr20"], row["hr20_low"], row["hr20_high"], 3),
            f"{row['reliance']:.2f}",
            *(_points(row[name]) for name in ("clean", "noise", "knows_nothing", "knows_defence")),
            _points(row["bound"]) + (f" ({row['bound_method']})" if row["bound_method"] else ""),
            f"{_attack(row['attack'])}, {_interval(100 * row['low'], 100 * row['high'])}",
            ", ".join(row["marks"]) or "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _points(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}"


def _interval(*values: float) -> str:
    """Return ``.383 (.371 to .395)``, or ``1.2 to 1.6`` for two bounds."""
    *numbers, last = values
    if len(values) == 2:
        low, high = values
        return "–" if np.isnan(low) else f"{max(low, 0):.2f} to {high:.2f}"
    value, low, high = numbers
    said = f"{value:.{last}f}"
    return said if np.isnan(low) else f"{said} ({low:.{last}f} to {high:.{last}f})"


def _attack(name: str) -> str:
    """Return the kind and the aim of an attack, as the table shows them."""
    if name.startswith(SUBMITTED):
        return name.removeprefix(SUBMITTED) + " (submitted)"
    kind, _, aim, *_ = name.split("_")
    aim = "class" if aim.isdigit() else aim
    return f"{aim}, on the undefended" if kind == "given" else f"{aim} by {kind}"


def _plot(name: str, rows: pd.DataFrame) -> Plot:
    said = "; ".join(
        f"{row['entry']} {row['hr20']:.3f}, {_percent(row['exposure'])}"
        for _, row in rows.iterrows()
    )
    return Plot(
        f"leaderboard_{name}",
        f"Exposure under the best known attack against HR: {name}",
        f"HR of clean lists and exposure under the best known attack: {said}.",
        partial(_draw, rows=rows),
    )


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a point for each entry, its clean exposure, the interval of its HR, and its bound, if any.

    Left of the dashed line an entry costs too much.
    """
    styles = styles_of(list(rows["entry"]))
    for _, row in rows.iterrows():
        x, y = row["hr20"], 100 * row["exposure"]
        looks = {of: value for of, value in styles[row["entry"]].items() if of != "linewidth"}
        colour = looks["color"]
        axes.hlines(y, row["hr20_low"], row["hr20_high"], color=colour, alpha=0.35, linewidth=0.9)
        axes.plot(x, y, label=row["entry"], **looks | {"linestyle": "", "markersize": 6})
        axes.plot(x, 100 * row["clean"], marker="_", color=NEUTRAL, markersize=6, linestyle="")
        if not np.isnan(row["bound"]):
            reach = [[0], [100 * row["bound"] - y]]
            axes.errorbar(x, y, reach, capsize=3, elinewidth=0.9, color=colour)
    for hr in rows[rows["entry"] == UNDEFENDED]["hr20"]:
        axes.axvline((1 - COST) * hr, color=NEUTRAL, linestyle="--", linewidth=0.8)
    axes.set_xlabel("HR of clean lists, with its 95 % interval")
    axes.set_ylabel("exposure, % of users (grey: clean)")
    axes.locator_params(axis="x", nbins=6)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
