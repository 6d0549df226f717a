"""Tables of aligned text for the terminal."""

from collections.abc import Sequence

import pandas as pd

TOP_CLASSES = 5

_COLUMNS = {
    "position": "position",
    "classId": "class",
    "className": "name",
    "items": "items",
    "metric": "metric",
    "score": "score",
    "score_normalised": "score / K",
    "ci_low": "95 % from",
    "ci_high": "to",
    "score_before": "before",
    "before": "before",
    "change": "change",
    "p_within_run_t": "p within run (t)",
    "p_within_run_wilcoxon": "(Wilcoxon)",
}
"""Columns of stage 2b's files and what they are called on the terminal."""


def format_number(value: float, digits: int = 4) -> str:
    """Format with at most ``digits`` significant digits; an empty string for a missing value.

    Values below 1e-13 are what rounding leaves of zero.
    """
    if pd.isna(value):
        return ""
    return "0" if abs(value) < 1e-13 else f"{value:.{digits}g}"


def format_mean(mean: float, low: float, high: float) -> str:
    """Format as ``54.0 ± 1.2``, a mean and half of its interval, if there is one."""
    return f"{mean:.1f}" + ("" if pd.isna(low) else f" ± {(high - low) / 2:.1f}")


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a header, a rule and ``rows``, with shortened numbers on the right and text on the left."""
    is_text = [any(isinstance(row[i], str) for row in rows) for i in range(len(header))]
    body = [
        [
            cell
            if isinstance(cell, str)
            else str(cell)
            if isinstance(cell, int)
            else format_number(cell)
            for cell in row
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in lines
    )


def category_overview(table: pd.DataFrame, k: int, origin: int | None) -> str:
    """Return stage 2b's values of the origin class and the most recommended classes at ``k``."""
    at_k = table[table["k"] == k]
    shown = (at_k["classId"] == origin) | (at_k["position"] <= TOP_CLASSES)
    # A stable sort by "is not the origin" puts the origin's row first.
    rows = at_k[shown].sort_values("classId", key=lambda ids: ids != origin, kind="stable")
    return _overview(rows)


def measures_overview(table: pd.DataFrame, k: int) -> str:
    """Return stage 2b's accuracy or bias at ``k``, with measures that have no K."""
    return _overview(table[(table["k"] == k) | table["k"].isna()])


def _overview(rows: pd.DataFrame) -> str:
    names = [name for name in _COLUMNS if name in rows]
    return format_table([_COLUMNS[name] for name in names], rows[names].to_numpy(object).tolist())
