"""Effects of attacks on images: success and feature loss, in a table and against eps."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from src.measures.attack_records import budget_of
from src.measures.verdicts import CONTROL
from src.report.blocks import Section
from src.report.estimates import estimate_of, estimate_text, number
from src.report.names import attack_name
from src.report.plots import Curve, Plot, draw_curves, styles_of
from src.report.study import Study
from src.report.tables import Table

_DASHES = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)), ":")
"""Dashes of kinds of attacks; colours tell extractors apart."""


def attacks_section(study: Study, anchor: str, title: str) -> Section:
    outcomes = study.outcomes.set_index("experiment")
    shown = []
    for experiment in study.attacked:
        row = outcomes.loc[experiment.name]
        line = {
            "classes": study.pairs[experiment.origin, experiment.aim],
            "extractor": experiment.extractor,
            "attack": study.label(experiment),
            "images": number(row.get("images", np.nan), 9),
            "success %": estimate_text(estimate_of(row, "success_rate")),
            "feature loss": estimate_text(estimate_of(row, "feature_loss")),
        }
        if "l2" in row:
            line["largest change (levels)"] = number(row["largest_change"])
            line["mean L2 of the change"] = estimate_text(estimate_of(row, "l2"))
        shown.append(line)
    caption = (
        "Success: share of the stored images that are classified as the target (Wilson's interval). "
        "Feature loss: mean squared distance to the clean features (images resampled). Largest change: "
        "of any channel of any pixel of any attacked image."
    )
    if any(of.attack == "cw" for of in study.attacked):
        caption += (
            " C&W has no budget: it searches for the smallest change in L2 that reaches the class. "
            "Beside attacks within a budget, compare it by its mean L2, not by its success."
        )
    title_of_table = "Success rate and feature loss"
    table = Table("attacks", title_of_table, pd.DataFrame(shown), study.outcomes, caption, 3)
    if len(study.pairs) == 1:
        shown_table = table.shown.drop(columns="classes")
        pair = next(iter(study.pairs.values()))
        table = Table("attacks", f"{title_of_table}, {pair}", shown_table, table.data, caption, 2)
    plots = [
        plot
        for pair in study.pairs
        for measure, label in (
            ("success_rate", "success rate (%)"),
            ("feature_loss", "feature loss"),
        )
        if (plot := _eps_plot(study, pair, measure, label)) is not None
    ]
    return Section(anchor, title, [], [table, *plots])


def _eps_plot(study: Study, pair: tuple, measure: str, label: str) -> Plot | None:
    """Draw a line for each extractor and kind of attack, level without a budget; None without eps."""
    outcomes = study.outcomes.set_index("experiment")
    of_pair = [of for of in study.attacked if (of.origin, of.aim) == pair]
    kinds = list(dict.fromkeys(attack_name(of) for of in of_pair))
    extractors = list(dict.fromkeys(of.extractor for of in of_pair))
    budgets = sorted({budget[0] for of in of_pair if (budget := budget_of(of))})
    if not budgets:
        return None
    looks = styles_of(study.attacked_extractors)
    curves, said = [], []
    for extractor in extractors:
        for kind in kinds:
            points = [of for of in of_pair if (of.extractor, attack_name(of)) == (extractor, kind)]
            if not points:
                continue
            rows = outcomes.loc[[of.name for of in points]]
            eps = [budget_of(of) for of in points]
            level = eps[0] is None
            if level and len(points) > 1:
                continue  # several settings without a budget have no place on this axis
            x = np.array(budgets if level else [budget[0] for budget in eps if budget])
            rows = rows.iloc[[0] * len(x)] if level else rows.iloc[np.argsort(x, kind="stable")]
            style = looks[extractor] | {"linestyle": _DASHES[kinds.index(kind) % len(_DASHES)]}
            if points[0].attack == CONTROL:
                style |= {"linestyle": ":", "linewidth": 0.9, "alpha": 0.8}
            name = f"{kind}, {extractor}"
            curves.append(_eps_curve(name, np.sort(x), rows, measure, style, level=level))
            values = ", ".join(number(value) for value in dict.fromkeys(rows[measure]))
            said.append(f"{name}: {values}")
    budgets_said = ", ".join(f"{eps:g}" for eps in budgets)
    ending = f"{pair[0]}_{pair[1]}"
    return Plot(
        f"{measure}_against_eps_{ending}",
        f"{label.capitalize()} against ε, {study.pairs[pair]}",
        f"{label} at ε of {budgets_said} grey levels. {'; '.join(said)}.",
        partial(draw_curves, curves=curves, x_label="ε (grey levels of 255)", y_label=label),
    )


def _eps_curve(
    label: str, x: np.ndarray, rows: pd.DataFrame, measure: str, style: Mapping[str, Any], *, level: bool
) -> Curve:  # fmt: skip
    curve = Curve.of(label, x, rows, measure, style)
    if level:
        return Curve(f"{label} (no ε)", x, curve.y, curve.low, curve.high, {**style, "marker": ""})
    return Curve(label, x, curve.y, curve.low, curve.high, style, bars=True)
