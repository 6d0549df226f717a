"""Table of the measurements of ``bench_scale.py``, which grows from run to run, and its figure."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from sides import Measured

KEY = ["size", "what", "device"]
VALUES = ("cpu", "wall", "peak")
"""Columns of a measurement: processor and wall-clock seconds, and GiB beyond the features."""


def add_measurements(
    path: Path, found: Mapping[tuple[str, str], Measured], device: str
) -> pd.DataFrame:
    """Enter measurements by (size, what) into the TSV ``path``; they replace older ones of their kind."""
    rows = [
        {"size": size, "what": what, "device": device}
        | {name: round(of[name], 3) for name in VALUES}
        for (size, what), of in found.items()
    ]
    older = [pd.read_csv(path, sep="\t")] if path.exists() else []
    table = pd.concat([*older, pd.DataFrame(rows)]).drop_duplicates(KEY, keep="last")
    table = table.sort_values(KEY, ignore_index=True)
    table.to_csv(path, sep="\t", index=False)
    return table


def draw_growth(table: pd.DataFrame, users: Mapping[str, int], path: Path) -> None:
    """Draw time and memory of each measurement over the number of users, both logarithmic.

    ``users`` are those of each size. On a GPU time is that of the wall clock, on a CPU that of the
    processor, to which other programs add nothing.
    """
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "", "legend.frameon": False}):
        figure = Figure(figsize=(7, 3), layout="constrained")
        panels = figure.subplots(1, 2)
        for number, (what, of_what) in enumerate(table.groupby("what")):
            for device, rows in of_what.groupby("device"):
                rows = rows.assign(users=rows["size"].map(users)).sort_values("users")
                style = {"color": f"C{number}", "marker": "o", "markersize": 4}
                style |= {"linestyle": "-" if device == "cpu" else "--"}
                clock = "cpu" if device == "cpu" else "wall"
                label = what if device == "cpu" else f"{what}, {device}"
                panels[0].plot(rows["users"], rows[clock], label=label, **style)
                panels[1].plot(rows["users"], rows["peak"], **style)
        for axes, named in zip(panels, ("seconds", "GiB beyond the features"), strict=True):
            axes.set_xscale("log")
            axes.set_yscale("log")
            sizes = table["size"].unique()
            axes.set_xticks([users[size] for size in sizes], sizes)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("size")
            axes.set_ylabel(named)
            axes.grid(color="0.88", linewidth=0.4)
            axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right upper")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
