"""Distances of changed images from their originals: tables with a row per image and per condition."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.progress import progress_bar
from src.artifacts.reconstructions import originals_folder
from src.artifacts.stage import Stage
from src.datasets.catalogue import choose_resize, describe_reading
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.defences.defence import NONE
from src.extractors.architectures import imagenet_weights_file
from src.extractors.checkpoints import load_extractor
from src.extractors.device import Loading, select_device
from src.extractors.extractor import Extractor
from src.extractors.feeding import FittingBatches
from src.extractors.inference import predict
from src.extractors.perceptual import (
    FEATURE_METRICS,
    NetworkMetric,
    frechet_distance,
    load_lpips,
    lpips_metric,
    lpips_weights_file,
    semsim_metric,
)
from src.extractors.semsim import load_semsim
from src.extractors.weights import weights_path
from src.extractors.zoo import DEFAULT_ARCH
from src.measures.agreement import MOST_DB, capped
from src.measures.attack_records import attack_outcome
from src.measures.comparable import require_same_extractors
from src.measures.image_conditions import (
    LEADING,
    Condition,
    experiment_condition,
    finished_attacks,
    folder_condition,
    name_of_folder,
    read_condition,
)
from src.measures.table_files import tabulated
from src.measures.terminal import format_table
from src.metrics.image_quality import IMAGE_METRICS, ImageMetric
from src.metrics.significance import bootstrap_interval

TABLE = "image_quality.tsv"
SUCCESSFUL = "_successful"
"""Ending of a mean over the images whose attack succeeded."""
LOW, HIGH = "_low", "_high"
DEFAULT_METRICS = ("mse", "psnr", "ssim", "linf", "l2")


# Metrics


@dataclass(frozen=True)
class Features:
    """Features (n, D) of an extractor for the images of a condition."""

    changed: np.ndarray
    originals: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measures:
    """Metrics and networks that the options of the script choose."""

    options: argparse.Namespace

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Requested metrics, or the default metrics of pixels and those of other options."""
        options = self.options
        if options.metrics:
            return tuple(dict.fromkeys(options.metrics))
        named = options.arch or options.model_file or options.defence
        brought = {
            "features": named or not options.attacked,
            "lpips": options.lpips_weights,
            "semsim": options.semsim,
        }
        return (*DEFAULT_METRICS, *(name for name, there in brought.items() if there))

    @cached_property
    def described(self) -> dict[str, Any]:
        """Return the measures in values that JSON knows, for a manifest."""
        chosen = {"metrics": self.names}
        if "lpips" in self.names:
            chosen |= {name: getattr(self.options, name) for name in ("lpips_net", "lpips_size")}
        if "semsim" in self.names:
            chosen["published_scoring"] = self.options.published_scoring
        if self.needs_extractor:
            names = ("arch", "resize", "precision")
            chosen |= {name: getattr(self.options, name) for name in names}
            preprocess = self.options.preprocess
            chosen |= {"preprocess": preprocess.recorded} if preprocess.text != NONE else {}
        return chosen

    @cached_property
    def weights(self) -> dict[str, Path]:
        """Return the file of each network; ``UserError`` for a missing file."""
        options, files = self.options, {}
        if "lpips" in self.names:
            files["lpips"] = lpips_weights_file(options.lpips_net, options.lpips_weights)
        if "semsim" in self.names:
            if options.semsim is None:
                raise UserError(
                    "--metrics semsim needs --semsim FILE, as the command train writes it"
                )
            files["semsim"] = options.semsim
        if self.needs_extractor:
            layout = Layout(options.dataset, options.root)
            named = weights_path(layout, options.defence, options.model_dir, options.model_file)
            files["features"] = named or imagenet_weights_file(options.arch or DEFAULT_ARCH)
        return files

    @property
    def needs_extractor(self) -> bool:
        """Return whether images have no stored features, so that an extractor must read them."""
        return "features" in self.names and bool(self.options.attacked)

    @cached_property
    def device(self) -> Any:
        return select_device(self.options.gpu) if self.weights else select_device(-1)

    @cached_property
    def loading(self) -> Loading:
        return Loading.on(self.device, self.options.batch, self.options.workers)

    @cached_property
    def metrics(self) -> list[ImageMetric | NetworkMetric]:
        """Load all metrics, with their networks, except those of features."""
        options, found = self.options, [IMAGE_METRICS[n] for n in self.names if n in IMAGE_METRICS]
        if "lpips" in self.names:
            file, size = self.weights["lpips"], options.lpips_size
            found += [lpips_metric(load_lpips(options.lpips_net, file, self.device, size=size))]
        if "semsim" in self.names:
            model = load_semsim(self.weights["semsim"], self.device)
            found += [semsim_metric(model, normalised=not options.published_scoring)]
        return found

    @cached_property
    def extractor(self) -> Extractor:
        undefended = load_extractor(
            self.options.arch, self.weights["features"], self.device, self.options.head
        )
        return self.options.preprocess.in_front_of(undefended)

    def features_of(self, condition: Condition) -> Features:
        """Return the features of the images and of their originals, with one forward each."""
        originals = {ending: self._features(of) for ending, of in condition.originals.items()}
        return Features(self._features(condition.changed), originals)

    def _features(self, images: ImageSet) -> np.ndarray:
        trained_size = self.extractor.trained_size
        resize = choose_resize(images.store.sizes, self.options.resize, trained_size)
        print(describe_reading(images.store.sizes, resize, trained_size))
        return predict(
            self.extractor,
            images.resized(resize),
            batch_size=self.loading.batch_size,
            workers=self.loading.workers,
            precision=self.options.precision,
            progress="features",
        ).features

    def table(self, condition: Condition, features: Features | None) -> pd.DataFrame:
        """Return a row for each image: its description, and every metric against each original."""
        columns = {
            f"{metric.name}{ending}": np.empty(len(condition.changed))
            for metric in self.metrics
            for ending in condition.originals
        }
        batches = condition.changed.batches(
            np.arange(len(condition.changed)), self.loading.batch_size
        )
        fitting = FittingBatches()
        with progress_bar(total=len(condition.changed), desc=condition.name, unit="img") as bar:
            read = read_ahead(partial(read_condition, condition), batches)
            for rows, (changed, originals) in read:
                for metric in self.metrics:
                    work = partial(_values, metric, changed, originals)
                    found = fitting.run(work, len(changed))
                    for ending in originals:
                        values = np.concatenate([part[ending] for part in found])
                        columns[f"{metric.name}{ending}"][rows] = values
                bar.update(len(rows))
        if features:
            columns |= {
                f"{metric.name}{ending}": metric(original, features.changed)
                for metric in FEATURE_METRICS.values()
                for ending, original in features.originals.items()
            }
        return pd.DataFrame({**condition.known, **columns})


def _values(
    metric: ImageMetric | NetworkMetric,
    changed: np.ndarray,
    originals: Mapping[str, np.ndarray],
    rows: slice,
) -> dict[str, np.ndarray]:
    """Return the metric of some images against each of their originals, with one description each."""
    seen = metric.describe(changed[rows])
    return {
        ending: _compare(metric, metric.describe(images[rows]), seen)
        for ending, images in originals.items()
    }


def _compare(metric: ImageMetric | NetworkMetric, original: Any, changed: Any) -> np.ndarray:
    try:
        return metric.compare(original, changed)
    except ValueError as error:
        raise UserError(f"{metric.name}: {error}") from error


# Rows of conditions


def summary_row(table: pd.DataFrame, features: Features | None) -> dict[str, object]:
    """Return means of the metrics over all images and over successful attacks, with intervals.

    ``<metric>``, ``<metric>_low`` and ``_high`` are the mean and its 95 % bootstrap interval over the
    images; the same after ``<metric>_successful``; NaN without images. An image that equals its original
    has an infinite PSNR: ``unchanged`` counts them, and in the means PSNR is ``capped``.
    """
    success = table["success"].eq(1).to_numpy() if "success" in table else None
    row: dict[str, object] = {"images": len(table)}
    if "psnr" in table:
        row["unchanged"] = int(np.isinf(table["psnr"]).sum())
    for name in [name for name in table if name not in LEADING]:
        values = capped(name, table[name].to_numpy(float))
        row |= _mean(name, values)
        if success is not None:
            row |= _mean(name + SUCCESSFUL, values[success])
    if features:
        row |= {
            f"fid_features{ending}": frechet_distance(original, features.changed)
            for ending, original in features.originals.items()
        }
    return row


def _mean(name: str, values: np.ndarray) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return dict.fromkeys((name, name + LOW, name + HIGH), np.nan)
    low, high = bootstrap_interval(finite)
    return {name: finite.mean(), name + LOW: float(low), name + HIGH: float(high)}


def metrics_of(table: pd.DataFrame) -> list[str]:
    """Return the columns that are means over all images."""
    bounded = [name for name in table if f"{name}{LOW}" in table]
    return [name for name in bounded if not name.endswith(SUCCESSFUL)]


def overview(table: pd.DataFrame) -> str:
    """Return a text table of means over all images, and of other columns of a condition."""
    bounds = {f"{name}{end}" for name in table for end in (LOW, HIGH, SUCCESSFUL)}
    bounds |= {f"{name}{SUCCESSFUL}{end}" for name in table for end in (LOW, HIGH)}
    left_out = [
        name for name in table if name in bounds or name.endswith(("_net_low", "_net_high"))
    ]
    shown = table.drop(columns=left_out).dropna(axis="columns", how="all")
    return format_table(list(shown), shown.astype(object).to_numpy().tolist())


# Folders of images


def score_folders(
    measures: Measures, folders: Sequence[Path], originals: Path | None, table: Path
) -> None:
    """Write ``table``, a row per image of ``folders``, and ``*_conditions.tsv``, a row per folder.

    Images whose inversion diverged are left out of both, and their number is printed.
    """
    names = [name_of_folder(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise UserError("the folders of --attacked must have different names: they name the rows")
    outputs = (table, table.with_name(f"{table.stem}_conditions{table.suffix}"))
    inputs = [*folders, *measures.weights.values()]
    for folder in folders:
        beside = [originals_folder(folder, untransformed=of) for of in (False, True)]
        inputs += [originals] if originals else [path for path in beside if path.is_dir()]
    described = {**measures.described, "psnr_at_most": MOST_DB}
    stage = Stage(Manifest.of("evaluate_images", described, inputs), outputs)
    if stage.is_up_to_date(measures.options.force):
        print(overview(pd.read_csv(outputs[1], sep="\t")))
        return
    tables, rows = [], []
    for folder in folders:
        condition = folder_condition(folder, originals)
        if condition.diverged:
            n_images = condition.diverged + len(condition.changed)
            print(f"{folder}: {condition.diverged} of {n_images} images diverged and are left out")
        needed = measures.needs_extractor and len(condition.changed) > 0
        features = measures.features_of(condition) if needed else None
        images = measures.table(condition, features)
        tables.append(images.assign(model=condition.name))
        rows.append({"model": condition.name, **summary_row(images, features)})
    joint, means = pd.concat(tables), pd.DataFrame(rows)
    joint = joint[["model", *(name for name in joint if name != "model")]]
    stage.publish_tables(joint, means)
    print(overview(means))
    stage.say_written()


# Attacked experiments of a data set


def score_experiments(
    measures: Measures, layout: Layout, experiments: Sequence[Experiment]
) -> None:
    """Write ``TABLE`` of each experiment, and then ``results/<dataset>/image_quality.tsv``."""
    for experiment in experiments:
        if not layout.attack_report(experiment).is_file():
            raise UserError(
                f"no attacked experiment at {layout.experiment(experiment)}: run "
                "classify_extract_attack.py with the same options first"
            )
    require_same_extractors(layout, experiments)
    for experiment in experiments:
        _score_experiment(measures, layout, experiment)
    scored = [of for of in finished_attacks(layout) if _table_of(layout, of).is_file()]
    inputs = [_table_of(layout, of) for of in scored]
    for of in scored:
        inputs += [layout.classes(of), layout.features(of), layout.features(of.clean)]
    inputs += [layout.summary] if layout.summary.is_file() else []
    described = {"experiments": [of.name for of in scored], "psnr_at_most": MOST_DB}
    manifest = Manifest.of("image_quality", described, inputs)
    table = tabulated(
        layout.result(TABLE),
        manifest,
        lambda: quality_table(layout, scored),
        force=measures.options.force,
    )
    print(overview(table))


def _table_of(layout: Layout, experiment: Experiment) -> Path:
    return layout.experiment(experiment) / TABLE


def _score_experiment(measures: Measures, layout: Layout, experiment: Experiment) -> None:
    table = _table_of(layout, experiment)
    inputs = [layout.attacked_images(experiment), layout.images, layout.attack_report(experiment)]
    if "features" in measures.names:
        inputs += [layout.features(experiment), layout.features(experiment.clean)]
    inputs += measures.weights.values()
    stage = Stage(Manifest.of("evaluate_images", measures.described, inputs), [table])
    if stage.is_up_to_date(measures.options.force):
        return
    condition = experiment_condition(layout, experiment)
    features = None
    if "features" in measures.names:
        features = stored_features(layout, experiment, condition.changed.ids)
    stage.publish_tables(measures.table(condition, features))
    print(f"written: {table}")


def stored_features(layout: Layout, experiment: Experiment, items: np.ndarray) -> Features:
    """Return the features of ``items`` that stages 1 and 3 have stored, without reading images."""
    clean = read_features(layout.features(experiment.clean))
    changed = read_features(layout.features(experiment), len(clean))
    return Features(changed[items], {"": clean[items]})


def quality_table(layout: Layout, experiments: Sequence[Experiment]) -> pd.DataFrame:
    """Return a row for each experiment: effects of the attack on classes, images and lists."""
    changes = read_results(layout.summary, ()) if layout.summary.is_file() else None
    rows = []
    for experiment in experiments:
        table = read_results(_table_of(layout, experiment), ("image",))
        success, loss = attack_outcome(layout, experiment)
        features = None
        if set(FEATURE_METRICS) <= set(table):
            features = stored_features(layout, experiment, table["image"].to_numpy())
        rows.append(
            {
                "extractor": experiment.extractor,
                "attack": experiment.attack_name,
                "success_rate": success,
                "feature_loss": loss,
                **summary_row(table, features),
                **({} if changes is None else chr_changes(changes, experiment)),
            }
        )
    return pd.DataFrame(rows)


_NET = {"_net": "net_effect", "_net_low": "net_low", "_net_high": "net_high"}


def chr_changes(summary: pd.DataFrame, experiment: Experiment) -> dict[str, float]:
    """Return the change of CHR@k under the experiment and its net effect, from the summary table.

    Columns are ``chr@<k>_<recommender>_<protocol>``, also with ``_net``, ``_net_low``, ``_net_high``.
    """
    mine = summary[
        (summary["extractor"] == experiment.extractor)
        & (summary["attack"] == experiment.attack_name)
        & (summary["metric"] == "chr")
    ]
    columns: dict[str, float] = {}
    for row in mine.to_dict("records"):
        name = f"chr@{int(row['k'])}_{row['recommender']}_{row['protocol']}"
        columns[name] = row["change"]
        for ending, column in _NET.items():
            columns[f"{name}{ending}"] = row[column]
    return columns
