"""Verdict of the report: how far the strongest attack gets beyond noise, and what a defence changes.

The sentences speak from net effects and their verdicts alone, which ``measures`` made.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from src.artifacts.columns import read_results
from src.artifacts.experiments import CLEAN, DEMOTE, HEADS, Experiment
from src.artifacts.manifest import Manifest, read_record
from src.measures.attack_failures import evaluated
from src.measures.attack_records import budget_of
from src.measures.bounds import COLUMNS as BOUND_COLUMNS
from src.measures.promotion import read_promotion
from src.measures.promotion_text import of_all_items
from src.measures.terminal import format_table
from src.measures.threats import WORST
from src.measures.verdicts import CONTROL, FAMILY_METRIC, verdict_text
from src.report.blocks import Section
from src.report.estimates import decimals_of, estimate_of, estimate_text, fixed, number, signed
from src.report.names import PROTOCOLS
from src.report.plots import NEUTRAL, PALETTE, Plot
from src.report.study import Study, result_tables
from src.report.tables import Table

ACCURACY = "hr"
"""Measure of clean lists that says what a defence costs."""
_KNOWING = ("white_box", "ranks_only", WORST)
"""Attackers who know the defence: others say little about it."""
_SUBJECT = ["extractor", "recommender"]
_UNDEFENDED = (CLEAN, "plain", *filter(None, HEADS.values()))
"""Names of extractors that nothing defends, the first one that is there is taken: ``plain`` is the recipe
without an adversary."""
_POINTS = " points"
"""Unit of changes of exposure."""
_OFTEN = 50
"""Percent of the users who have an item in their list, beyond which hardly any attack can gain much."""
_ROWS = 8
"""Rows of the table on the terminal."""
_LINE = 46
"""Characters of a line under the plot."""
_LEFT = {
    "effect": "still an effect beyond noise",
    "equivalent": "as good as nothing beyond noise",
    "undecided": "which may be chance",
}
"""Words for what a defence leaves, by the verdict on it."""


@dataclass(frozen=True)
class Reached:
    """Effects of attacks within one budget, by extractor and recommender, in the unit of readers."""

    rows: pd.DataFrame
    """The strongest attack of each extractor and recommender: ``extractor``, ``recommender``, ``aim``,
    ``before``, ``change``, ``noise`` and ``net`` with bounds, ``verdict``, ``weakest_level``, ``attacks``
    (number of those that it is the strongest of)."""
    unit: str
    """Unit behind numbers, with its space."""
    quantity: str
    """Quantity that attacks change."""
    failed: int = 0
    """Number of attacks that failed to optimise and are left out."""

    @property
    def headline(self) -> pd.Series:
        """Return the row with the largest net effect, of an undefended extractor if there is one."""
        there = (name for name in _UNDEFENDED if name in set(self.rows["extractor"]))
        plain = next(there, None)
        rows = self.rows if plain is None else self.rows[self.rows["extractor"] == plain]
        return rows.loc[rows["net"].idxmax()]

    @property
    def defended(self) -> pd.DataFrame:
        """Return the rows of other extractors with the headline's recommender, smallest net first."""
        first = self.headline
        rows = self.rows[self.rows["extractor"] != first["extractor"]]
        return rows[rows["recommender"] == first["recommender"]].sort_values("net", kind="stable")

    def amount(self, row: pd.Series) -> str:
        """Return the net effect of a row with its interval: ``+3.4 points (2.1 to 4.7)``."""
        net, low, high = (
            fixed(row[f"net{end}"], self.decimals, sign=True) for end in ("", "_low", "_high")
        )
        return f"{net}{self.unit} ({low} to {high})"

    @property
    def decimals(self) -> int:
        """Return the decimals of the text: three digits of the headline's net effect."""
        return decimals_of(pd.Series([abs(self.headline["net"])]))


def reached(study: Study) -> Reached | None:
    """Return what attacks reached: exposure of single items if measured, otherwise CHR of their class.

    None where no attack was measured beside noise.
    """
    path = study.layout.result("promotion.tsv")
    found = _exposure(study, read_promotion(path)) if path.is_file() else None
    return found or _class_share(study)


def _exposure(study: Study, table: pd.DataFrame) -> Reached | None:
    # The report is about one configuration of each recommender, whose options its other tables omit.
    names = {run.model + run.options: run.model for run in study.runs}
    rows = of_all_items(table).replace({"recommender": names})
    rows = rows[(rows["scope"] == "one") & (rows["objective"] != CONTROL)]
    rows = rows[~rows["objective"].str.startswith(DEMOTE) & rows["threat"].isin(_KNOWING)]
    failed = int((~evaluated(rows)).sum())
    rows = rows[evaluated(rows) & rows["net"].notna()]
    rows = _within_budget_of_strongest(rows)
    if rows.empty:
        return None
    aims = rows["objective"].where(rows["threat"] != WORST, "the best image of each item")
    norms = rows["norm"].replace("inf", "∞")
    budgets = [f"ε {eps:g} in L{norm}" for eps, norm in zip(rows["eps"], norms, strict=True)]
    rows = rows.assign(aim=aims + ", " + budgets, noise=rows["control"])
    rows = rows.assign(change_low=rows["low"], change_high=rows["high"])
    scaled = [
        "before",
        *(f"{of}{end}" for of in ("change", "net") for end in ("", "_low", "_high")),
    ]
    scaled += ["noise", "after"]
    rows[scaled] *= 100
    k = int(rows["k"].iloc[0])
    return Reached(
        _strongest(rows),
        _POINTS,
        f"the percentage of users with the item in their top {k}",
        failed,
    )


def _class_share(study: Study) -> Reached | None:
    if not study.runs:
        return None
    rows = study.effects
    rows = rows[(rows["metric"] == FAMILY_METRIC) & (rows["k"] == study.k)]
    rows = rows[rows["net_effect"].notna() & (rows["verdict"] != "") & (rows["placebo"] == "")]
    for protocol in PROTOCOLS:
        if not (of := rows[rows["protocol"] == protocol]).empty:
            break
    else:
        return None
    experiments = of["experiment"].map(Experiment.parse)
    budgets = [budget_of(one) or (np.nan, "") for one in experiments]
    of = of.assign(
        eps=[eps for eps, _ in budgets],
        norm=[norm for _, norm in budgets],
        pair=[study.pairs[one.origin, one.aim] for one in experiments],
        aim=[f"{study.label(one)}, {study.pairs[one.origin, one.aim]}" for one in experiments],
        noise=of["noise_effect"],
        net=of["net_effect"],
        items=0,
    )
    of = of[of["pair"] == of.loc[of["net"].idxmax(), "pair"]]
    rows = _strongest(_within_budget_of_strongest(of))
    name = f"the items of the attacked class in a top {study.k}, {PROTOCOLS[protocol]},"
    return Reached(rows, "", name)


def _within_budget_of_strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the budget within which the largest net effect was found.

    Attacks without a budget count only where no other attack was measured.
    """
    bounded = rows[rows["eps"].notna()]
    if bounded.empty:
        return rows
    strongest = bounded.loc[bounded["net"].idxmax()]
    return bounded[bounded[["norm", "eps"]].eq(strongest[["norm", "eps"]]).all(axis=1)]


def _strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row of the largest net effect on the most items, for each extractor and recommender."""
    counts = rows.groupby(_SUBJECT, sort=False).size().rename("attacks")
    ordered = rows.sort_values(["items", "net"], ascending=False, kind="stable")
    return ordered.drop_duplicates(_SUBJECT).join(counts, on=_SUBJECT).reset_index(drop=True)


def verdict_section(study: Study, anchor: str, title: str) -> Section:
    found = reached(study)
    if found is None:
        return Section(
            anchor, title, ["No attack was measured beside noise of its size: there is no verdict."]
        )
    bounds = _proven(study, found)
    return Section(anchor, title, _sentences(study, found, bounds), [_plot(found, bounds)])


def _how_far(found: Reached) -> str:
    row = found.headline
    before, after = (fixed(row[name], found.decimals) for name in ("before", "after"))
    return (
        f"The strongest attack ({row['aim']}) on {row['recommender']} with the extractor "
        f"{row['extractor']} changes {found.quantity} from {before} to {after}. Beyond noise of the same "
        f"size it is {found.amount(row)}, 95 % interval in brackets. Verdict: {verdict_text(row)}."
    )


def _helps(found: Reached) -> str:
    """Return a sentence about the defence that leaves least to the attacker; empty without defences."""
    first, others = found.headline, found.defended
    if others.empty:
        return ""
    best = others.iloc[0]
    name, amount = best["extractor"], found.amount(best)
    if best["net_high"] < first["net_low"]:
        said = f"{name} helps most: it leaves {amount}, {_LEFT[best['verdict']]}"
    else:
        said = (
            f"No defence is shown to help: with {name} it is {amount}, and the intervals with and "
            "without it overlap"
        )
    return f"{said}."


def _cost(study: Study, found: Reached) -> str:
    """Say how accurate clean lists are with the best defence and without; empty if not measured."""
    if not study.runs or found.defended.empty:
        return ""
    first, best = found.headline, found.defended.iloc[0]
    rows = study.effects
    rows = rows[(rows["metric"] == ACCURACY) & (rows["k"] == study.k)]
    said = []
    for row in (best, first):
        of = rows[rows[_SUBJECT].eq(row[_SUBJECT]).all(axis=1)]
        if of.empty:
            return ""
        said.append(estimate_text(estimate_of(of.iloc[0], "before")))
    return f" HR@{study.k} of clean lists is {said[0]} with it and {said[1]} with {first['extractor']}."


def _not_shown(found: Reached, bounds: Mapping[tuple[str, str], float], *, priced: bool) -> str:
    first, others = found.headline, found.defended
    lacks = []
    if first["weakest_level"].startswith("1 "):
        level = first["weakest_level"].removeprefix("1 ")
        lacks.append(f"whether another {level} gives the same")
    if not bounds:
        lacks.append("what stronger attacks reach, since nothing is proven")
    if not priced and not others.empty:
        lacks.append(f"what {others['extractor'].iloc[0]} costs in accuracy")
    if (fewer := others[others["attacks"] < first["attacks"]]).size:
        names = ", ".join(fewer["extractor"])
        lacks.append(f"whether {names} would withstand all attacks that {first['extractor']} met")
    if first["before"] > _OFTEN and found.unit == _POINTS:
        before = fixed(first["before"], 0)
        lacks.append(
            f"what an attack gains in a larger catalogue, since {before} % of the users have the item in "
            "their list without one"
        )
    if found.failed:
        few = "1 attack" if found.failed == 1 else f"{found.failed} attacks"
        lacks.append(f"the full reach of {few} left out because optimising failed")
    return f"Not shown: {'; '.join(lacks)}." if lacks else ""


def _proven(study: Study, found: Reached) -> dict[tuple[str, str], float]:
    """Return proven bounds of the growth of exposure, by extractor and recommender.

    A table of bounds holds for the features and weights that its record names.
    """
    bounds: dict[tuple[str, str], float] = {}
    row = found.headline
    clean = {replace(run, experiment=run.experiment.clean): None for run in study.runs}
    for path in result_tables(study.layout):
        table = read_results(path, (), text=("norm",), numbers=("eps", "bound", "clean"))
        if list(table) != list(BOUND_COLUMNS) or found.unit != _POINTS:
            continue
        if (table["norm"].iloc[0], table["eps"].iloc[0]) != (row["norm"], row["eps"]):
            continue
        inputs = set(read_record(path).get("inputs", {}))
        for run in clean:
            files = [study.layout.weights(run), study.layout.features(run.experiment)]
            found_files = all(file.is_file() for file in files)
            if found_files and inputs.issuperset(Manifest.of("bounds", {}, files).inputs):
                grown = 100 * float((table["bound"] - table["clean"]).mean())
                bounds[run.experiment.extractor, run.model] = grown
    return bounds


def overview(study: Study) -> str:
    """Return the verdict for the terminal: its sentences, and a table of the strongest attacks.

    Empty where there is no verdict.
    """
    found = reached(study)
    if found is None:
        return ""
    header = (
        "extractor",
        "recommender",
        "attack",
        "before",
        "after",
        "by noise",
        "net",
        "from",
        "to",
    )
    names = (*_SUBJECT, "aim", "before", "after", "noise", "net", "net_low", "net_high")
    rows = found.rows.sort_values("net", ascending=False, kind="stable").head(_ROWS)
    cells = [
        [of if isinstance(of, str) else fixed(of, found.decimals) for of in row]
        for row in rows[list(names)].itertuples(index=False)
    ]
    verdicts = [verdict_text(row) for _, row in rows.iterrows()]
    lines = [[*of, said] for of, said in zip(cells, verdicts, strict=True)]
    sentences = [textwrap.fill(of, 100) for of in _sentences(study, found, _proven(study, found))]
    return "\n".join([*sentences, "", format_table([*header, "verdict"], lines)])


def _sentences(study: Study, found: Reached, bounds: Mapping[tuple[str, str], float]) -> list[str]:
    costs = _cost(study, found)
    said = [_how_far(found), _helps(found) + costs, _not_shown(found, bounds, priced=bool(costs))]
    return [of for of in said if of]


def _plot(found: Reached, bounds: Mapping[tuple[str, str], float]) -> Plot:
    rows = found.rows.sort_values("net", kind="stable")
    said = "; ".join(
        f"{row['extractor']}, {row['recommender']}: {signed(row['change'])}, noise {signed(row['noise'])}"
        for _, row in rows.iloc[::-1].iterrows()
    )
    proven = "; ".join(f"{', '.join(of)}: {signed(value)}" for of, value in bounds.items())
    return Plot(
        "verdict",
        "Change by the strongest attack of each extractor and recommender",
        f"Change of {found.quantity.rstrip(',')}: {said}."
        + (f" Proven at most: {proven}." if proven else ""),
        partial(_draw, rows=rows, bounds=bounds, label=f"change of {found.quantity.rstrip(',')}"),
    )


def _draw(
    axes: Axes, rows: pd.DataFrame, bounds: Mapping[tuple[str, str], float], label: str
) -> None:
    places = np.arange(len(rows))
    change, low, high = (rows[f"change{end}"].to_numpy(float) for end in ("", "_low", "_high"))
    reach = np.nan_to_num(np.maximum([change - low, high - change], 0))
    axes.errorbar(
        change, places, xerr=reach, linestyle="", marker="o", markersize=5, capsize=3,
        color=PALETTE[0], label="strongest attack",
    )  # fmt: skip
    axes.plot(rows["noise"], places, "x", color=NEUTRAL, markersize=6, label="noise")
    names = list(zip(rows["extractor"], rows["recommender"], strict=True))
    if bounds:
        proven = [bounds.get(name, np.nan) for name in names]
        axes.plot(proven, places, "|", color=PALETTE[1], markersize=12, label="proven bound")
    axes.axvline(0, color=NEUTRAL, linewidth=0.8)
    axes.set_yticks(places, [",\n".join(name) for name in names])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(textwrap.fill(label, _LINE))


def effects_section(study: Study, anchor: str, title: str) -> Section:
    """Every attack on the lists in one table, the largest net effect first."""
    rows = study.effects
    rows = rows[(rows["metric"] == FAMILY_METRIC) & (rows["k"] == study.k)]
    rows = rows[~rows["attack"].str.startswith(f"{CONTROL}_")]
    rows = rows.sort_values("net_effect", ascending=False, kind="stable")
    if rows.empty:
        return Section(
            anchor, title, missing="python classify_extract_attack.py --attack_type pgd ..."
        )
    several = len(study.pairs) > 1
    shown = []
    for _, row in rows.iterrows():
        experiment = Experiment.parse(row["experiment"])
        pair = f", {study.pairs[experiment.origin, experiment.aim]}" if several else ""
        measured = not np.isnan(row["net_effect"])
        shown.append(
            {
                "extractor": row["extractor"],
                "recommender": row["recommender"],
                "protocol": PROTOCOLS[row["protocol"]],
                "attack": study.label(experiment) + pair,
                "before": number(row["before"]),
                "after": number(row["after"]),
                "noise": signed(row["noise_effect"]) if measured else "–",
                "net": signed(row["net_effect"]) if measured else "–",
                "95 % from": signed(row["net_low"]) if measured else "–",
                "to": signed(row["net_high"]) if measured else "–",
                "verdict": verdict_text(row) if measured else row["weakest_level"],
            }
        )
    table = Table(
        "effects",
        f"CHR@{study.k} of the attacked class under each attack",
        pd.DataFrame(shown),
        rows,
        "Noise: the change by noise of the same size. Net: the change of the attack beyond it.",
        headings=4,
    )
    return Section(anchor, title, [], [table])
