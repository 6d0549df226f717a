"""Exports of the summary: to MLflow, to TensorBoard, and as a Parquet file."""

import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd

from src.artifacts.atomic import atomic_output, staging_folder
from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.extractors.optional import optional_library

NUMBERS = (
    *("before", "after", "effect", "low", "high"),
    *("noise_effect", "net_effect", "net_low", "net_high", "p_holm"),
)
"""Columns of the summary that trackers get for each metric and K; those without a value are left out."""
_KEYS = ("extractor", "attack", "recommender", "protocol")
_LIBRARIES = {"mlflow": "mlflow", "tensorboard": "tensorboard.summary", "parquet": "pyarrow"}


def require_libraries(kinds: Collection[str]) -> None:
    """Raise ``UserError`` for an export whose optional library is not installed."""
    for kind in kinds:
        optional_library(_LIBRARIES[kind])


def export_summary(table: pd.DataFrame, layout: Layout, kinds: Collection[str]) -> None:
    """Export the summary of a data set in each of ``kinds`` (of ``EXPORTS``), and print where it is."""
    for kind in dict.fromkeys(kinds):
        print(f"exported to {kind}: {EXPORTS[kind](table, layout)}")


def scalars_of(
    table: pd.DataFrame,
) -> Iterator[tuple[dict[str, str], dict[tuple[str, int], float]]]:
    """Return, for each attacked run, its names and its values by (``ncdcg/net_effect``, K).

    The names are those of extractor, attack, recommender and protocol. K is 0 for metrics without one.
    """
    for key, rows in table.groupby(list(_KEYS), sort=False):
        values = {
            (f"{row['metric']}/{name}", 0 if pd.isna(row["k"]) else int(row["k"])): float(row[name])
            for _, row in rows.iterrows()
            for name in NUMBERS
            if pd.notna(row[name])
        }
        yield dict(zip(_KEYS, key, strict=True)), values


def _to_parquet(table: pd.DataFrame, layout: Layout) -> Path:
    """Write ``summary.parquet`` beside ``summary.tsv``, with the types of its columns."""
    path = layout.result("summary.parquet")
    with atomic_output(path) as temporary:
        table.to_parquet(temporary, engine="pyarrow", index=False)
    return path


def _to_tensorboard(table: pd.DataFrame, layout: Layout) -> Path:
    """Replace the folder of event files, one for each attacked run; K is the step."""
    writer_of = optional_library("tensorboard.summary").Writer
    folder = layout.result("tensorboard")
    with staging_folder(folder) as unfinished:
        for names, values in scalars_of(table):
            writer = writer_of(str(unfinished.joinpath(*names.values())))
            for (tag, k), value in values.items():
                writer.add_scalar(tag, value, step=k)
            writer.close()
        shutil.rmtree(folder, ignore_errors=True)
        return unfinished.rename(folder)


def _to_mlflow(table: pd.DataFrame, layout: Layout) -> str:
    """Log a run for each attacked one to the experiment of the data set; replace runs of equal names.

    The server is that of ``MLFLOW_TRACKING_URI``, or MLflow's default. ``UserError`` if it refuses.
    """
    mlflow = optional_library("mlflow")
    try:
        _log_runs(mlflow, table, layout.dataset)
    except mlflow.exceptions.MlflowException as error:
        raise UserError(f"--export mlflow at {mlflow.get_tracking_uri()}: {error}") from error
    return f"experiment {layout.dataset} at {mlflow.get_tracking_uri()}"


def _log_runs(mlflow: ModuleType, table: pd.DataFrame, dataset: str) -> None:
    experiment = mlflow.set_experiment(dataset)
    client = mlflow.MlflowClient()
    older = {
        run.info.run_name: run.info.run_id
        for run in client.search_runs([experiment.experiment_id], max_results=50_000)
    }
    for names, values in scalars_of(table):
        name = " ".join(names.values())
        if name in older:
            client.delete_run(older[name])
        with mlflow.start_run(run_name=name):
            mlflow.log_params({"dataset": dataset, **names})
            for (metric, k), value in values.items():
                mlflow.log_metric(metric, value, step=k)


EXPORTS: dict[str, Callable[[pd.DataFrame, Layout], object]] = {
    "mlflow": _to_mlflow,
    "tensorboard": _to_tensorboard,
    "parquet": _to_parquet,
}
"""Functions that export a summary and return where it is, by the names of ``summarize.py --export``."""
