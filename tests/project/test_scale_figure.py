"""The table of scale measurements grows from run to run, and its figure shows all of them."""

from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scale_figure(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale_figure

    return scale_figure


def measured(seconds):
    return {"wall": 2 * seconds, "cpu": seconds, "peak": 0.5}


def test_a_later_run_replaces_its_own_measurements_alone(scale_figure, tmp_path):
    path = tmp_path / "scale.tsv"
    first = {("1x", "read"): measured(1), ("10x", "read"): measured(11)}
    scale_figure.add_measurements(path, first, "cpu")
    scale_figure.add_measurements(path, {("1x", "read"): measured(9)}, "gpu")
    table = scale_figure.add_measurements(path, {("10x", "read"): measured(12)}, "cpu")
    seconds = {tuple(row[:3]): row.cpu for row in table.itertuples(index=False)}
    assert seconds == {
        ("1x", "read", "cpu"): 1,
        ("1x", "read", "gpu"): 9,
        ("10x", "read", "cpu"): 12,
    }
    pd.testing.assert_frame_equal(pd.read_csv(path, sep="\t"), table, check_dtype=False)


def test_equal_tables_give_equal_figures(scale_figure, tmp_path):
    found = {("1x", "read"): measured(1), ("10x", "ranks"): measured(90)}
    table = scale_figure.add_measurements(tmp_path / "scale.tsv", found, "cpu")
    for name in ("a.svg", "b.svg"):
        scale_figure.draw_growth(table, {"1x": 10, "10x": 100}, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
