"""The summary in MLflow, in TensorBoard and as a Parquet file."""

import sys

import numpy as np
import pandas as pd
import pytest

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.measures.exports import NUMBERS, export_summary, require_libraries, scalars_of
from tests.scripts import run_script


@pytest.fixture
def table():
    """Two attacked runs, the first with two K and a metric without K."""
    rows = pd.DataFrame(
        {
            "extractor": ["undefended"] * 3 + ["madry"],
            "attack": ["pgd_1_0", "pgd_1_0", "pgd_1_0", "fgsm_1_0"],
            "recommender": ["VBPR"] * 4,
            "protocol": ["test_time"] * 4,
            "metric": ["chr", "chr", "auc", "chr"],
            "k": pd.array([20, 50, None, 20], dtype="Int64"),
            **{name: np.arange(4.0) + number for number, name in enumerate(NUMBERS)},
        }
    )
    rows.loc[1, "net_effect"] = np.nan
    return rows


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Layout("toy", tmp_path)


def test_trackers_get_the_numbers_that_there_are(table):
    (names, values), (other, of_other) = scalars_of(table)
    assert list(names.values()) == ["undefended", "pgd_1_0", "VBPR", "test_time"]
    assert (other["extractor"], len(of_other)) == ("madry", len(NUMBERS))
    assert values["chr/before", 20] == 0 and values["chr/before", 50] == 1
    assert values["auc/before", 0] == 2
    assert ("chr/net_effect", 50) not in values and len(values) == 3 * len(NUMBERS) - 1


def test_parquet_keeps_the_table(table, layout, capsys):
    pytest.importorskip("pyarrow")
    export_summary(table, layout, ["parquet", "parquet"])
    path = layout.results / "summary.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    assert capsys.readouterr().out == f"exported to parquet: {path}\n"


def test_tensorboard_has_a_curve_over_k_and_no_older_runs(table, layout):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export_summary(table, layout, ["tensorboard"])
    export_summary(table[:3], layout, ["tensorboard"])
    folder = layout.results / "tensorboard"
    assert [path.name for path in folder.iterdir()] == ["undefended"]
    events = EventAccumulator(str(folder / "undefended" / "pgd_1_0" / "VBPR" / "test_time"))
    events.Reload()
    found = [(event.step, tensor(event)) for event in events.Tensors("chr/after")]
    assert found == [(20, 1.0), (50, 2.0)]


def tensor(event):
    from tensorboard.util.tensor_util import make_ndarray

    return float(make_ndarray(event.tensor_proto))


def test_mlflow_has_a_run_for_each_attacked_one_once(table, layout, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((layout.root / "tracked").as_uri())
    for _ in range(2):
        export_summary(table, layout, ["mlflow"])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = {run.data.params["extractor"]: run for run in client.search_runs([experiment])}
    assert len(client.search_runs([experiment])) == len(runs) == 2
    assert runs["madry"].data.metrics["chr/before"] == 3
    history = client.get_metric_history(runs["undefended"].info.run_id, "chr/after")
    assert {(point.step, point.value) for point in history} == {(20, 1.0), (50, 2.0)}
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    mlflow.set_tracking_uri((layout.root / "other").as_uri())
    with pytest.raises(UserError, match="--export mlflow at file:"):
        export_summary(table, layout, ["mlflow"])


def test_a_missing_library_is_one_line_before_anything_is_read(layout, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"this needs pyarrow.* -r requirements-extras\.txt"):
        require_libraries(["parquet"])
    layout.data.mkdir(parents=True)
    assert run_script("summarize", "--dataset", "toy", "--export", "parquet") == 2
    error = capsys.readouterr().err
    assert "this needs pyarrow" in error and error.count("\n") == 1
