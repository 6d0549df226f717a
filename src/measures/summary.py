"""Changes under each attack, beyond noise of the same size and over trainings of the extractors.

``retrained``: a new recommender on the attacked features against one on the clean features, seed by
seed. ``test_time``: the recommender of the clean features scores the attacked ones. The control of both
is noise of the same size in place of the attack, on the same extractors with the same seeds.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.attack_report import read_attack_report
from src.artifacts.classes import read_attacked_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, read_record, require_present
from src.artifacts.stage import Stage
from src.measures.changes import Change, Measure, Measured, changes_of
from src.measures.comparable import (
    require_other_trainings,
    require_same_extractors,
    require_same_recommenders,
)
from src.measures.designs import ATTACK_SEED, PAIR, Design, Pair, designs_of
from src.measures.measures import METRICS, accuracy_values
from src.measures.norm_restored import RANKED_AGAIN, Restored, can_restore, read_files
from src.measures.runs import (
    held_out_files,
    read_categories,
    read_held_out,
    read_lists,
    require_same_users,
    unpaired_runs,
)
from src.measures.runs_table import runs_table
from src.measures.terminal import format_table
from src.measures.verdicts import CONTROL, NO_CONTROL, corrected, tests_of
from src.metrics import attack as attack_metrics
from src.metrics.category_hit_ratio import category_hit_ratio, ncdcg

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

_EPS = re.compile(r"eps([\d.]+)(?:_|$)")
_NORM = re.compile(r"_l(inf|[\d.]+)(?:_|$)")
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


def comparisons_of(
    layouts: Sequence[Layout], runs: Sequence[Collection[Run]], ks: Sequence[int]
) -> list[tuple["Comparison", ...]]:
    """Group runs by extractor and recommender: a comparison for each data set that has them.

    ``runs`` are those of each of the ``layouts``, whose extractors of one name are trainings of one
    recipe. ``ks`` ascend. ``unpaired_runs`` and attacks on items of no one class are left out;
    ``UserError`` when nothing else is there.
    """
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for layout, of_layout in zip(layouts, runs, strict=True):
        found: dict[tuple[str, str], list[Run]] = {}
        paired = set(of_layout).difference(unpaired_runs(of_layout))
        compared = [run for run in paired if not run.experiment.items]
        for run in sorted(compared, key=lambda run: run.name):
            found.setdefault((run.experiment.extractor, run.model), []).append(run)
        for key, members in found.items():
            comparison = Comparison(layout, tuple(members), tuple(ks))
            if comparison.attacked:
                groups.setdefault(key, []).append(comparison)
    if not groups:
        raise UserError(
            f"no attacked run in {layouts[0].recommendations_dir} has its clean run beside it: "
            "run rec_generator.py on the clean features with the same options and seed"
        )
    return [tuple(members) for members in groups.values()]


def summarise(
    groups: Sequence[Sequence["Comparison"]],
    margin: float = MARGIN,
    *,
    again: Collection[str] = (),
    pairs: Collection[Pair] = (),
    placebos: Collection[Pair] = (),
) -> pd.DataFrame:
    """One row for each extractor, attack, recommender, protocol, metric and k: ``COLUMNS``.

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
    table = corrected(pd.DataFrame(sorted(rows, key=_place)))[list(COLUMNS)]
    table["k"] = table["k"].astype("Int64")
    return table


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

    Files that are current stay, and it is said where they are. Raises ``UserError`` where runs or
    features would be compared that differ in more than the attack, or data sets in more than the
    training of their extractors.
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


def manifest_of(
    stage: str, options: Mapping[str, object], inputs: Mapping[Layout, Sequence[Path]]
) -> Manifest:
    """Return the manifest of a table made of files of several data sets, which precede their names."""
    hashes = {
        f"{layout.dataset}/{name}": digest
        for layout, files in inputs.items()
        for name, digest in Manifest.of(stage, {}, files).inputs.items()
    }
    return replace(Manifest.of(stage, options, ()), inputs=hashes)


def tabulated(
    path: Path, manifest: Manifest, make: Callable[[], pd.DataFrame], *, force: bool
) -> pd.DataFrame:
    """The table at ``path`` (TSV), made and written unless ``manifest`` says that it is current."""
    stage = Stage(manifest, [path])
    if stage.is_up_to_date(force):
        return pd.read_csv(path, sep="\t", dtype={"k": "Int64"}).fillna({"placebo": ""})
    table = make()
    with stage.publish() as (file,):
        table.to_csv(file, sep="\t", index=False, float_format="%.6g")
    print(f"wrote {path}")
    return table


def summary_overview(table: pd.DataFrame) -> str:
    """The table for the terminal: what a column says of a whole attack is said once."""
    shown = {name: title for name, title in _SHOWN.items() if name in table}
    rows = table[list(shown)].astype(object).where(table.notna(), np.nan)
    said = table.duplicated(["extractor", "attack", "recommender", "protocol"])
    rows.loc[said, ["extractor", "attack", "recommender", "protocol"]] = ""
    rows.loc[said, ["success_rate"]] = np.nan
    text = format_table(list(shown.values()), rows.to_numpy().tolist())
    return f"{tests_of(table)}\n\n{text}"


def _place(row: Mapping[str, object]) -> tuple:
    """Sorts rows: the undefended extractor first, metrics in the order of ``METRICS``."""
    return (
        row["extractor"] != Experiment().extractor,
        *(row[column] for column in COLUMNS[:4]),
        METRICS.index(row["metric"]),
        row["k"] or 0,
    )


@dataclass(frozen=True)
class Comparison:
    """The runs of one recommender on one extractor's features, every attacked one with its clean run."""

    layout: Layout
    runs: tuple[Run, ...]
    ks: tuple[int, ...]

    @cached_property
    def clean(self) -> dict[int, Run]:
        """The clean run of each seed."""
        return {run.seed: run for run in self.runs if run.experiment.attack is None}

    @cached_property
    def attacked(self) -> dict[tuple[Experiment, str], dict[int, Run]]:
        """The runs of each attacked experiment and protocol, by seed."""
        found: dict[tuple[Experiment, str], dict[int, Run]] = {}
        for run in self.runs:
            if run.experiment.attack is not None:
                found.setdefault((run.experiment, run.protocol), {})[run.seed] = run
        return found

    @cached_property
    def users(self) -> tuple[np.ndarray, np.ndarray]:
        """The users with lists and those with a held-out item, as the first run has them."""
        n_items = len(read_categories(self.layout, self.runs[0].experiment).of_item)
        lists = read_lists(self.layout, self.runs[0], n_items)
        return lists.users, read_held_out(self.layout, self.runs[0]).users

    @cached_property
    def measured(self) -> dict[tuple[Run, int], Measured]:
        """Every run's values for each origin class it is compared for; each list is read once."""
        categories = read_categories(self.layout, self.runs[0].experiment)
        origins = sorted({experiment.origin for experiment, _ in self.attacked})
        members = {origin: categories.members(origin) for origin in origins}
        measured: dict[tuple[Run, int], Measured] = {}
        users, test_users = self.users
        for run in self.runs:
            lists = read_lists(self.layout, run, len(categories.of_item))
            held_out = read_held_out(self.layout, run)
            require_same_users(self.layout, lists.users, run, users, self.runs[0])
            require_same_users(self.layout, held_out.users, run, test_users, self.runs[0])
            accuracy = accuracy_values(held_out, self.ks, held_out.has_several)
            for origin in origins if run.experiment.attack is None else [run.experiment.origin]:
                of_class = category_values(lists.items, members[origin], self.ks)
                measured[run, origin] = of_class | accuracy
        return measured

    def values(self, design: Design, runs: Sequence[Run]) -> Measured:
        """Return what was measured on a run for each experiment: (crossed factors ..., users)."""
        each = [
            self.measured[run, experiment.origin]
            for run, experiment in zip(runs, design.flat, strict=True)
        ]
        shape = tuple(design.crossed.values())
        return {
            measure: np.reshape([of[measure] for of in each], (*shape, -1))
            for measure in each[0]
            if all(measure in of for of in each)
        }

    def restored(self, run: Run) -> Restored:
        """Return what ranks again for an attacked run; runs on the same items share it."""
        needed = Restored.of(self.layout, run, self.ks[-1])
        return self._restored.setdefault(needed, needed)

    @cached_property
    def _restored(self) -> dict[Restored, Restored]:
        return {}

    def noise(self, experiment: Experiment, protocol: str) -> dict[int, Run]:
        """Return the runs on the noise that is the control of an attack, by seed.

        It changes the same class, image by image by the size of the attack's changes or else within the
        same budget, with the seed of the attack where there is such noise. Empty where there is none,
        and for noise itself.
        """
        if experiment.attack == CONTROL:
            return {}
        candidates = [
            candidate
            for candidate, its_protocol in sorted(
                self.attacked,
                key=lambda key: (key[0].attack_seed != experiment.attack_seed, key[0].name),
            )
            if candidate.attack == CONTROL
            and its_protocol == protocol
            and candidate.origin == experiment.origin
        ]
        alike = [of for of in candidates if resembles(self.layout, of, experiment)]
        budget = recorded_budget(self.layout, experiment)
        same = [of for of in candidates if budget and recorded_budget(self.layout, of) == budget]
        found = alike or same
        return self.attacked[found[0], protocol] if found else {}


def require_one_configuration(comparisons: Sequence[Comparison]) -> None:
    """``UserError`` unless the trainings have recommenders of one configuration and the same users."""
    first, *others = (comparison.runs[0] for comparison in comparisons)
    for comparison, run in zip(comparisons[1:], others, strict=True):
        for field in ("epochs", "top_k", "fidelity", "options_label"):
            if getattr(run, field) != getattr(first, field):
                raise UserError(
                    f"{first.model} has {field} {getattr(first, field)} in "
                    f"{comparisons[0].layout.recommendations_dir} and {getattr(run, field)} in "
                    f"{comparison.layout.recommendations_dir}: choose runs of one configuration"
                )
        for users, other in zip(comparisons[0].users, comparison.users, strict=True):
            require_same_users(comparison.layout, other, run, users, first)


def effect_rows(
    comparisons: Sequence[Comparison],
    design: Design,
    margin: float = MARGIN,
    *,
    again: Collection[str] = (),
) -> list[dict[str, object]]:
    """The rows of one attack under one protocol: ``COLUMNS`` and the p-value ``p_net``.

    ``comparisons`` are of one recommender on trainings of one extractor; those without the attack are
    left out. Every training and experiment counts with as many seeds: those that all of them have.
    """
    protocol, is_noise = design.protocol, design.flat[0].attack == CONTROL
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
    outcomes = np.array(
        [attack_outcome(of.layout, one) for of in comparisons for one in design.flat]
    )
    rows = []
    for (metric, k), change in changes.items():
        row = {
            "extractor": design.flat[0].extractor,
            "attack": design.name,
            "recommender": comparisons[0].runs[0].model,
            "protocol": protocol,
            "metric": metric,
            "k": k,
            "before": change.before,
            "after": change.after,
            "change": change.change,
            "p_value": change.p_value,
            "success_rate": outcomes[:, 0].mean(),
            "feature_loss": outcomes[:, 1].mean(),
            "seeds": len(seeds),
            "effect": change.change,
            "low": change.low,
            "high": change.high,
            "margin": margin * abs(change.before),
            "weakest_level": change.weakest_level,
            "extractor_seeds": len(comparisons),
            "recommender_seeds": len(seeds),
            "p_within_run": change.p_within_run,
            **{
                f"{name}_effect": reranked.get(name, {}).get((metric, k), np.nan)
                for name in RANKED_AGAIN
            },
            "pairs": design.n_pairs,
            "attack_seeds": design.n_seeds,
            "placebo": design.placebo,
        }
        told = change
        if (metric, k) in net:
            told = net[metric, k]
            row |= {
                "noise_effect": by_noise[metric, k].change,
                "net_effect": told.change,
                "net_low": told.low,
                "net_high": told.high,
                "weakest_level": told.weakest_level,
                "recommender_seeds": len(controlled),
                "p_net": told.p_interval,
            }
        else:
            row |= dict.fromkeys(
                ("noise_effect", "net_effect", "net_low", "net_high", "p_net"), np.nan
            )
            row["weakest_level"] = told.weakest_level if is_noise else NO_CONTROL
        for level in ("extractor", "recommender", "user"):
            row[f"sd_{level}"] = getattr(told, f"sd_{level}")
        sds = dict(zip(design.crossed, told.sd_crossed, strict=True))
        row |= {"sd_pair": sds.get(PAIR, np.nan), "sd_attack": sds.get(ATTACK_SEED, np.nan)}
        rows.append(row)
    return rows


def comparisons_with(comparisons: Sequence[Comparison], design: Design) -> list[Comparison]:
    """Return those comparisons that have every experiment of a design."""
    keys = [(one, design.protocol) for one in design.flat]
    return [of for of in comparisons if all(key in of.attacked for key in keys)]


def common_seeds(comparisons: Sequence[Comparison], design: Design) -> list[int]:
    """Return the recommender seeds that all comparisons have of a design; ``UserError`` if none."""
    runs = [of.attacked[one, design.protocol] for of in comparisons for one in design.flat]
    seeds = sorted(set.intersection(*map(set, runs))) if runs else []
    if not seeds:
        raise UserError(
            f"{design.name}: the runs to compare have no seed of the recommender in common"
        )
    return seeds


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


def category_values(
    items: np.ndarray, members: np.ndarray, ks: Sequence[int]
) -> dict[Measure, np.ndarray]:
    """Per-user CHR (raw and normalised) and nCDCG of one class, by (metric, k)."""
    values = {
        "chr": category_hit_ratio(items, members, ks),
        "chr_normalised": category_hit_ratio(items, members, ks, normalised=True),
        "ncdcg": ncdcg(items, members, ks),
    }
    return {(metric, k): of[:, i] for metric, of in values.items() for i, k in enumerate(ks)}


def recorded_budget(layout: Layout, experiment: Experiment) -> tuple[float, str] | None:
    """(eps in grey levels, norm) as stage 3 recorded them; as the name has them where it did not."""
    options = read_record(layout.classes(experiment)).get("options", {})
    if "budget" not in options:
        return budget_of(experiment)
    budget = options["budget"]
    return budget and (budget["eps"], budget["norm"])


def resembles(layout: Layout, noise: Experiment, experiment: Experiment) -> bool:
    """Whether ``noise`` has, image by image, the size of the changes of ``experiment``."""
    parameters = read_record(layout.classes(noise)).get("options", {}).get("parameters", {})
    liked = parameters.get("like") or noise.parameters.removeprefix("like_")
    parts = (experiment.attack, experiment.objective, experiment.parameters)
    same_target = noise.target == experiment.target or experiment.objective
    return liked == "_".join(filter(None, parts)) and bool(same_target)


def budget_of(experiment: Experiment) -> tuple[float, str] | None:
    """(eps in grey levels, norm), for an attack that has a budget; where no norm is named, L-inf."""
    eps = _EPS.match(experiment.parameters)
    norm = _NORM.search(experiment.parameters)
    return (float(eps[1]), norm[1] if norm else "inf") if eps else None


def read_success(layout: Layout, experiment: Experiment) -> np.ndarray:
    """Return whether the attack reached its goal with each stored image: (n,) of 1, 0 and NaN.

    An attack without a target succeeds where the class is no longer the origin, one on lists where more
    users are shown the item. NaN stands for images whose goal nobody named.
    """
    if experiment.objective:
        table = read_attack_report(layout.attack_report(experiment), needs=["success"])
        return table["success"].to_numpy(np.float64)
    attacked, _ = read_attacked_classes(layout.classes(experiment))
    if experiment.target is None:
        return (attacked.classes != experiment.origin).astype(np.float64)
    return (attacked.classes == experiment.target).astype(np.float64)


def attack_outcome(layout: Layout, experiment: Experiment) -> tuple[float, float]:
    """(success rate in percent, mean squared feature loss) of an attack; NaN where files lack."""
    if not layout.classes(experiment).is_file():
        return np.nan, np.nan
    success = 100 * read_success(layout, experiment).mean()
    clean_file, attacked_file = layout.features(experiment.clean), layout.features(experiment)
    if not (clean_file.is_file() and attacked_file.is_file()):
        return success, np.nan
    clean = read_features(clean_file)
    features = read_features(attacked_file, len(clean))
    ids = read_attacked_classes(layout.classes(experiment))[0].image_ids
    mse, _ = attack_metrics.feature_loss(clean[ids], features[ids])
    return success, float(mse.mean())
