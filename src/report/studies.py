"""Tables of further studies: image quality, robust accuracy, attacks on rankings and parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.layout import Layout
from src.report.attention import drawn
from src.report.estimates import number
from src.report.study import result_tables
from src.report.tables import Table

_ROBUST = {"recipe", "attack", "seed", "n", "accuracy", "low", "high"}
_RANKING = {"attack", "kind", "measure", "before", "after", "ci_low", "ci_high", "term"}
_EMBEDDERS = {"recipe", "r1", "ers"}
_EXTRACTORS = {"extractor", "accuracy", "ers", "chr_change"}
_PARAMETERS = {"recommender", "decrease", "control_decrease", "random_decrease"}
"""Columns by which tables are known, whatever they are called."""
_ROBUST_CAPTION = (
    "success_rate: percent of the images that are right without an attack which the attack turns; linf: "
    "the largest change of any image, in grey levels."
)
_SHOWN_OF_EXTRACTORS = (
    *("extractor", "attack", "recommender", "k", "accuracy", "r1", "ers", "items", "success_rate"),
    *("chr_before", "chr_change", "chr_net", "hr_before", "hr_change", "hr_net"),
)
"""The other columns are in the TSV."""


def study_sections(layout: Layout) -> list[tuple[str, str, Sequence[str], list[Any], str]]:
    """Return (anchor, title, text, blocks, missing) of each kind of study."""
    name = layout.dataset
    return [
        _section(
            layout, "robust", "Robust accuracy", _ROBUST, {"accuracy": ("low", "high")},
            f"python -m audits.robustness --checkpoint <file> --data <path> --dataset <set> "
            f"--out results/{name}/robust_accuracy.tsv",
        ),
        _section(
            layout, "ranking", "Attacks on rankings", _RANKING, {"after": ("ci_low", "ci_high")},
            f"python -m audits.rankings --dataset {name} ...", _EMBEDDERS, _EXTRACTORS,
        ),
        _section(
            layout, "parameters", "Attacks on parameters", _PARAMETERS,
            {"decrease": ("ci_low", "ci_high")}, f"python -m audits.parameters --dataset {name} ...",
        ),
    ]  # fmt: skip


def _section(
    layout: Layout, anchor: str, title: str, columns: set[str],
    intervals: dict[str, tuple[str, str]], missing: str, *others: set[str],
) -> tuple[str, str, Sequence[str], list[Any], str]:  # fmt: skip
    blocks: list[Any] = []
    for path in result_tables(layout):
        table = read_results(path, (), numbers=[name for of in intervals.values() for name in of])
        if any(known <= set(table) for known in (columns, *others)):
            caption = _ROBUST_CAPTION if set(table) >= _ROBUST else ""
            blocks.append(_table(path, table, intervals, caption))
            picture = path.with_name(path.name.replace("_effects", "")).with_suffix(".png")
            if picture.is_file():
                blocks.append(drawn(picture, path.stem, f"{title}: {path.stem}"))
    return anchor, title, (), blocks, "" if blocks else missing


def _table(
    path: Path, table: pd.DataFrame, intervals: dict[str, tuple[str, str]], caption: str
) -> Table:
    """Return a table with rounded numbers, bounds beside values, and without empty columns."""
    shown = table.dropna(axis="columns", how="all")
    if set(shown) >= _RANKING:
        shown = shown.drop(columns="attack")  # kind, size, eps and steps say the same
    if set(shown) >= _EXTRACTORS:
        shown = shown[[name for name in _SHOWN_OF_EXTRACTORS if name in shown]]
    shown = shown.drop(
        columns=[bound for of in intervals.values() for bound in of], errors="ignore"
    )
    shown = shown.map(lambda cell: cell if isinstance(cell, str) else number(cell, 4))
    for column, bounds in intervals.items():
        if column in shown and set(bounds) <= set(table):
            low, high = (table[bound] for bound in bounds)
            of = zip(shown[column], low, high, strict=True)
            shown[column] = [_with_interval(*cell) for cell in of]
    return Table(
        f"study_{path.stem}", path.stem, shown, table, f"From {path.name}. {caption}".strip()
    )


def _with_interval(value: str, low: float, high: float) -> str:
    return value if np.isnan(low) else f"{value} ({number(low, 4)} to {number(high, 4)})"


def image_quality_table(layout: Layout) -> Table | None:
    """Return the table of ``audits.images`` for the data set, if there is one."""
    path = layout.result("image_quality.tsv")
    if not path.is_file():
        return None
    table = read_results(path, ())
    bounded = {name: (f"{name}_low", f"{name}_high") for name in table if f"{name}_low" in table}
    caption = (
        "Means over the attacked images, which are resampled for the intervals; linf too is a mean."
    )
    return _table(path, table, bounded, caption)
