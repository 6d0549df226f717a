"""Text of ``promotion.tsv`` for the terminal, the report and documents."""

import re

import numpy as np
import pandas as pd

from src.artifacts.experiments import CLEAN, DEMOTE, Experiment
from src.attacks.registry import ATTACKS
from src.measures.attack_failures import evaluated
from src.measures.promotion import ANY
from src.measures.reliance import HARDLY
from src.measures.terminal import format_table
from src.measures.threats import WORST
from src.measures.verdicts import CONTROL, verdict_text

_SHOWN = {
    "extractor": "extractor",
    "recommender": "recommender",
    "threat": "threat",
    "objective": "objective",
    "eps": "eps",
    "scope": "scope",
    "before": "before",
    "after": "after",
    "low": "low",
    "high": "high",
    "control": "noise",
    "net": "net",
    "restored": "restored",
    "verdict": "verdict",
    "weakest_level": "weakest level",
}


KNOWLEDGE = {
    "before": "clean",
    "noise": "noise",
    "knows_nothing": "knows nothing",
    "knows_defence": "knows the defence",
}
"""Columns of ``knowledge`` as readers see them."""
_OF_BUDGET = ["extractor", "recommender", "norm", "eps", "items"]
_EFFORT = {"nb_iter": "steps", "nb_it": "steps", "queries": "queries", "restarts": "restarts"}
"""Words for parameters in names of experiments."""
_SOURCE = re.compile(rf"_of_(.+?)_({'|'.join(ATTACKS)})_")


def of_all_items(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are not on items of one popularity alone."""
    return table[table["popularity"] == ANY]


def sentence(table: pd.DataFrame) -> str:
    """Say how far the strongest attack on a single item got, for the terminal and the report.

    An attack that is not evaluated gives a lower bound, and the sentence says so.
    """
    rows = of_all_items(table)
    rows = rows[(rows["scope"] == "one") & (rows["objective"] != CONTROL)]
    rows = rows[rows["threat"] != WORST]
    if rows.empty:
        return "No attack was measured."
    best = rows.loc[rows["change"].idxmax()]
    norm = "L-inf" if best["norm"] == "inf" else f"L{best['norm']}"
    said = (
        f"The strongest attack ({best['objective']}, {best['eps']:g}/255 in {norm}) on "
        f"{best['recommender']} with the extractor {best['extractor']} shows an item in the "
        f"top {best['k']:g} of {best['after']:.1%} of the users who may be shown it, "
        f"instead of {best['before']:.1%}"
    )
    if np.isfinite(best["control"]):
        said += f"; noise of the same size reaches {best['before'] + best['control']:.1%}"
    else:
        said += (
            "; there is no verdict without noise of the same size on the same items "
            "(classify_extract_attack.py --attack_type noise)"
        )
    if best["indicator"]:
        said += f". This is a lower bound ({best['indicator']})"
    return said + "."


def knowledge(table: pd.DataFrame) -> pd.DataFrame:
    """Return what attackers of defended extractors reach, by what they know: one row a budget.

    The exposure of an item that is attacked alone: ``before``, by ``noise``, by the best attack that
    ``knows_nothing`` of the defence (it attacks the network behind it, or another one), and by the best
    one that ``knows_defence``, each item's best image included. Attacks that are not evaluated, and
    those that push items out of lists, are left out; NaN where there is none.
    """
    rows = of_all_items(table[evaluated(table)])
    rows = rows[(rows["scope"] == "one") & (rows["extractor"] != CLEAN)]
    rows = rows[rows["eps"].notna() & ~rows["objective"].str.startswith(DEMOTE)]
    found = []
    for budget, of in rows.groupby(_OF_BUDGET, sort=False):
        attacks = of[of["objective"] != CONTROL]
        nothing = attacks[attacks["threat"].isin(["unaware", "transfer"])]
        knowing = attacks[attacks["threat"].isin(["white_box", "ranks_only"])]
        if not knowing.empty:
            knowing = pd.concat([knowing, attacks[attacks["threat"] == WORST]])
        if not attacks.empty:
            found.append(
                (
                    *budget,
                    of["before"].iloc[0],
                    (attacks["before"] + attacks["control"]).max(),
                    nothing["after"].max(),
                    knowing["after"].max(),
                )
            )
    return pd.DataFrame(found, columns=[*_OF_BUDGET, *KNOWLEDGE])


def blind_recommenders(table: pd.DataFrame) -> list[str]:
    """Return a line for each recommender that hardly looks at images, and so can hardly be attacked."""
    blind = table[table["reliance"] < HARDLY].drop_duplicates(["extractor", "recommender"])
    return [
        f"{of['recommender']} with {of['extractor']} hardly looks at images: permuted features cost "
        f"{of['reliance']:.0%} of its hits"
        for _, of in blind.iterrows()
    ]


def promotion_overview(table: pd.DataFrame) -> str:
    """Return the table for the terminal, strongest attacks first within a recommender and scope."""
    order = of_all_items(table).sort_values(
        ["extractor", "recommender", "scope", "threat", "change"],
        ascending=[True, True, False, True, False],
    )
    rows = order[list(_SHOWN)].astype(object).where(order[list(_SHOWN)].notna(), np.nan)
    text = format_table(list(_SHOWN.values()), rows.to_numpy().tolist())
    raised = order[~evaluated(order)]
    notes = [
        f"not evaluated: {of['extractor']}, {of['recommender']}, {of['attack']}, {of['scope']}: "
        f"{of['indicator']}"
        for _, of in raised.iterrows()
    ]
    notes += blind_recommenders(order)
    known = knowledge(table)
    if not known.empty:
        header = [KNOWLEDGE.get(name, name) for name in known]
        text += "\n\n" + format_table(header, known.to_numpy(object).tolist())
    return "\n".join([text, "", *notes]) if notes else text


def markdown(table: pd.DataFrame) -> str:
    """Return the table for a document: a Markdown table for each recommender on each extractor.

    Exposures are percentages of the users who may be shown an item, with intervals of 95 %.
    """
    rows = of_all_items(table)
    rows = rows.assign(eps=rows["eps"].fillna(0))
    order = ["threat", "items", "eps", "change"]
    parts = []
    for (extractor, recommender), of in rows.groupby(["extractor", "recommender"], sort=False):
        lists = of[of["scope"] == "all"].set_index(["attack", "threat"])
        one = of[of["scope"] == "one"].sort_values(order, ascending=[False, False, True, True])
        lists = lists.reindex(pd.MultiIndex.from_frame(one[["attack", "threat"]]))
        both = zip(one.iterrows(), lists.iterrows(), strict=True)
        lines = [_line(row, together) for (_, row), (_, together) in both]
        after = of[of["threat"] == "retrained"].sort_values("change")
        lines += [_line_of_lists(row) for _, row in after.iterrows()]
        k = int(of["k"].iloc[0])
        heads = (
            "attacker knows",
            "attack",
            "items",
            f"exposure@{k}, % (clean)",
            "change beyond noise",
            "at the clean length",
            "median place (clean)",
            f"CHR@{k}, all at once (clean)",
            "verdict",
        )
        text = [f"{recommender} on {extractor}, reliance {of['reliance'].iloc[0]:.0%}:", ""]
        for cells in (heads, ["---"] * len(heads), *lines):
            text.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(text))
    return "\n\n".join(parts)


def _line(one: pd.Series, together: pd.Series) -> list[str]:
    """Return the cells of an attack on items one at a time, and ``together`` unless that is NaN."""
    before, lists = one["before"], ""
    if np.isfinite(together["after"]):
        lists = f"{together['after']:.1f} ({together['before']:.1f})"
    return [
        one["threat"].replace("_", " "),
        _attack_text(one),
        f"{one['items']:g}",
        _percent(one["after"], before + one["low"], before + one["high"])
        + f" ({100 * before:.1f})",
        _percent(one["net"], one["net_low"], one["net_high"]),
        _percent(one["restored"]),
        _places(one),
        lists,
        _verdict(one),
    ]


def _places(one: pd.Series) -> str:
    if not np.isfinite(one["place_after"]):
        return ""
    return f"{one['place_after']:.0f} ({one['place_before']:.0f})"


def _line_of_lists(row: pd.Series) -> list[str]:
    """Return the cells of an attack that is measured by lists alone, all items at once."""
    before, net = row["before"], ""
    if np.isfinite(row["net"]):
        net = f", beyond noise {row['net']:.2f} ({row['net_low']:.2f} to {row['net_high']:.2f})"
    lists = f"{row['after']:.1f} ({before:.1f}){net}"
    empty = [""] * 4
    return ["retrained", _attack_text(row), f"{row['items']:g}", *empty, lists, _verdict(row)]


def _attack_text(row: pd.Series) -> str:
    """Say what an attack aims at, by which means and effort: ``rank by apgd, 30 steps, 8/255``."""
    experiment = Experiment.parse(row["attack"])
    aim, kind = row["objective"], experiment.attack
    source = _SOURCE.search(experiment.parameters)
    if source:
        kind = source[2]
    if aim != CONTROL:
        aim += f" by {kind}"
    if source:
        aim += f" on {source[1]}"
    if "unaware" in experiment.parameters.split("_"):
        aim += " without the defence"
    if row["threat"] == "other_recommender":
        aim += f" after {experiment.recommender}"
    efforts = re.findall(rf"({'|'.join(_EFFORT)})(\d+)(?:_|$)", experiment.parameters)
    said = [aim, *(f"{number} {_EFFORT[kind]}" for kind, number in efforts)]
    return ", ".join([*said, f"{row['eps']:g}/255"] if row["eps"] else said)


def _percent(value: float, low: float = np.nan, high: float = np.nan) -> str:
    if not np.isfinite(value):
        return ""
    bounds = f" [{100 * low:.1f}, {100 * high:.1f}]" if np.isfinite(low) else ""
    return f"{100 * value:.1f}{bounds}".replace("-0.0", "0.0")


def _verdict(row: pd.Series) -> str:
    if row["indicator"]:
        return f"{row['verdict']}: {row['indicator']}"
    return verdict_text(row) if row["verdict"] else ""
