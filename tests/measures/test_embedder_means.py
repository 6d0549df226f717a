"""Rows of embedders, and their means over seeds."""

import pandas as pd
import pytest
from scipy import stats

from src.artifacts.errors import UserError
from src.measures.embedder_means import embedder_means, embedders_overview, write_embedder_means
from tests.scripts import run_script

ROWS = pd.DataFrame(
    {"recipe": ["none", "hm", "none", "hm"], "r1": [80.0, 70, 84, 74], "ers": [5.0, 50, 6, 58]}
)


def test_one_seed_leaves_the_rows_as_they_are():
    pd.testing.assert_frame_equal(embedder_means(ROWS[:2]), ROWS[:2])


def test_means_and_intervals_are_those_of_scipy():
    means = embedder_means(ROWS)
    assert means["recipe"].tolist() == ["none", "hm"]
    assert means["ers"].tolist() == [5.5, 54] and means["seeds"].tolist() == [2, 2]
    low, high = stats.t.interval(0.95, 1, 54, stats.sem([50, 58]))
    assert means.loc[1, "ers_low"] == pytest.approx(low)
    assert means.loc[1, "ers_high"] == pytest.approx(high)
    assert f"54.0 ± {(high - low) / 2:.1f}" in embedders_overview(means)


def test_a_recipe_of_a_single_seed_has_no_interval():
    means = embedder_means(ROWS[:3])
    assert means["seeds"].tolist() == [2, 1]
    assert means.loc[1, ["ers_low", "ers_high"]].isna().all()
    assert "± " not in embedders_overview(means).splitlines()[-1]


def test_the_script_writes_them(tmp_path, capsys):
    source, table = tmp_path / "rows.tsv", tmp_path / "new" / "robdml.tsv"
    ROWS.to_csv(source, sep="\t", index=False)
    assert run_script("summarize", "--embedders", source, table) == 0
    assert "none" in capsys.readouterr().out
    written = pd.read_csv(table, sep="\t")
    pd.testing.assert_frame_equal(written, embedder_means(ROWS), check_dtype=False, rtol=1e-5)


def test_what_is_no_table_of_embedders_is_refused(tmp_path):
    with pytest.raises(UserError, match="columns recipe and ers"):
        embedder_means(ROWS.drop(columns="ers"))
    with pytest.raises(UserError, match="missing file"):
        write_embedder_means(tmp_path / "none.tsv", tmp_path / "out.tsv")


def test_a_mean_is_missing_where_one_of_its_trainings_has_no_score():
    means = embedder_means(ROWS.assign(ers=[5.0, 50, None, 58]))
    assert means["ers"].isna().tolist() == [True, False]
    assert means["r1"].tolist() == [82, 72] and means["seeds"].tolist() == [2, 2]
