"""Section of the report on exposure of attacked items, from ``promotion.tsv``."""

import textwrap
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from src.artifacts.experiments import DEMOTE
from src.artifacts.layout import Layout
from src.measures.attack_failures import evaluated
from src.measures.promotion import read_promotion
from src.measures.promotion_text import (
    KNOWLEDGE,
    blind_recommenders,
    knowledge,
    of_all_items,
    sentence,
)
from src.measures.threats import WORST
from src.measures.verdicts import CONTROL, NO_CONTROL, verdict_text
from src.metrics.significance import Estimate
from src.report.blocks import Section
from src.report.estimates import estimate_lines, fixed
from src.report.plots import NEUTRAL, PALETTE, Curve, Plot, draw_curves, styles_of
from src.report.tables import Table

_THREATS = {
    "white_box": "white box",
    "other_seed": "other seed",
    "other_recommender": "other recommender",
    "ranks_only": "places only",
    "unaware": "not the defence",
    "transfer": "other extractor",
    "worst": "any of these",
    "retrained": "white box (retrained)",
}
"""Words for the attacker's knowledge, in the order of the table."""
_LINE = 22
"""Characters of a line that says why an attack is not evaluated."""
_SUBJECT = ["extractor", "recommender"]
_AIM = [*_SUBJECT, "threat", "objective", "norm"]
_ATTACKER = ["extractor", "threat", "by_class"]
_BARS = 16
"""Attackers that the plot shows; the table has all."""


def promotion_section(layout: Layout, anchor: str, title: str) -> Section:
    path = layout.result("promotion.tsv")
    if not path.is_file():
        return Section(
            anchor, title, missing=f"python -m audits.promotion --dataset {layout.dataset}"
        )
    table = read_promotion(path)
    k = int(table["k"].iloc[0])
    text = [
        sentence(table),
        f"An item that is attacked alone is shown to the users whose top {k} it enters; its exposure is "
        "their share of those who have not trained on it. Noise is of the same size on the same items, "
        "and net is the change beyond it. Restored is the exposure when attacked features keep "
        "their clean length. Where the recommender was retrained all items are attacked at once, and "
        f"values count those in a user's top {k}. Intervals are of 95 %, over trainings of the "
        "extractor, seeds of the recommender, and items or users. Beside a verdict is the level with "
        "the fewest units. An attack that failed to optimise is not evaluated.",
    ]
    blocks = [*_by_attacker(table, k), _table(table), *_against_budget(table, k), *_defended(table)]
    return Section(anchor, title, text, blocks, notes=blind_recommenders(table))


def _defended(table: pd.DataFrame) -> list[Table]:
    """Return tables of attacks on defended extractors, by the attacker's knowledge, if there are any."""
    known = knowledge(table)
    if known.empty:
        return []
    lines = known[_SUBJECT].assign(
        budget=[
            f"L{norm.replace('inf', '∞')} {eps:g}"
            for norm, eps in zip(known["norm"], known["eps"], strict=True)
        ],
        **{
            shown: [
                "–" if np.isnan(value) else f"{fixed(100 * value, 1)} %" for value in known[name]
            ]
            for name, shown in KNOWLEDGE.items()
        },
    )
    return [
        Table(
            "defended",
            "Defended extractors, by what the attacker knows",
            lines,
            known,
            "Percent of users whom an attacked item is shown to: by the best attack that ignores the "
            "defence, and by the best one that knows it.",
            headings=2,
        )
    ]


def _direction(rows: pd.DataFrame) -> np.ndarray:
    """Return the sign of changes that attacks of each row aim at."""
    return np.where(rows["objective"].str.startswith(DEMOTE), -1, 1)


def _strongest(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the row of each group with the largest change towards its aim, evaluated ones first."""
    told = rows.assign(gain=_direction(rows) * rows["change"], evaluated=evaluated(rows))
    told = told.sort_values(["evaluated", "gain"], ascending=False, kind="stable")
    return told.drop_duplicates(by).drop(columns=["gain", "evaluated"])


def _single_within_linf(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows within L-inf of single items, over items of every popularity."""
    rows = of_all_items(table)
    return rows[(rows["scope"] == "one") & (rows["norm"] == "inf")]


def _by_attacker(table: pd.DataFrame, k: int) -> list[Plot]:
    """Plot exposure by what the attacker knows and aims at, for the recommender of the largest change.

    Each extractor and knowledge has the strongest attack on the class and the strongest one on the
    lists, within the largest budget. There is no plot where no attack in L-inf was evaluated.
    """
    rows = _single_within_linf(table[evaluated(table)])
    rows = rows[~rows["threat"].isin([WORST, "other_seed"]) & (_direction(rows) > 0)]
    rows = rows[(rows["objective"] != CONTROL) & (rows["eps"] == rows["eps"].max())]
    if rows.empty:
        return []
    best = rows.loc[rows["change"].idxmax()]
    rows = rows[rows["recommender"] == best["recommender"]]
    rows = _strongest(rows.assign(by_class=rows["objective"] == "class"), _ATTACKER)
    rows = rows.nlargest(_BARS, "after", keep="first")
    labels = [
        f"{of.objective}, {_THREATS[of.threat]}"
        + ("" if of.extractor == best["extractor"] else f", {of.extractor}")
        for of in rows.itertuples()
    ]
    bars = _percent(rows).set_axis(labels)
    noise = best[["control", "control_low", "control_high"]].to_numpy(float)
    bars.loc[CONTROL] = 100 * (best["before"] + np.append(0, noise))
    said = "; ".join(f"{label} {fixed(value, 1)}" for label, value in bars["after"].items())
    return [
        Plot(
            "promotion_by_attacker",
            f"Users who are shown an attacked item, within {best['eps']:g}/255: {best['extractor']}, "
            f"{best['recommender']}",
            f"Percent of users whose top {k} an attacked item enters, by the attacker's aim and "
            f"knowledge: {said}; clean {fixed(bars.loc[CONTROL, 'before'], 1)}.",
            partial(_draw_bars, bars=bars),
        )
    ]


def _draw_bars(axes: Axes, bars: pd.DataFrame) -> None:
    places = np.arange(len(bars))[::-1]
    reach = np.nan_to_num(
        np.maximum([bars["after"] - bars["low"], bars["high"] - bars["after"]], 0)
    )
    colours = [NEUTRAL if name == CONTROL else PALETTE[0] for name in bars.index]
    axes.barh(places, bars["after"], color=colours)
    axes.errorbar(
        bars["after"], places, xerr=reach, linestyle="", capsize=2, elinewidth=0.8,
        color=mpl.rcParams["text.color"],
    )  # fmt: skip
    for place, value, end in zip(places, bars["after"], bars["after"] + reach[1], strict=True):
        axes.annotate(
            fixed(value, 1), (end, place), (3, 0), textcoords="offset points", va="center"
        )
    axes.plot(
        bars["before"], places, "|", color=PALETTE[1], markersize=12, label="without an attack"
    )
    axes.set_yticks(places, bars.index)
    axes.margins(x=0.12)
    axes.set_xlabel("exposure, % of users")


def _against_budget(table: pd.DataFrame, k: int) -> list[Plot]:
    """Plot exposure against the budget, for the extractor and recommender of the largest change.

    There is no plot where no attack in L-inf was evaluated.
    """
    rows = _single_within_linf(table)
    rows = rows[rows["threat"] == "white_box"]
    attacks = rows[(rows["objective"] != CONTROL) & evaluated(rows)]
    if attacks.empty:
        return []
    subject = attacks.loc[attacks["change"].abs().idxmax(), _SUBJECT]
    rows, attacks = (of[of[_SUBJECT].eq(subject).all(axis=1)] for of in (rows, attacks))
    noise = rows[rows["objective"] == CONTROL]
    shown = pd.concat([_strongest(of, [*_AIM, "eps"]) for of in (attacks, noise)])
    objectives = list(dict.fromkeys(attacks.sort_values("change", ascending=False)["objective"]))
    styles = styles_of([*objectives, CONTROL], controls=[CONTROL])
    curves = [
        _curve(objective, of.sort_values("eps"), styles[objective])
        for objective in (*objectives, CONTROL)
        if not (of := shown[shown["objective"] == objective]).empty
    ]
    budgets = np.unique(shown["eps"])
    clean = np.full(len(budgets), 100 * attacks["before"].mean())
    none = np.full(len(budgets), np.nan)
    level = {"color": NEUTRAL, "linestyle": "--", "linewidth": 1}
    curves.append(Curve("clean", budgets, clean, none, none, level))
    said = "; ".join(
        f"{of.label} {', '.join(fixed(value, 2) for value in of.y)}" for of in curves[:-1]
    )
    extractor, recommender = subject
    return [
        Plot(
            "promotion_against_eps",
            f"Exposure of an attacked item against ε: {extractor}, {recommender}",
            f"Percent of users whose top {k} an attacked item enters, at ε of "
            f"{', '.join(f'{eps:g}' for eps in budgets)} grey levels: {said}; "
            f"clean {fixed(clean[0], 2)}.",
            partial(
                draw_curves,
                curves=curves,
                x_label="ε (grey levels of 255)",
                y_label="exposure, % of users",
            ),
        )
    ]


def _percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``before``, ``after`` and the bounds ``low`` and ``high`` of after, in percent of users."""
    values = 100 * rows[["before", "after", "low", "high"]].astype(float)
    values[["low", "high"]] = values[["low", "high"]].add(values["before"], axis=0).clip(0, 100)
    return values


def _curve(objective: str, rows: pd.DataFrame, style: dict) -> Curve:
    shown = _percent(rows)
    x, y, low, high = (
        of.to_numpy(np.float64) for of in (rows["eps"], shown["after"], shown["low"], shown["high"])
    )
    return Curve(objective, x, y, low, high, style, bars=True)


def _table(table: pd.DataFrame) -> Table:
    """Return the strongest attack of each aim within its largest budget, largest net effect first.

    Attacks on all items together, measured after retraining, come last.
    """
    attacks = of_all_items(table[table["objective"] != CONTROL])
    attacks = attacks[(attacks["scope"] == "one") | (attacks["threat"] == "retrained")]
    largest = attacks.groupby(_AIM)["eps"].transform("max")
    rows = _strongest(attacks[(attacks["eps"] == largest) | attacks["eps"].isna()], _AIM)
    # Effects on single items are shares, those of all items together are counts: they do not compare.
    rows = rows.assign(
        together=rows["scope"] != "one",
        failed=~evaluated(rows),
        gain=_direction(rows) * rows["net"],
    )
    order = ["together", "failed", "gain"]
    rows = rows.sort_values(order, ascending=[True, True, False], kind="stable")
    return Table(
        "promotion",
        "The strongest attack of each aim",
        pd.DataFrame([_line(row) for _, row in rows.iterrows()]),
        table,
        "Percent of users whom an attacked item is shown to. The file has all rows.",
        headings=3,
    )


def _line(row: pd.Series) -> dict[str, str]:
    scale, unit, decimals = (100, " %", 1) if row["scope"] == "one" else (1, "", 2)

    def cell(value: float, low: float = np.nan, high: float = np.nan, *, sign: bool = False) -> str:
        if np.isnan(value):
            return "–"
        scaled = Estimate(*(scale * of for of in (value, low, high)))
        said, *bounds = estimate_lines(scaled, decimals, sign=sign)
        return "\n".join([said + unit, *bounds])

    before = row["before"]
    budget = "" if np.isnan(row["eps"]) else f" {row['eps']:g}"
    line = {
        "extractor": row["extractor"],
        "recommender": row["recommender"],
        "attacker knows": _THREATS[row["threat"]],
        "aim": f"{row['objective']}, L{row['norm'].replace('inf', '∞')}{budget}",
        "before": cell(before),
    }
    if row["indicator"]:
        empty = dict.fromkeys(("noise", "net", "restored"), "–")
        return (
            line
            | {"after": "not evaluated"}
            | empty
            | {"verdict": textwrap.fill(row["indicator"], _LINE)}
        )
    most = 1 if row["scope"] == "one" else np.inf
    low, high = max(before + row["low"], 0), min(before + row["high"], most)
    return line | {
        "after": cell(row["after"], low, high),
        "noise": cell(before + row["control"]),
        "net": cell(row["net"], row["net_low"], row["net_high"], sign=True),
        "restored": cell(before + row["restored"]),
        "verdict": verdict_text(row).replace(" (", "\n(") if row["verdict"] else NO_CONTROL,
    }
