"""The sections of the report, from first to last; one whose inputs are missing says what makes them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.experiments import Experiment
from src.reporting.html.attention import attention_blocks
from src.reporting.html.estimates import (
    AS_LARGE,
    STARS,
    estimate_of,
    number,
    signed,
    stars,
)
from src.reporting.html.gallery import Shelf, shelves
from src.reporting.html.names import CONTROL, METRICS, PROTOCOLS, attack_name
from src.reporting.html.plots import NEUTRAL, Curve, Plot, draw_curves, styles_of
from src.reporting.html.provenance import attack_commands, commands_table, ran
from src.reporting.html.studies import image_quality_tables, study_sections
from src.reporting.html.study import Study
from src.reporting.html.tables import Table
from src.reporting.summary import budget_of

_CURVES = ("chr", "ncdcg")
_STARS = ", ".join(f"{marks} p < {bound:g}" for bound, marks in reversed(STARS))
_DASHES = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)), ":")
_INTERVALS = (
    "Intervals are of 95 %. At test time the recommenders are given and users are resampled; retrained "
    "ones are compared seed by seed, with Student's t over the seeds (none where there is one seed)."
)


@dataclass(frozen=True)
class Facts:
    """A short list of names and what they stand for."""

    entries: Mapping[str, str]
    kind = "facts"


@dataclass(frozen=True)
class Folded:
    """A long table that opens on demand."""

    table: Table
    kind = "folded"


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, and blocks: tables, plots, galleries and pictures."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    blocks: Sequence[Any] = ()
    missing: str = ""
    """The command that makes what is not there; nothing else is shown then."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Lines under the blocks."""


def sections(study: Study, items: Sequence[int], users: Sequence[int]) -> list[Section]:
    """All of them."""
    return [
        _what_was_run(study),
        _of_lists("summary", "What the attacks do to the lists", study, _summary),
        _of_lists("curves", "Category hit ratio and nCDCG over K", study, _curves),
        _of_images("attacks", "What the attacks do to the images", study, _attacks),
        _of_lists("tradeoff", "Accuracy against robustness", study, _tradeoff),
        _of_images("gallery", "Single items", study, partial(_gallery, items=items, users=users)),
        _attention(study),
        _image_quality(study),
        *(Section(*of) for of in study_sections(study.layout)),
    ]


def _of_lists(
    anchor: str, title: str, study: Study, make: Callable[[Study, str, str], Section]
) -> Section:
    if study.runs:
        return make(study, anchor, title)
    name = study.layout.dataset
    first = study.attacked[0].name if study.attacked else "<attacked experiment>"
    missing = f"python rec_generator.py --dataset {name} --experiment_name {first} original"
    return Section(anchor, title, missing=missing)


def _of_images(
    anchor: str, title: str, study: Study, make: Callable[[Study, str, str], Section]
) -> Section:
    if study.attacked:
        return make(study, anchor, title)
    missing = (
        f"python classify_extract_attack.py --dataset {study.layout.dataset} --attack_type pgd --eps 8 "
        "--origin_class <class> --target_class <class>"
    )
    return Section(anchor, title, missing=missing)


def _what_was_run(study: Study) -> Section:
    commands, versions = ran(study.layout)
    shown = pd.DataFrame(
        [
            (of.stage, of.command, ", ".join(map(str, of.seeds)) or "–", of.artifacts, of.date)
            for of in commands
        ],
        columns=["stage", "command", "seeds", "artifacts", "date"],
    )
    table = Table("commands", f"{len(commands)} commands", shown, commands_table(commands), "", 2)
    facts = _facts(study)
    if dates := sorted({of.date for of in commands}):
        facts["made"] = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    facts["versions"] = ", ".join(f"{name} {' and '.join(of)}" for name, of in versions.items())
    text = []
    if any(len(of) > 1 for of in versions.values()):
        text.append("The artifacts were made with several versions of some packages.")
    return Section("run", "What was run", text, [Facts(facts), Folded(table)])


def _facts(study: Study) -> dict[str, str]:
    """What the commands come to, in a few lines."""
    facts = {
        "attacked classes": "; ".join(study.pairs.values()),
        "extractors": _listed(of.extractor for of in study.attacked),
        "attacks": _listed(study.label(of) for of in study.attacked),
    }
    clean = [run for run in study.runs if run.experiment.attack is None]
    attacked = [run for run in study.runs if run.experiment.attack]
    if attacked:
        facts["recommenders"] = _listed(
            f"{run.model} ({run.epochs} epochs, lists of {run.top_k})" for run in attacked
        )
        facts["protocols"] = _listed(PROTOCOLS[run.protocol] for run in attacked)
        facts["seeds"] = _listed(str(seed) for seed in sorted({run.seed for run in attacked}))
        facts["seeds of clean runs"] = _listed(
            str(of) for of in sorted({run.seed for run in clean})
        )
        facts["fidelity"] = _listed(run.fidelity for run in attacked)
    return {name: text for name, text in facts.items() if text}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _summary(study: Study, anchor: str, title: str) -> Section:
    at_k = study.effects[study.effects["k"] == study.k]
    blocks = [
        _summary_table(study, rows, metric, pair, protocol, several=len(study.pairs) > 1)
        for pair, protocol, of in _by_pair(study, at_k)
        for metric, rows in of.groupby("metric", sort=False)
        if metric in _CURVES
    ]
    tested = sum(int(block.data["p_value"].notna().sum()) for block in blocks)
    text = [
        f"Each cell: the value after the attack, the change with its interval, and what changes when "
        f"nothing is attacked (control). CHR@{study.k} counts the items of the attacked class in a "
        f"user's top {study.k}.",
        f"Marks: {_STARS}; {AS_LARGE} the control changes as much. The {tested} p-values are not "
        "corrected for their number. Controls: at test time, noise of the same size; retrained, clean "
        f"retraining with other seeds. {_INTERVALS}",
    ]
    return Section(anchor, title, text, blocks)


def _by_pair(study: Study, rows: pd.DataFrame) -> list[tuple[tuple, str, pd.DataFrame]]:
    """(pair of classes, protocol, their rows), in the order of ``PROTOCOLS``."""
    pair_of = {of.name: (of.origin, of.target) for of in map(Experiment.parse, rows["experiment"])}
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
    shown = []
    for (extractor, recommender), of in rows.groupby(["extractor", "recommender"], sort=False):
        line = {"extractor": extractor, "recommender": recommender}
        # Attacks that were made with unlike seeds have unlike clean runs.
        befores = dict.fromkeys(estimate_of(row, "before").text for _, row in of.iterrows())
        line["before"] = "\n".join(text.replace(" (", "\n(") for text in befores)
        for _, row in of.iterrows():
            line[study.label(Experiment.parse(row["experiment"]))] = _cell(row)
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


def _cell(row: pd.Series) -> str:
    change = estimate_of(row, "change")
    control = row["control_change"]
    marks = stars(row["p_value"])
    if abs(control) >= abs(change.value):
        marks += AS_LARGE
    interval = "" if np.isnan(change.low) else f" ({signed(change.low)} to {signed(change.high)})"
    lines = [f"{number(row['after'])}{marks}", f"{signed(change.value)}{interval}"]
    if not np.isnan(control):
        lines.append(f"control {signed(control)}{stars(row['control_p_value'])}")
    return "\n".join(lines)


def _curves(study: Study, anchor: str, title: str) -> Section:
    blocks = [
        _curve_plot(study, rows, metric, extractor, recommender, study.pairs[pair], protocol)
        for pair, protocol, of in _by_pair(study, study.effects)
        for metric in _CURVES
        for (extractor, recommender), rows in of[of["metric"] == metric].groupby(
            ["extractor", "recommender"], sort=False
        )
    ]
    data = study.effects[study.effects["metric"].isin(_CURVES)]
    text = [
        "Before and after each attack. Bands are the intervals of single curves; the changes have "
        f"intervals of their own in the tables above. {_INTERVALS}"
    ]
    note = "The numbers behind the curves: tables/curves.tsv."
    hidden = Table("curves", "Curves over K", _numbers(data), data)
    return Section(anchor, title, text, [*blocks, _Hidden(hidden)], notes=[note])


@dataclass(frozen=True)
class _Hidden:
    """A table that is written beside the page and not shown in it."""

    table: Table
    kind = "hidden"


def _numbers(data: pd.DataFrame) -> pd.DataFrame:
    return data.map(lambda cell: number(cell) if isinstance(cell, float) else str(cell))


def _curve_plot(
    study: Study, rows: pd.DataFrame, metric: str, extractor: str, recommender: str, pair: str,
    protocol: str,
) -> Plot:  # fmt: skip
    experiments = {name: Experiment.parse(name) for name in rows["experiment"].unique()}
    ordered = sorted(experiments.values(), key=study.attacked.index)
    styles = _attack_styles(study)
    curves = []
    for at, experiment in enumerate(ordered):
        of = rows[rows["experiment"] == experiment.name].sort_values("k")
        ks = of["k"].to_numpy(np.float64)
        if at == 0:
            curves.append(_curve("before", ks, of, "before", {"linestyle": "--", "linewidth": 1.2}))
        label = study.label(experiment)
        curves.append(_curve(label, ks, of, "after", styles[label]))
    at_k = rows[rows["k"] == study.k].set_index("experiment")
    said = "; ".join(
        f"{study.label(experiment)} {number(at_k.loc[experiment.name, 'after'])}"
        for experiment in ordered
    )
    name = METRICS[metric]
    before = number(at_k["before"].iloc[0])
    return Plot(
        f"{metric}_{protocol}_{extractor}_{recommender}_{ordered[0].origin}_{ordered[0].target}",
        f"{name}@K of {pair.split(' →')[0]}: {extractor}, {recommender}, {PROTOCOLS[protocol]}",
        f"{name} against K up to {study.ks[-1]}. At K = {study.k}: before {before}; after {said}.",
        partial(draw_curves, curves=curves, x_label="K", y_label=f"{name}@K"),
    )


def _curve(
    label: str, x: np.ndarray, rows: pd.DataFrame, name: str, style: Mapping[str, Any]
) -> Curve:
    y, low, high = (rows[f"{name}{of}"].to_numpy(np.float64) for of in ("", "_low", "_high"))
    return Curve(label, x, y, low, high, style)


def _attack_styles(study: Study) -> dict[str, dict[str, Any]]:
    """Of attacks by their labels, the same in every plot."""
    labels = dict.fromkeys(study.label(of) for of in study.attacked)
    controls = {study.label(of) for of in study.attacked if of.attack == CONTROL}
    return styles_of(list(labels), controls=sorted(controls))


def _attacks(study: Study, anchor: str, title: str) -> Section:
    outcomes = study.outcomes.set_index("experiment")
    shown = []
    for experiment in study.attacked:
        row = outcomes.loc[experiment.name]
        line = {
            "classes": study.pairs[experiment.origin, experiment.target],
            "extractor": experiment.extractor,
            "attack": study.label(experiment),
            "images": number(row.get("images", np.nan), 9),
            "success %": estimate_of(row, "success_rate").text,
            "feature loss": estimate_of(row, "feature_loss").text,
        }
        if "linf" in row:
            line["largest change (levels)"] = number(row["linf"])
            line["L2 of the change"] = estimate_of(row, "l2").text
        shown.append(line)
    caption = (
        "Success: share of the stored images that are classified as the target (Wilson's interval). "
        "Feature loss: mean squared distance to the clean features (images resampled)."
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
    """A line for each extractor and kind of attack; one without a budget is level. None without eps."""
    outcomes = study.outcomes.set_index("experiment")
    of_pair = [of for of in study.attacked if (of.origin, of.target) == pair]
    kinds = list(dict.fromkeys(attack_name(of) for of in of_pair))
    extractors = list(dict.fromkeys(of.extractor for of in of_pair))
    budgets = sorted({budget[0] for of in of_pair if (budget := budget_of(of))})
    if not budgets:
        return None
    looks = styles_of(extractors)
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
    curve = _curve(label, x, rows, measure, style)
    if level:
        return Curve(f"{label} (no ε)", x, curve.y, curve.low, curve.high, {**style, "marker": ""})
    return Curve(label, x, curve.y, curve.low, curve.high, style, bars=True)


def _tradeoff(study: Study, anchor: str, title: str) -> Section:
    strongest = _strongest(study)
    accuracy = study.accuracy.set_index(["extractor", "recommender"])
    data = strongest.join(accuracy, on=["extractor", "recommender"], rsuffix="_clean")
    metrics = [metric for metric in ("hr", "auc") if metric in data]
    shown = []
    for _, row in data.iterrows():
        line = {
            "classes": row["classes"],
            "extractor": row["extractor"],
            "recommender": row["recommender"],
            "protocol": PROTOCOLS[row["protocol"]],
        }
        line |= {_at_k(metric, study.k): estimate_of(row, metric).text for metric in metrics}
        line["strongest attack"] = study.label(Experiment.parse(row["experiment"]))
        line[f"its change of CHR@{study.k}"] = estimate_of(row, "change").text + stars(
            row["p_value"]
        )
        shown.append(line)
    table = Table("tradeoff", "Accuracy without, change with the strongest attack",
                  pd.DataFrame(shown), data, headings=4)  # fmt: skip
    plots = [
        _tradeoff_plot(study, rows, metric, protocol, pair)
        for (protocol, pair), rows in data.groupby(["protocol", "classes"], sort=False)
        for metric in metrics
        if metric in data
    ]
    text = [
        f"To the right: more accurate lists of clean images. Up: the strongest attack brings more of "
        f"the attacked class into the top {study.k}. The strongest is the one of the largest change, "
        "which chance makes larger the more attacks there are."
    ]
    return Section(anchor, title, text, [table, *plots])


def _strongest(study: Study) -> pd.DataFrame:
    """Of each extractor, recommender, protocol and pair, the row of the largest change of CHR@K."""
    rows = study.effects
    rows = rows[(rows["metric"] == "chr") & (rows["k"] == study.k)]
    parsed = rows["experiment"].map(Experiment.parse)
    rows = rows.assign(classes=[study.pairs[of.origin, of.target] for of in parsed])
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
        partial(_draw_tradeoff, rows=rows, metric=metric, x_label=x_label, y_label=y_label),
    )


def _draw_tradeoff(axes, rows: pd.DataFrame, metric: str, x_label: str, y_label: str) -> None:
    """Extractors are colours, recommenders are markers."""
    looks = styles_of(list(dict.fromkeys(rows["extractor"])))
    markers = {name: of["marker"] for name, of in styles_of(rows["recommender"].unique()).items()}
    for _, row in rows.iterrows():
        x, y = estimate_of(row, metric), estimate_of(row, "change")
        reach = [np.nan_to_num([[of.value - of.low], [of.high - of.value]]) for of in (x, y)]
        axes.errorbar(
            x.value, y.value, reach[1], reach[0], linestyle="", capsize=2, elinewidth=0.7,
            color=looks[row["extractor"]]["color"], marker=markers[row["recommender"]], markersize=5,
            label=f"{row['extractor']}, {row['recommender']}",
        )  # fmt: skip
    axes.axhline(0, color=NEUTRAL, linewidth=0.8)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _gallery(
    study: Study, anchor: str, title: str, items: Sequence[int], users: Sequence[int]
) -> Section:
    of_pair: dict[tuple, list[Shelf]] = {}
    for shelf in shelves(study):
        of_pair.setdefault((shelf.experiment.origin, shelf.experiment.target), []).append(shelf)
    galleries = [
        shelf.gallery(shown, users)
        for of in of_pair.values()
        for shelf, shown in _shown_items(of, items)
    ]
    if not galleries:
        return Section(
            anchor, title, missing="python classify_extract_attack.py (its images are gone)"
        )
    chosen = (
        "as asked for"
        if items
        else "from the one that the attack brings into most further lists to the one of the fewest, "
        "evenly spaced in that order, so that failures are among them"
    )
    drawn = (
        "as asked for" if users else "drawn among those whose lists show the item before or after"
    )
    text = [
        "The attack of the highest success rate against each extractor. Differences are amplified "
        f"around grey. Items: {chosen}. Users: {drawn}."
    ]
    return Section(anchor, title, text, galleries)


def _shown_items(of_pair: Sequence[Shelf], items: Sequence[int]) -> list[tuple[Shelf, list[int]]]:
    """Where they can be, the same items for every extractor."""
    attacked = [set(shelf.classes[1].image_ids.tolist()) for shelf in of_pair]
    if items:
        found = [(shelf, [item for item in items if item in of])
                 for shelf, of in zip(of_pair, attacked, strict=True)]  # fmt: skip
        return [(shelf, shown) for shelf, shown in found if shown]
    common = set.intersection(*attacked)
    same = of_pair[0].telling_items(among=common) if common else []
    return [(shelf, same or shelf.telling_items()) for shelf in of_pair]


def _attention(study: Study) -> Section:
    anchor, title = "attention", "Where attention goes"
    blocks = attention_blocks(study)
    if blocks:
        text = ["What `evaluate_attention.py` found in the attacked images of each experiment."]
        return Section(anchor, title, text, blocks)
    return Section(anchor, title, missing=_same_attack(study, "evaluate_attention.py"))


def _image_quality(study: Study) -> Section:
    anchor, title = "quality", "Image quality"
    tables = image_quality_tables(study)
    if tables:
        return Section(anchor, title, blocks=tables)
    missing = f"python evaluate_images.py score --dataset {study.layout.dataset} --all"
    return Section(anchor, title, missing=missing)


def _same_attack(study: Study, script: str) -> str:
    """The command of an attack, said of another script that takes the same options."""
    commands = attack_commands(study.layout)
    for experiment in study.attacked:
        if experiment.attack != CONTROL and (command := commands.get(experiment.name)):
            return command.replace("classify_extract_attack.py", script)
    return f"python {script} --dataset {study.layout.dataset} [the options of the attack]"
