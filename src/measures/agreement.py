"""Agreement of image metrics with people: a row for each metric, from a table of people's answers."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from src.artifacts.columns import read_results
from src.artifacts.errors import UserError
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.cli import add_force_option, add_seed_option
from src.measures.terminal import format_table
from src.metrics.agreement import RESAMPLES, Agreement, agreement
from src.metrics.image_quality import IMAGE_METRICS

HIGHER_IS_CLOSER = {
    **{name: metric.higher_is_closer for name, metric in IMAGE_METRICS.items()},
    **dict.fromkeys(("feature_l2", "feature_mse", "feature_cosine", "s_fid"), False),
    **dict.fromkeys(("lpips", "dreamsim", "semsim"), False),
}
"""True for metrics that are larger for closer images, by their columns."""
DEFAULT_METRICS = ("mse", "psnr", "ssim", "lpips", "dreamsim", "semsim")
MEASURED = "_measured"
"""Ending of a metric of ``--scores`` whose name stands in the table of answers already."""
MEASURES = ("spearman", "kendall", "pearson", "auc", "auc_within")
MOST_DB = 100.0
"""Largest PSNR in means; that of equal images is infinite."""
_ENDINGS = (MEASURED, "_untransformed")
_KEY = ["model", "image"]
_IMAGE_COLUMNS = ("image", "id", "item")
_FEW_MODELS = 10

Target = Literal["rate", "majority"]


def add_agreement_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        help="CSV of people's answers, gzipped or not: model,image,label,human0,human1,... (-1: not "
        "recognised), and metrics as further columns",
    )
    parser.add_argument("--out", type=Path, required=True, help="TSV to write, a row per metric")
    parser.add_argument(
        "--metrics",
        nargs="+",
        help="columns, known by name or as NAME:higher or NAME:lower, the direction that is closer "
        "to the original (default: those of mse psnr ssim lpips dreamsim semsim that exist)",
    )
    parser.add_argument(
        "--scores",
        nargs="+",
        type=Path,
        default=[],
        help="TSVs of audits.images score, joined by model and image; without a column model, "
        "the folder's name is the model",
    )
    parser.add_argument(
        "--target",
        choices=("rate", "majority"),
        default="rate",
        help="models are compared with the mean share of people who are right, or with the share of "
        "images that more than half of them recognise",
    )
    parser.add_argument(
        "--resamples", type=int, default=RESAMPLES, help="resamples of the bootstrap"
    )
    add_seed_option(parser, "of the bootstrap")
    add_force_option(parser)


def run_agreement(options: argparse.Namespace) -> None:
    """Write the table of agreement and show it."""
    if options.resamples < 1:
        raise UserError("--resamples must be above 0")
    recorded = {name: getattr(options, name) for name in ("metrics", "target", "resamples", "seed")}
    manifest = Manifest.of("agreement", recorded, [options.labels, *options.scores])
    stage = Stage(manifest, [options.out])
    if stage.is_up_to_date(options.force):
        print(agreement_overview(pd.read_csv(options.out, sep="\t")))
        return
    answers = read_answers(options.labels)
    joined = join_scores(answers, options.scores)
    metrics = chosen_metrics(joined, options.metrics)
    table = agreement_table(
        joined, metrics, target=options.target, resamples=options.resamples, seed=options.seed
    )
    stage.publish_tables(table)
    if left_out := answers["image"].nunique() - int(table["n_images"].iloc[0]):
        print(
            f"note: {left_out} images are left out: some model has no reconstruction of them, or no "
            "scores"
        )
    print(agreement_overview(table))
    stage.say_written()


def read_answers(path: Path) -> pd.DataFrame:
    """Read a row for each reconstruction, with the share of correct answers as ``recognised``.

    An answer is a class, which is correct if it equals ``label``; an empty field is no answer. Raises
    ``UserError`` for a file without the columns, or with a reconstruction that is listed twice, has no
    ``label`` or no answer.
    """
    table = read_results(path, (), sep=",")
    people = [name for name in table if re.fullmatch(r"human\d+", name)]
    missing = [name for name in (*_KEY, "label") if name not in table]
    if missing or not people:
        raise UserError(f"{path} lacks the column {(missing or ['human0'])[0]}")
    answers = table[people]
    for name in (*people, "label"):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"{path}: column {name} holds something that is not a class's number")
    if (unknown := table["label"].isna()).any():
        raise UserError(f"{path}, line {int(np.argmax(unknown)) + 2}: the label is missing")
    right = answers.eq(table["label"], axis=0).where(answers.notna())
    table["recognised"] = right.astype(np.float64).mean(axis=1)
    if (unseen := table["recognised"].isna()).any():
        raise UserError(f"{path}, line {int(np.argmax(unseen)) + 2}: nobody has answered")
    return _keyed(table, path)


def join_scores(answers: pd.DataFrame, scores: Sequence[Path]) -> pd.DataFrame:
    """Return ``answers`` with the columns of ``scores`` added, by model and image.

    A column that exists in both gets the ending ``MEASURED``. Reconstructions without scores, such as
    diverged ones, are left out. Raises ``UserError`` for a file without image numbers, and for a model
    of ``answers`` without any scores.
    """
    if not scores:
        return answers
    measured = pd.concat([_read_scores(path) for path in scores])
    measured = _keyed(measured, scores[0])
    joined = answers.merge(
        measured, on=_KEY, how="left", suffixes=("", MEASURED), indicator="found", validate="1:1"
    )
    scored = joined[joined["found"] == "both"].drop(columns="found")
    if lacking := sorted(set(answers["model"]) - set(scored["model"])):
        raise UserError(f"--scores: there are none of {lacking[0]}")
    return scored


def _read_scores(path: Path) -> pd.DataFrame:
    table = read_results(path, ())
    image = next((name for name in _IMAGE_COLUMNS if name in table), None)
    if image is None:
        raise UserError(f"{path} lacks the column image")
    if "restart" in table:  # an inversion marks a missing reconstruction by -1
        table = table[table["restart"] != -1]
    table = table.rename(columns={image: "image"}).drop(columns="label", errors="ignore")
    return table if "model" in table else table.assign(model=path.resolve().parent.name)


def _keyed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return ``table``, models as text; ``UserError`` if two rows have the same model and image."""
    if not pd.api.types.is_integer_dtype(table["image"]):
        raise UserError(f"{path}: column image holds something that is not a whole number")
    table = table.astype({"model": str})
    if (repeated := table.duplicated(_KEY)).any():
        model, image = table.loc[repeated, _KEY].iloc[0]
        raise UserError(f"{path}: image {image} of {model} appears twice")
    return table


def chosen_metrics(table: pd.DataFrame, names: Sequence[str] | None) -> dict[str, bool]:
    """Return by column whether higher is closer; ``names`` None takes the known default metrics.

    Raises ``UserError`` for a column that is missing or holds no numbers, and for an unknown orientation.
    """
    if names is None:
        ends = ("", *_ENDINGS)
        names = [
            f"{name}{end}" for name in DEFAULT_METRICS for end in ends if f"{name}{end}" in table
        ]
        if not names:
            raise UserError(f"none of {', '.join(DEFAULT_METRICS)} is there: say --metrics")
    chosen = dict(map(_oriented, names))
    for name in chosen:
        if name not in table:
            raise UserError(f"there is no column {name}")
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"column {name} holds something that is not a number")
        if (wrong := ~np.isfinite(capped(name, table[name].to_numpy(np.float64)))).any():
            model, image = table.loc[wrong, _KEY].iloc[0]
            raise UserError(f"{name} of image {image} of {model} is no finite number")
    return chosen


def _oriented(name: str) -> tuple[str, bool]:
    """Parse ``psnr``, ``psnr_measured`` or ``mine:lower`` to (column, whether higher is closer)."""
    column, colon, orientation = name.partition(":")
    if colon:
        if orientation not in ("higher", "lower"):
            raise UserError(f"{name}: say {column}:higher or {column}:lower")
        return column, orientation == "higher"
    known = _metric_of(column)
    if known not in HIGHER_IS_CLOSER:
        raise UserError(f"which way is {column} oriented? say {column}:higher or {column}:lower")
    return column, HIGHER_IS_CLOSER[known]


def _metric_of(column: str) -> str:
    """Return ``psnr`` for ``psnr_untransformed_measured``."""
    for ending in _ENDINGS:
        column = column.removesuffix(ending)
    return column


def capped(column: str, values: np.ndarray) -> np.ndarray:
    """Return ``values`` (n,) of a metric, with PSNR at most ``MOST_DB``, so that means exist."""
    return np.minimum(values, MOST_DB) if _metric_of(column) == "psnr" else values


def agreement_table(
    answers: pd.DataFrame,
    metrics: Mapping[str, bool],
    *,
    target: Target = "rate",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row for each metric: ``MEASURES`` with ``_low`` and ``_high`` (95 %), and counts.

    Further columns are closer, n_models and n_images. ``answers`` are those of ``read_answers``; images
    that some model lacks are left out. PSNR is ``capped``.
    """
    shares = _crossed(answers, "recognised")
    human = shares if target == "rate" else (shares > 0.5).astype(np.float64)
    rows = []
    for name, higher in metrics.items():
        scores = capped(name, _crossed(answers, name))
        found = agreement(scores, human, higher_is_closer=higher, resamples=resamples, seed=seed)
        rows.append(
            {"metric": name, **_estimates(found), "closer": "higher" if higher else "lower"}
        )
    n_models, n_images = shares.shape
    return pd.DataFrame(rows).assign(n_models=n_models, n_images=n_images)


def _crossed(answers: pd.DataFrame, column: str) -> np.ndarray:
    """Return (models, images) float64 of the images that all models have; ``UserError`` if none."""
    values = answers.pivot(index="model", columns="image", values=column).dropna(axis=1)
    if values.empty:
        raise UserError("there is no image of which every model has a reconstruction")
    return values.to_numpy(np.float64)


def _estimates(found: Agreement) -> dict[str, float]:
    """Return the columns of ``MEASURES``."""
    columns: dict[str, float] = {}
    for name in MEASURES:
        columns |= getattr(found, name).columns(name)
    return columns


def agreement_overview(table: pd.DataFrame) -> str:
    """Return a text table of values with their intervals, and of the numbers of models and images."""
    header = ["metric", *(f"{name} (95 %)" for name in MEASURES)]
    rows = [
        [row["metric"], *(_with_interval(row, name) for name in MEASURES)]
        for row in table.to_dict("records")
    ]
    n_models, n_images = (int(table[name].iloc[0]) for name in ("n_models", "n_images"))
    note = (
        f"{n_models} models, {n_images} images of each; above 0, or .5 of an AUC: as people see it"
    )
    if n_models < _FEW_MODELS:
        note += (
            f"\n{n_models} models are few: how they are ranked is hardly known (see the intervals)"
        )
    return f"{format_table(header, rows)}\n{note}"


def _with_interval(row: Mapping[str, float], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
