"""Page of the leaderboard: a table and a plot for each catalogue."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Template
from matplotlib.axes import Axes

from src.artifacts.atomic import atomic_outputs
from src.artifacts.experiments import CLEAN, DEPLOYED
from src.measures.leaderboard import COST, LOOKS, SUBMITTED, UNDEFENDED, ranked, read_results
from src.measures.reliance import HARDLY
from src.report.plots import NEUTRAL, Plot, styles_of

_HALF, _TRAININGS = 0.5, 3
"""Largest share of the gain that a defence that holds leaves, and the fewest trainings that show it."""
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
        tables="\n".join(parts),
        cost=f"{100 * COST:.0f} %",
        looks=f"{100 * LOOKS:.0f} %",
        hardly=f"{HARDLY:g}",
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
    """Say how far attacks get without a defence, which defences hold, and which ones look away."""
    plain = rows[rows["entry"] == UNDEFENDED]
    if plain.empty:
        return ""
    plain = plain.iloc[0]
    gain = plain["exposure"] - plain["clean"]
    text = (
        "The best attack on the undefended recommender takes an item from "
        f"{_percent(plain['clean'])} to {_percent(plain['exposure'])} of the users. A defence holds "
        f"where it has no mark and leaves at most half of that gain, and {_TRAININGS} trainings keep "
        "the intervals apart. "
    )
    if gain <= 0:
        return f"{text}Here is no gain to take."
    others = rows[rows["entry"] != UNDEFENDED]
    if others.empty:
        return f"{text}No defence was evaluated."
    others = others.assign(left=(others["exposure"] - others["clean"]) / gain).sort_values("left")
    halves = others["left"] <= _HALF
    apart = (others["high"] < plain["low"]) & (others["extractor_seeds"] >= _TRAININGS)
    unmarked = others["marks"].str.len() == 0
    looks_away = others["looks_less"] & (others["indicator"] == "")
    holding = others[unmarked & halves & apart]
    if len(holding) == 1:
        text += f"{holding['entry'].iloc[0]} holds: it leaves {_left(holding)}."
    elif len(holding):
        text += f"{_listed(holding['entry'])} hold: they leave {_left(holding)}."
    elif unmarked.any():
        nearest = others[unmarked].head(1)
        text += (
            f"None holds; the nearest is {nearest['entry'].iloc[0]}, which leaves {_left(nearest)}."
        )
    else:
        text += "None holds: each has a mark."
    return text + _looking_away(others[looks_away & halves], plain)


def _looking_away(rows: pd.DataFrame, plain: pd.Series) -> str:
    """Name the entries that leave at most half of the gain and look at images less."""
    if rows.empty:
        return ""
    leaves, looks = ("leaves", "looks") if len(rows) == 1 else ("leave", "look")
    reliance = _listed(f"{value:.2f}" for value in rows["reliance"])
    return (
        f" {_listed(rows['entry'])} {leaves} {_left(rows)}, but {looks} at images less: reliance "
        f"{reliance} instead of {plain['reliance']:.2f}."
    )


def _left(rows: pd.DataFrame) -> str:
    """Return the shares of the gain that entries leave: ``19, 20 and 24 %``."""
    return _listed(f"{100 * value:.0f}" for value in rows["left"]) + " %"


def _listed(words: Iterable[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f} %"


def _table(rows: pd.DataFrame) -> str:
    heads = [
        *("entry", "place", "recommender", "HR", "reliance", "clean", "noise", "knows nothing"),
        *("knows the defence", "bound", "best known attack", "marks"),
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    plain = rows[rows["entry"] == UNDEFENDED]
    for _, row in rows.iterrows():
        cells = [
            row["entry"],
            row["place"],
            row["recommender"],
            _estimate(row["hr20"], row["hr20_low"], row["hr20_high"]),
            f"{row['reliance']:.2f}",
            *(_points(row[name]) for name in ("clean", "noise", "knows_nothing", "knows_defence")),
            _points(row["bound"]) + (f" ({row['bound_method']})" if row["bound_method"] else ""),
            f"{_attack(row['attack'])}, {_interval(100 * row['low'], 100 * row['high'])}",
            ", ".join([*row["marks"], *_kept(row, plain)]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _kept(row: pd.Series, plain: pd.DataFrame) -> list[str]:
    """Say that the deployed recommender stays valid, if the entry has it and HR@K costs no more than 2 %.

    ``plain`` holds the row of the undefended entry, whose recommender is deployed, if there is one.
    """
    if row["costs_more"] or not row["recommender"].endswith(DEPLOYED + CLEAN):
        return []
    return [
        f"keeps the deployed recommender valid: HR {before:.3f} before, {row['hr20']:.3f} after"
        for before in plain["hr20"]
    ]


def _points(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}"


def _estimate(value: float, low: float, high: float) -> str:
    """Return ``0.383 (0.371 to 0.395)``, or the value alone where it has no interval."""
    return f"{value:.3f}" + ("" if np.isnan(low) else f" ({low:.3f} to {high:.3f})")


def _interval(low: float, high: float) -> str:
    """Return ``1.20 to 1.60``; exposure is not below 0."""
    return "–" if np.isnan(low) else f"{max(low, 0):.2f} to {high:.2f}"


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
