"""Effects of attacks on the lists: tables in the paper's shape, and curves over K."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.experiments import Experiment
from src.measures.verdicts import CONTROL, NO_CONTROL, verdict_text
from src.report.blocks import Folded, Hidden, Section
from src.report.estimates import (
    decimals_of,
    estimate_lines,
    estimate_of,
    fixed,
    net_estimate,
    number,
)
from src.report.names import METRICS, PROTOCOLS
from src.report.plots import Curve, Plot, draw_curves, styles_of
from src.report.study import Study
from src.report.tables import Table

_TABLES = ("chr", "ncdcg")
_CURVES = ("chr_normalised", "ncdcg")
_AXIS = {"chr_normalised": "CHR@K / K (share of the list)", "ncdcg": "nCDCG@K"}
_INTERVALS = (
    "Intervals are of 95 %. Those of changes are over trainings, seeds and users together (none where "
    "there is one run); those of values before and after too where there are several trainings, and "
    "otherwise over users at test time, and over seeds, with Student's t, where recommenders were "
    "retrained."
)


def summary_section(study: Study, anchor: str, title: str) -> Section:
    at_k = study.effects[study.effects["k"] == study.k]
    blocks = [
        _summary_table(study, rows, metric, pair, protocol, several=len(study.pairs) > 1)
        for pair, protocol, of in _by_pair(study, at_k)
        for metric, rows in of.groupby("metric", sort=False)
        if metric in _TABLES
    ]
    text = [
        f"Each cell: the value after the attack, the change with its interval, and the net effect: the "
        "change beyond that under noise of the same size, with the same seeds. "
        f"CHR@{study.k} counts the items of the attacked class in a user's top {study.k}. An item is of "
        "the class that the extractor sees in its clean image, whatever its maker calls it.",
        f"{_trainings_text(study)} {_INTERVALS}",
    ]
    shown = [of for of in blocks if of.name.startswith("summary_chr")]
    folded = [of for of in blocks if of not in shown]
    if folded:
        shown.append(Folded(f"nCDCG@{study.k}", folded))
    return Section(anchor, title, text, shown)


def _trainings_text(study: Study) -> str:
    """Say what the verdicts cover, from so many trainings of the extractors."""
    verdict = (
        "The last lines of a cell are the verdict on the net effect: effect, equivalent (to none, within "
        "a tenth of the value before) or undecided. In brackets is the level with the fewest units, and "
        "the verdict says nothing beyond a single unit."
    )
    if not study.others:
        return (
            f"{verdict} One training of an extractor cannot tell what another one would do: report.py "
            "and summarize.py get several with --trainings."
        )
    names = ", ".join(layout.dataset for layout, _ in study.others)
    return (
        f"The lists, here and below, are those of {1 + len(study.others)} trainings of the extractors "
        f"together (data sets {study.layout.dataset}, {names}); everything about images is of the first. "
        f"{verdict}"
    )


def _by_pair(study: Study, rows: pd.DataFrame) -> list[tuple[tuple, str, pd.DataFrame]]:
    """Yield (pair of classes, protocol, their rows), in the order of ``PROTOCOLS``."""
    pair_of = {of.name: (of.origin, of.aim) for of in map(Experiment.parse, rows["experiment"])}
    pairs = rows["experiment"].map(pair_of)
    return [
        (pair, protocol, of)
        for pair in study.pairs
        for protocol in PROTOCOLS
        if not (of := rows[(pairs == pair) & (rows["protocol"] == protocol)]).empty
    ]


def _summary_table(
    study: Study, rows: pd.DataFrame, metric: str, pair: tuple, protocol: str, *, several: bool
) -> Table:
    """Extractor x recommender down, attacks across."""
    order = {of.name: at for at, of in enumerate(study.attacked)}
    rows = rows.sort_values("experiment", key=lambda names: names.map(order), kind="stable")
    decimals = decimals_of(rows["before"])
    shown = []
    for (extractor, recommender), of in rows.groupby(["extractor", "recommender"], sort=False):
        line = {"extractor": extractor, "recommender": recommender}
        # Attacks that were made with unlike seeds have unlike clean runs.
        befores = [estimate_lines(estimate_of(row, "before"), decimals) for _, row in of.iterrows()]
        line["before"] = "\n".join(dict.fromkeys(itertools.chain.from_iterable(befores)))
        for _, row in of.iterrows():
            if (experiment := Experiment.parse(row["experiment"])).attack != CONTROL:
                line[study.label(experiment)] = _cell(row, decimals)
        shown.append(line)
    ending = f"_{pair[0]}_{'any' if pair[1] is None else pair[1]}" if several else ""
    name = f"{METRICS[metric]}@{study.k}"
    return Table(
        f"summary_{metric}_{protocol}{ending}",
        f"{name}, {study.pairs[pair]}, {PROTOCOLS[protocol]}",
        pd.DataFrame(shown).fillna("–"),
        rows,
        headings=2,
    )


def _cell(row: pd.Series, decimals: int) -> str:
    """Return the value after, the change and the net effect, both with intervals, as lines."""
    lines = [
        fixed(row["after"], decimals),
        *estimate_lines(estimate_of(row, "change"), decimals, sign=True),
    ]
    if np.isnan(row["net_effect"]):
        return "\n".join([*lines, NO_CONTROL])
    net, *interval = estimate_lines(net_estimate(row), decimals, sign=True)
    return "\n".join([*lines, f"net {net}", *interval, verdict_text(row).replace(" (", "\n(")])


def curves_section(study: Study, anchor: str, title: str) -> Section:
    plots = {metric: _curve_plots(study, metric) for metric in _CURVES}
    first, *further = _CURVES
    data = study.effects[study.effects["metric"].isin(_CURVES)]
    text = [
        "Before and after each attack; CHR as a share of the list. Bands are the intervals of single "
        f"curves; the changes have intervals of their own in the tables above. {_INTERVALS}"
    ]
    note = "The numbers behind the curves: tables/curves.tsv."
    hidden = Table("curves", "Curves over K", data, data)
    folded = [Folded(_AXIS[metric], plots[metric]) for metric in further]
    return Section(anchor, title, text, [*plots[first], *folded, Hidden(hidden)], notes=[note])


def _curve_plots(study: Study, metric: str) -> list[Plot]:
    """Return a plot for each extractor and recommender; those of a recommender share their axes."""
    plots = []
    for pair, protocol, of in _by_pair(study, study.effects):
        of = of[of["metric"] == metric]
        for _, alike in of.groupby("recommender", sort=False):
            limits = _limits(alike)
            for (extractor, recommender), rows in alike.groupby(
                ["extractor", "recommender"], sort=False
            ):
                name = f"{extractor}, {recommender}"
                plots.append(
                    _curve_plot(study, rows, metric, name, study.pairs[pair], protocol, limits)
                )
    return plots


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of an axis on which all values and intervals of some rows are."""
    values = rows[[f"{of}{end}" for of in ("before", "after") for end in ("", "_low", "_high")]]
    low, high = np.nanmin(values.to_numpy(float)), np.nanmax(values.to_numpy(float))
    room = 0.05 * (high - low) or 0.05
    return low - room, high + room


def _curve_plot(
    study: Study, rows: pd.DataFrame, metric: str, subject: str, pair: str, protocol: str,
    limits: tuple[float, float],
) -> Plot:  # fmt: skip
    experiments = {name: Experiment.parse(name) for name in rows["experiment"].unique()}
    ordered = sorted(experiments.values(), key=study.attacked.index)
    styles = _attack_styles(study)
    curves = []
    for at, experiment in enumerate(ordered):
        of = rows[rows["experiment"] == experiment.name].sort_values("k")
        ks = of["k"].to_numpy(np.float64)
        if at == 0:
            curves.append(
                Curve.of("before", ks, of, "before", {"linestyle": "--", "linewidth": 1.2})
            )
        label = study.label(experiment)
        curves.append(Curve.of(label, ks, of, "after", styles[label]))
    at_k = rows[rows["k"] == study.k].set_index("experiment")
    said = "; ".join(
        f"{study.label(experiment)} {number(at_k.loc[experiment.name, 'after'])}"
        for experiment in ordered
    )
    name = METRICS[metric].split(" /")[0]
    before = number(at_k["before"].iloc[0])
    return Plot(
        f"{metric}_{protocol}_{subject.replace(', ', '_')}_{ordered[0].origin}_{ordered[0].aim}",
        f"{name}@K of {pair.split(' →')[0]}: {subject}, {PROTOCOLS[protocol]}",
        f"{name} against K up to {study.ks[-1]}. At K = {study.k}: before {before}; after {said}.",
        partial(
            draw_curves,
            curves=curves,
            x_label="K",
            y_label=_AXIS[metric],
            log=True,
            limits=limits,
        ),
    )


def _attack_styles(study: Study) -> dict[str, dict[str, Any]]:
    """Return the styles of attacks by their labels, equal in every plot."""
    labels = dict.fromkeys(study.label(of) for of in study.attacked)
    controls = {study.label(of) for of in study.attacked if of.attack == CONTROL}
    return styles_of(list(labels), controls=sorted(controls))
