"""Accuracy of the recommenders against the effect of the strongest attack on their lists."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from src.artifacts.experiments import Experiment
from src.measures.verdicts import CONTROL
from src.report.blocks import Folded, Section
from src.report.estimates import estimate_of, estimate_text, net_text, number, signed
from src.report.names import METRICS, PROTOCOLS
from src.report.plots import NEUTRAL, Plot, styles_of
from src.report.study import Study
from src.report.tables import Table

_ACCURACY = ("hr", "auc")


def tradeoff_section(study: Study, anchor: str, title: str) -> Section:
    strongest = _strongest(study)
    if strongest.empty:
        return Section(
            anchor, title, missing="python classify_extract_attack.py --attack_type pgd ..."
        )
    data = _with_accuracy(study, strongest)
    first, *further = metrics = [metric for metric in _ACCURACY if metric in data]
    table = _table(study, data, metrics)
    plots = {metric: _plots(study, data, metric) for metric in metrics}
    shown_first, *others = plots[first]
    folded = [
        *([Folded("Other aims and protocols", others)] if others else []),
        *(Folded(f"{METRICS[metric]} in the place of {_at_k(first, study.k)}", plots[metric])
          for metric in further),
        Folded(table.title, [table]),
    ]  # fmt: skip
    text = [
        f"To the right: more accurate lists of clean images. Up: the strongest attack brings more of "
        f"the attacked class into the top {study.k}. The strongest attack is the one with the largest "
        "change; the more attacks there are, the larger is the change that chance alone finds. Accuracy "
        "is the summary's before that attack: over the same users and the same seeds as its change."
    ]
    return Section(anchor, title, text, [shown_first, *folded])


def _table(study: Study, data: pd.DataFrame, metrics: Sequence[str]) -> Table:
    """Return the table with a line for each row of ``data``; classes are left out if all are the same."""
    lines = [
        {
            "classes": row["classes"],
            "extractor": row["extractor"],
            "recommender": row["recommender"],
            "protocol": PROTOCOLS[row["protocol"]],
            **{_at_k(of, study.k): estimate_text(estimate_of(row, of)) for of in metrics},
            "strongest attack": study.label(Experiment.parse(row["experiment"])),
            f"its change of CHR@{study.k}": estimate_text(estimate_of(row, "change")),
            "beyond noise": net_text(row),
        }
        for _, row in data.iterrows()
    ]
    shown = pd.DataFrame(lines)
    if len(study.pairs) == 1:
        shown = shown.drop(columns="classes")
    title = "Accuracy without an attack, change with the strongest"
    return Table("tradeoff", title, shown, data, headings=list(shown).index("protocol") + 1)


def _plots(study: Study, data: pd.DataFrame, metric: str) -> list[Plot]:
    """Return a plot for each protocol and pair of classes, the largest change first."""
    groups = dict(list(data.groupby(["protocol", "classes"])))
    largest = data["change"].groupby([data["protocol"], data["classes"]]).max()
    order = largest.sort_values(ascending=False, kind="stable").index
    return [_tradeoff_plot(study, groups[of], metric, *of) for of in order]


def _with_accuracy(study: Study, strongest: pd.DataFrame) -> pd.DataFrame:
    """Add ``hr`` and ``auc`` with their bounds: the summary's values before the same attack."""
    key = ["experiment", "recommender", "protocol"]
    joined = strongest
    for metric in _ACCURACY:
        rows = study.effects[study.effects["metric"] == metric]
        rows = rows[rows["k"].isna() | (rows["k"] == study.k)]
        if not rows.empty:
            names = {f"before{bound}": f"{metric}{bound}" for bound in ("", "_low", "_high")}
            accuracy = rows.set_index(key)[list(names)].rename(columns=names)
            joined = joined.join(accuracy, on=key)
    return joined


def _strongest(study: Study) -> pd.DataFrame:
    """Return rows with the largest change of CHR@K by extractor, recommender, protocol and pair."""
    rows = study.effects
    rows = rows[(rows["metric"] == "chr") & (rows["k"] == study.k)]
    parsed = rows["experiment"].map(Experiment.parse)
    rows = rows.assign(classes=[study.pairs[of.origin, of.aim] for of in parsed])
    rows = rows[[of.attack != CONTROL for of in parsed]]
    keys = ["extractor", "recommender", "protocol", "classes"]
    order = rows["change"].sort_values(ascending=False, kind="stable").index
    strongest = rows.loc[order].drop_duplicates(keys).sort_index()
    at_test_time = strongest["protocol"] != "test_time"
    return strongest.iloc[np.argsort(at_test_time, kind="stable")].reset_index(drop=True)


def _at_k(metric: str, k: int) -> str:
    return METRICS[metric] + ("" if metric == "auc" else f"@{k}")


def _tradeoff_plot(study: Study, rows: pd.DataFrame, metric: str, protocol: str, pair: str) -> Plot:
    x_label, y_label = _at_k(metric, study.k), f"largest change of CHR@{study.k}"
    said = "; ".join(
        f"{row['extractor']}, {row['recommender']}: {number(row[metric])}, {signed(row['change'])}"
        for _, row in rows.iterrows()
    )
    ending = "" if len(study.pairs) == 1 else f"_{list(study.pairs.values()).index(pair)}"
    return Plot(
        f"tradeoff_{metric}_{protocol}{ending}",
        f"{x_label} against change of CHR@{study.k}, {pair}, {PROTOCOLS[protocol]}",
        f"{x_label} of clean images and {y_label}: {said}.",
        partial(
            _draw_tradeoff,
            rows=rows,
            metric=metric,
            x_label=x_label,
            y_label=y_label,
            looks=styles_of(study.attacked_extractors),
        ),
    )


def _draw_tradeoff(
    axes: Axes, rows: pd.DataFrame, metric: str, x_label: str, y_label: str,
    looks: Mapping[str, Mapping[str, Any]],
) -> None:  # fmt: skip
    """Draw colours for extractors, hollow if they repeat, and markers for recommenders."""
    markers = {name: of["marker"] for name, of in styles_of(rows["recommender"].unique()).items()}
    for _, row in rows.iterrows():
        x, y = estimate_of(row, metric), estimate_of(row, "change")
        reach = [np.nan_to_num([[of.value - of.low], [of.high - of.value]]) for of in (x, y)]
        axes.errorbar(
            x.value, y.value, reach[1], reach[0], linestyle="", capsize=2, elinewidth=0.7,
            color=looks[row["extractor"]]["color"], marker=markers[row["recommender"]], markersize=5,
            fillstyle=looks[row["extractor"]].get("fillstyle", "full"),
            label=f"{row['extractor']}, {row['recommender']}",
        )  # fmt: skip
    axes.axhline(0, color=NEUTRAL, linewidth=0.8)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
