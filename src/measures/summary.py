"""Changes under each attack, beyond noise of the same size and over trainings of the extractors.

``retrained``: a new recommender on the attacked features against one on the clean features, seed by
seed. ``test_time``: the recommender of the clean features scores the attacked ones. The control of both
is noise of the same size in place of the attack, on the same extractors with the same seeds.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import require_present
from src.measures.attack_records import attack_outcome
from src.measures.changes import Change, Measure, changes_of
from src.measures.comparable import (
    require_other_trainings,
    require_same_extractors,
    require_same_recommenders,
)
from src.measures.comparison import (
    Comparison,
    common_seeds,
    comparisons_of,
    comparisons_with,
    require_one_configuration,
)
from src.measures.designs import ATTACK_SEED, PAIR, Design, Pair, designs_of
from src.measures.measures import METRICS, category_values
from src.measures.norm_restored import RANKED_AGAIN, can_restore, read_files
from src.measures.runs import held_out_files, read_categories
from src.measures.runs_table import runs_table
from src.measures.table_files import manifest_of, tabulated
from src.measures.terminal import format_table
from src.measures.verdicts import CONTROL, NO_CONTROL, corrected, tests_of

COLUMNS = (
    "extractor",
    "attack",
    "recommender",
    "protocol",
    "metric",
    "k",
    "before",
    "after",
    "change",
    "p_value",
    "success_rate",
    "feature_loss",
    "seeds",
    "effect",
    "low",
    "high",
    "noise_effect",
    "net_effect",
    "net_low",
    "net_high",
    "margin",
    "verdict",
    "weakest_level",
    "extractor_seeds",
    "recommender_seeds",
    "p_holm",
    "p_within_run",
    "sd_extractor",
    "sd_recommender",
    "sd_user",
    "norm_restored_effect",
    "displaced_effect",
    "pairs",
    "attack_seeds",
    "placebo",
    "sd_pair",
    "sd_attack",
)
MARGIN = 0.1
"""Share of the value before the attack up to which a net effect is as good as none."""
_SHOWN = {
    "extractor": "extractor",
    "attack": "attack",
    "recommender": "recommender",
    "protocol": "protocol",
    "metric": "metric",
    "k": "k",
    "before": "before",
    "after": "after",
    "effect": "effect",
    "noise_effect": "noise",
    "net_effect": "net",
    "net_low": "from",
    "net_high": "to",
    "p_holm": "p (Holm)",
    "verdict": "verdict",
    "weakest_level": "weakest level",
    "p_within_run": "p within run",
    "success_rate": "SR %",
}
"""Columns on the terminal and what they are called there."""


def write_summary(
    layouts: Sequence[Layout],
    runs: Sequence[Collection[Run]],
    ks: Sequence[int],
    margin: float = MARGIN,
    *,
    again: Collection[str] = (),
    pairs: Sequence[Pair] = (),
    placebos: Sequence[Pair] = (),
    force: bool,
) -> pd.DataFrame:
    """Make ``summary.tsv`` and ``runs.tsv`` in the results of the first data set; return the summary.

    Files that are up to date stay, and a line names them. Raises ``UserError`` if runs or features
    differ in more than the attack, or data sets in more than the training of their extractors.
    """
    for layout, of_layout in zip(layouts, runs, strict=True):
        require_same_recommenders(layout, of_layout)
        require_same_extractors(
            layout, {run.experiment for run in of_layout if run.experiment.attack}
        )
    require_other_trainings(layouts, {run.experiment.clean for run in runs[0]})
    groups = comparisons_of(layouts, runs, ks)
    options = {
        "runs": sorted(run.name for run in runs[0]),
        "trainings": [layout.dataset for layout in layouts[1:]],
        "ks": ks,
        "margin": margin,
        "again": sorted(again),
        "pairs": pairs,
        "placebos": placebos,
    }
    inputs: dict[Layout, list[Path]] = {}
    for layout, of_layout in zip(layouts, runs, strict=True):
        files = input_files(layout, of_layout)
        if again:
            restored = [run for run in of_layout if can_restore(layout, run)]
            weights = (file for run in restored for file in read_files(layout, run))
            files = sorted({*files, *weights, layout.training_set})
        inputs[layout] = files
    manifest = manifest_of("summarize", options, inputs)
    tabulated(layouts[0].runs_table, manifest, lambda: runs_table(groups), force=force)
    return tabulated(
        layouts[0].summary,
        manifest,
        lambda: summarise(groups, margin, again=again, pairs=pairs, placebos=placebos),
        force=force,
    )


def input_files(layout: Layout, runs: Collection[Run]) -> list[Path]:
    """Return every file that ``summarise`` reads.

    Cells stay empty where files of images are not there. Raises ``UserError`` if a record says that a
    stage has written one of them (``require_present``).
    """
    files = [file for run in runs for file in held_out_files(layout, run)]
    files += [layout.recommendations(run) for run in runs]
    for experiment in {run.experiment for run in runs}:
        of_images = [
            place(of)
            for place in (layout.classes, layout.features)
            for of in (experiment.clean, experiment)
        ]
        for file in of_images:
            require_present(file)
        files += of_images
    return sorted({file for file in files if file.is_file()})


def summarise(
    groups: Sequence[Sequence[Comparison]],
    margin: float = MARGIN,
    *,
    again: Collection[str] = (),
    pairs: Collection[Pair] = (),
    placebos: Collection[Pair] = (),
) -> pd.DataFrame:
    """Return a row for each extractor, attack, recommender, protocol, metric and k: ``COLUMNS``.

    CHR and nCDCG are those of the attacked class, whose members are the extractor's clean classes.
    ``again`` names the effects of ``RANKED_AGAIN`` to compute too; they rank the catalogue once for each
    recommender. Attacks on several of ``pairs`` have rows over all of them; ``placebos`` are pairs of
    classes whose attacks are not tested.
    """
    rows = []
    for comparisons in groups:
        require_one_configuration(comparisons)
        attacked = [key for comparison in comparisons for key in comparison.attacked]
        for design in designs_of(dict.fromkeys(attacked), pairs, placebos):
            rows += effect_rows(comparisons, design, margin, again=again)
    table = corrected(pd.DataFrame(sorted(rows, key=_place)))
    table["k"] = table["k"].astype("Int64")
    return table


def effect_rows(
    comparisons: Sequence[Comparison],
    design: Design,
    margin: float = MARGIN,
    *,
    again: Collection[str] = (),
) -> list[dict[str, object]]:
    """Return the rows of one attack under one protocol: ``COLUMNS`` in order, then the p-value ``p_net``.

    ``p_holm`` and ``verdict`` are empty, since ``corrected`` makes them of the rows of all attacks.
    ``comparisons`` are of one recommender on trainings of one extractor; those without the attack are
    left out. Every training and experiment counts with as many seeds: those that all of them have.
    """
    protocol = design.protocol
    comparisons = comparisons_with(comparisons, design)
    attacked = [[of.attacked[one, protocol] for one in design.flat] for of in comparisons]
    noise = [[of.noise(one, protocol) for one in design.flat] for of in comparisons]
    seeds = common_seeds(comparisons, design)
    controlled = [seed for seed in seeds if all(seed in runs for each in noise for runs in each)]

    def compare(
        seeds: Sequence[int],
        before: Sequence[Sequence[Mapping[int, Run]]],
        after: Sequence[Sequence[Mapping[int, Run]]],
    ) -> dict[Measure, Change]:
        trainings = [
            [
                tuple(of.values(design, [runs[seed] for runs in each]) for each in (one, other))
                for seed in seeds
            ]
            for of, one, other in zip(comparisons, before, after, strict=True)
        ]
        return changes_of(trainings, tuple(design.crossed))

    clean = [[of.clean] * len(design.flat) for of in comparisons]
    changes = compare(seeds, clean, attacked)
    net = compare(controlled, noise, attacked) if controlled else {}
    by_noise = compare(controlled, clean, noise) if controlled else {}
    reranked = {name: _effects_again(comparisons, design, seeds, name) for name in again}
    common = _common_columns(comparisons, design) | {"seeds": len(seeds)}
    rows = []
    for measure, change in changes.items():
        row = common | _columns_of(measure, change, margin)
        row |= {
            f"{name}_effect": reranked.get(name, {}).get(measure, np.nan) for name in RANKED_AGAIN
        }
        if measure in net:
            row |= _columns_beyond(net[measure], by_noise[measure], len(controlled), design)
        else:
            row |= _columns_beyond(change, None, len(seeds), design)
        rows.append({name: row[name] for name in (*COLUMNS, "p_net")})
    return rows


def _common_columns(comparisons: Sequence[Comparison], design: Design) -> dict[str, object]:
    """Return the columns that all measures of an attack share, but for the number of seeds."""
    outcomes = np.array(
        [attack_outcome(of.layout, one) for of in comparisons for one in design.flat]
    )
    return {
        "extractor": design.flat[0].extractor,
        "attack": design.name,
        "recommender": comparisons[0].runs[0].model,
        "protocol": design.protocol,
        "success_rate": outcomes[:, 0].mean(),
        "feature_loss": outcomes[:, 1].mean(),
        "extractor_seeds": len(comparisons),
        "pairs": design.n_pairs,
        "attack_seeds": design.n_seeds,
        "placebo": design.placebo,
        "p_holm": np.nan,
        "verdict": "",
    }


def _columns_of(measure: Measure, change: Change, margin: float) -> dict[str, object]:
    """Return the columns of a measure and of its change under an attack."""
    metric, k = measure
    return {
        "metric": metric,
        "k": k,
        "before": change.before,
        "after": change.after,
        "change": change.change,
        "p_value": change.p_value,
        "effect": change.change,
        "low": change.low,
        "high": change.high,
        "margin": margin * abs(change.before),
        "p_within_run": change.p_within_run,
    }


def _columns_beyond(
    change: Change, noise: Change | None, n_seeds: int, design: Design
) -> dict[str, object]:
    """Return the columns of the net effect and of the spread over units.

    ``change`` is that from noise to the attack, and ``noise`` the change under noise; or, without a
    control, ``change`` is that under the attack. Both are over ``n_seeds`` seeds of the recommender.
    """
    net = {"net_effect": change.change, "net_low": change.low, "net_high": change.high}
    net["p_net"] = change.p_interval
    is_noise = design.flat[0].attack == CONTROL
    sds = dict(zip(design.crossed, change.sd_crossed, strict=True))
    return {
        "noise_effect": noise.change if noise else np.nan,
        **(net if noise else dict.fromkeys(net, np.nan)),
        "weakest_level": change.weakest_level if noise or is_noise else NO_CONTROL,
        "recommender_seeds": n_seeds,
        "sd_extractor": change.sd_extractor,
        "sd_recommender": change.sd_recommender,
        "sd_user": change.sd_user,
        "sd_pair": sds.get(PAIR, np.nan),
        "sd_attack": sds.get(ATTACK_SEED, np.nan),
    }


def _effects_again(
    comparisons: Sequence[Comparison], design: Design, seeds: Sequence[int], name: str
) -> dict[Measure, float]:
    """Return the changes of the lists' measures under one of ``RANKED_AGAIN``.

    Empty unless all runs can be scored again.
    """
    runs = [
        (of, of.attacked[one, design.protocol][seed])
        for of in comparisons
        for one in design.flat
        for seed in seeds
    ]
    if not all(can_restore(of.layout, run) for of, run in runs):
        return {}
    changes: dict[Measure, list[float]] = {}
    for comparison, run in runs:
        experiment = run.experiment
        members = read_categories(comparison.layout, experiment).members(experiment.origin)
        lists = comparison.restored(run).lists(experiment, RANKED_AGAIN[name])
        lists = lists[comparison.users[0]]
        before = comparison.measured[comparison.clean[run.seed], experiment.origin]
        for measure, values in category_values(lists, members, comparison.ks).items():
            changes.setdefault(measure, []).append(values.mean() - before[measure].mean())
    return {measure: float(np.mean(of)) for measure, of in changes.items()}


def _place(row: Mapping[str, object]) -> tuple:
    """Return the key that sorts rows: the undefended extractor first, metrics as in ``METRICS``."""
    return (
        row["extractor"] != Experiment().extractor,
        *(row[column] for column in COLUMNS[:4]),
        METRICS.index(row["metric"]),
        row["k"] or 0,
    )


def summary_overview(table: pd.DataFrame) -> str:
    """Return the table for the terminal; values of a whole attack stand in its first row only."""
    shown = {name: title for name, title in _SHOWN.items() if name in table}
    rows = table[list(shown)].astype(object).where(table.notna(), np.nan)
    said = table.duplicated(["extractor", "attack", "recommender", "protocol"])
    rows.loc[said, ["extractor", "attack", "recommender", "protocol"]] = ""
    rows.loc[said, ["success_rate"]] = np.nan
    text = format_table(list(shown.values()), rows.to_numpy().tolist())
    return f"{tests_of(table)}\n\n{text}"
