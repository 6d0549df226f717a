"""What ``promotion.tsv`` says, for the terminal, the report and documents."""

import numpy as np
import pandas as pd

from src.measures.attack_failures import evaluated
from src.measures.promotion import ANY
from src.measures.terminal import format_table
from src.measures.verdicts import CONTROL
from src.recommenders.reliance import HARDLY

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
}


def of_all_items(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are not on items of one popularity alone."""
    return table[table["popularity"] == ANY]


def sentence(table: pd.DataFrame) -> str:
    """Say how far the strongest attack on a single item got, for the terminal and the report.

    An attack that is not evaluated gives a lower bound, and the sentence says so.
    """
    rows = of_all_items(table)
    rows = rows[(rows["scope"] == "one") & (rows["objective"] != CONTROL)]
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
    if best["indicator"]:
        said += f". This is a lower bound ({best['indicator']})"
    return said + "."


def blind_recommenders(table: pd.DataFrame) -> list[str]:
    """Return a line for each recommender that hardly looks at images, and so can hardly be attacked."""
    blind = table[table["reliance"] < HARDLY].drop_duplicates(["extractor", "recommender"])
    return [
        f"{of['recommender']} with {of['extractor']} hardly looks at images: permuted features cost "
        f"{of['reliance']:.0%} of its hits"
        for _, of in blind.iterrows()
    ]


def promotion_overview(table: pd.DataFrame) -> str:
    """The table for the terminal, strongest attacks first within a recommender and scope."""
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
    return "\n".join([text, "", *notes]) if notes else text
