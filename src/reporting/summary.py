"""What each attack changes, beside what changes when nothing is attacked.

``retrained``: a new recommender on the attacked features against one on the clean features, seed by
seed. Its control is clean against clean: the clean runs of further seeds against those of the
attack's seeds. ``test_time``: the recommender of the clean features scores the attacked ones, user by
user. Its control is noise of the same size in place of the attack.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_output
from src.artifacts.classes import read_attacked_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, read_record
from src.metrics import attack as attack_metrics
from src.metrics.category_hit_ratio import category_hit_ratio, ncdcg
from src.reporting.changes import (
    Change,
    Measure,
    Measured,
    change_over_seeds,
    change_over_users,
)
from src.reporting.comparable import require_same_extractors, require_same_recommenders
from src.reporting.measures import METRICS, accuracy_values
from src.reporting.runs import (
    held_out_files,
    read_categories,
    read_held_out,
    read_lists,
    require_same_users,
    unpaired_runs,
)
from src.reporting.terminal import format_table

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
    "control_change",
    "control_p_value",
    "success_rate",
    "feature_loss",
    "seeds",
)

_EPS = re.compile(r"eps([\d.]+)(?:_|$)")
_NORM = re.compile(r"_l(inf|[\d.]+)(?:_|$)")

_UNTESTED = Change(np.nan, np.nan, np.nan)


def input_files(layout: Layout, runs: Collection[Run]) -> list[Path]:
    """Every file that ``summarise`` reads."""
    files = [file for run in runs for file in held_out_files(layout, run)]
    files += [layout.recommendations(run) for run in runs]
    for experiment in {run.experiment for run in runs}:
        files += [layout.classes(experiment.clean), layout.classes(experiment)]
        files += [layout.features(experiment.clean), layout.features(experiment)]
    return sorted({file for file in files if file.is_file()})


def summarise(layout: Layout, runs: Collection[Run], ks: Sequence[int]) -> pd.DataFrame:
    """One row for each extractor, attack, recommender, protocol, metric and k: ``COLUMNS``.

    CHR and nCDCG are those of the attacked class, whose members are the extractor's clean classes.
    ``ks`` ascend. ``unpaired_runs`` are left out; ``UserError`` when nothing else is there.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(set(runs).difference(unpaired_runs(runs)), key=lambda run: run.name):
        groups.setdefault((run.experiment.extractor, run.model), []).append(run)
    rows = []
    for members in groups.values():
        comparison = Comparison(layout, tuple(members), tuple(ks))
        for experiment, protocol in comparison.attacked:
            rows += comparison.rows(experiment, protocol)
    if not rows:
        raise UserError(
            f"no attacked run in {layout.recommendations_dir} has its clean run beside it: "
            "run rec_generator.py on the clean features with the same options and seed"
        )
    table = pd.DataFrame(sorted(rows, key=_place), columns=COLUMNS)
    table["k"] = table["k"].astype("Int64")
    return table


def write_summary(
    layout: Layout, runs: Collection[Run], ks: Sequence[int], *, force: bool
) -> pd.DataFrame:
    """Make ``results/<dataset>/summary.tsv`` unless it is current, say where it is, return its rows.

    Raises ``UserError`` where runs or features would be compared that differ in more than the attack.
    """
    require_same_recommenders(layout, runs)
    require_same_extractors(layout, {run.experiment for run in runs if run.experiment.attack})
    names = sorted(run.name for run in runs)
    manifest = Manifest.of("summarize", {"runs": names, "ks": ks}, input_files(layout, runs))
    return tabulated(layout.summary, manifest, lambda: summarise(layout, runs, ks), force=force)


def tabulated(
    path: Path, manifest: Manifest, make: Callable[[], pd.DataFrame], *, force: bool
) -> pd.DataFrame:
    """The table at ``path`` (TSV), made and written unless ``manifest`` says that it is current."""
    if not force and manifest.is_current([path]):
        print(f"{path} is up to date (use --force to redo)")
        return pd.read_csv(path, sep="\t", dtype={"k": "Int64"})
    table = make()
    with atomic_output(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.6g")
    manifest.write([path])
    print(f"wrote {path}")
    return table


def summary_overview(table: pd.DataFrame) -> str:
    """The table for the terminal: what a column says of a whole attack is said once."""
    rows = table.astype(object).where(table.notna(), np.nan)
    said = table.duplicated(["extractor", "attack", "recommender", "protocol"])
    rows.loc[said, ["extractor", "attack", "recommender", "protocol"]] = ""
    rows.loc[said, ["success_rate", "feature_loss", "seeds"]] = np.nan
    shorter = {
        "p_value": "p",
        "control_change": "control",
        "control_p_value": "its p",
        "success_rate": "SR %",
        "feature_loss": "FL",
    }
    header = [shorter.get(name, name) for name in table]
    return format_table(header, rows.to_numpy().tolist())


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
    def measured(self) -> dict[tuple[Run, int], Measured]:
        """Every run's values for each origin class it is compared for; each list is read once."""
        categories = read_categories(self.layout, self.runs[0].experiment)
        origins = sorted({experiment.origin for experiment, _ in self.attacked})
        members = {origin: categories.members(origin) for origin in origins}
        measured: dict[tuple[Run, int], Measured] = {}
        users = test_users = None
        for run in self.runs:
            lists = read_lists(self.layout, run, len(categories.of_item))
            held_out = read_held_out(self.layout, run)
            if users is None:
                users, test_users = lists.users, held_out.users
            require_same_users(self.layout, lists.users, run, users, self.runs[0])
            require_same_users(self.layout, held_out.users, run, test_users, self.runs[0])
            accuracy = accuracy_values(held_out, self.ks)
            for origin in origins if run.experiment.attack is None else [run.experiment.origin]:
                of_class = category_values(lists.items, members[origin], self.ks)
                measured[run, origin] = of_class | accuracy
        return measured

    def rows(self, experiment: Experiment, protocol: str) -> list[dict[str, object]]:
        """The rows of one attacked experiment under one protocol."""
        by_seed = self.attacked[experiment, protocol]
        change_of = change_over_seeds if protocol == "retrained" else change_over_users
        changes = change_of(self._pairs(by_seed, experiment.origin))
        control = self._control(experiment, protocol)
        controls = change_of(self._pairs(control, experiment.origin))
        success, loss = attack_outcome(self.layout, experiment)
        return [
            {
                "extractor": experiment.extractor,
                "attack": replace(experiment, model_dir=None).name,
                "recommender": self.runs[0].model,
                "protocol": protocol,
                "metric": metric,
                "k": k,
                "before": change.before,
                "after": change.after,
                "change": change.change,
                "p_value": change.p_value,
                "control_change": controls.get((metric, k), _UNTESTED).change,
                "control_p_value": controls.get((metric, k), _UNTESTED).p_value,
                "success_rate": success,
                "feature_loss": loss,
                "seeds": len(by_seed),
            }
            for (metric, k), change in changes.items()
        ]

    def _pairs(self, after: Mapping[int, Run], origin: int) -> list[tuple[Measured, Measured]]:
        """The clean run of each seed with the run that is compared with it."""
        return [
            (self.measured[self.clean[seed], origin], self.measured[after[seed], origin])
            for seed in sorted(after)
        ]

    def _control(self, experiment: Experiment, protocol: str) -> dict[int, Run]:
        """What the clean runs are compared with when nothing is attacked, by their seed.

        ``retrained``: the clean runs of seeds the attack was not run with, in order. ``test_time``:
        noise of the same budget on the same class, or image by image of the size of the attack's changes.
        Empty where there is none.
        """
        if protocol == "retrained":
            seeds = sorted(self.attacked[experiment, protocol])
            others = sorted(set(self.clean).difference(seeds))
            return {seed: self.clean[s] for seed, s in zip(seeds, others, strict=False)}
        if experiment.attack == "noise":
            return {}
        candidates = [
            candidate
            for candidate, its_protocol in sorted(self.attacked, key=lambda key: key[0].name)
            if candidate.attack == "noise"
            and its_protocol == protocol
            and candidate.origin == experiment.origin
        ]
        alike = [of for of in candidates if resembles(self.layout, of, experiment)]
        budget = recorded_budget(self.layout, experiment)
        same = [of for of in candidates if budget and recorded_budget(self.layout, of) == budget]
        found = alike or same
        return self.attacked[found[0], protocol] if found else {}


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
    its_name = f"{experiment.attack}_{experiment.parameters}"
    return liked == its_name and noise.target == experiment.target


def budget_of(experiment: Experiment) -> tuple[float, str] | None:
    """(eps in grey levels, norm), for an attack that has a budget; where no norm is named, L-inf."""
    eps = _EPS.match(experiment.parameters)
    norm = _NORM.search(experiment.parameters)
    return (float(eps[1]), norm[1] if norm else "inf") if eps else None


def attack_outcome(layout: Layout, experiment: Experiment) -> tuple[float, float]:
    """(success rate in percent, mean squared feature loss) of an attack; NaN where files lack.

    An attack without a target succeeds where the class is no longer the origin.
    """
    if not layout.classes(experiment).is_file():
        return np.nan, np.nan
    attacked, _ = read_attacked_classes(layout.classes(experiment))
    if experiment.target is None:
        success = attack_metrics.misclassification_rate(attacked.classes, experiment.origin)
    else:
        success = attack_metrics.success_rate(attacked.classes, experiment.target)
    clean_file, attacked_file = layout.features(experiment.clean), layout.features(experiment)
    if not (clean_file.is_file() and attacked_file.is_file()):
        return success, np.nan
    clean = read_features(clean_file)
    features = read_features(attacked_file, len(clean))
    mse, _ = attack_metrics.feature_loss(clean[attacked.image_ids], features[attacked.image_ids])
    return success, float(mse.mean())
