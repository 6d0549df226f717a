"""Comparison of recipes over seeds: means, intervals and differences by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.artifacts.errors import UserError
from src.artifacts.tables import write_tables
from src.measures.robust_accuracy import COLUMNS
from src.measures.robust_recipes import compared_recipes, comparison_overview, write_comparison
from tests.scripts import run_script

ACCURACY = {"plain": (80.0, 82.0, 84.0), "arp": (70.0, 75.0, 71.0)}


def table() -> pd.DataFrame:
    rows = [
        {"recipe": recipe, "attack": attack, "seed": seed, "n": 10, "accuracy": value - lost}
        for recipe, values in ACCURACY.items()
        for seed, value in enumerate(values)
        for attack, lost in (("clean", 0.0), ("pgd20", 30.0))
    ]
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def test_means_and_differences_are_those_of_scipy():
    compared = compared_recipes(table(), "plain").set_index(["recipe", "attack"])
    for recipe, values in ACCURACY.items():
        row = compared.loc[recipe, "clean"]
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        assert row["seeds"] == 3 and row["accuracy"] == pytest.approx(np.mean(values))
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    change = compared.loc["arp", "pgd20"]
    expected = stats.ttest_rel(ACCURACY["arp"], ACCURACY["plain"]).confidence_interval()
    assert change["change"] == pytest.approx(np.mean(ACCURACY["arp"]) - 82)
    assert (change["change_low"], change["change_high"]) == pytest.approx(tuple(expected))
    assert compared.loc["plain", "clean"]["change"] == 0


def test_a_single_seed_has_no_interval():
    compared = compared_recipes(table().query("seed == 1"))
    assert compared["low"].isna().all() and "change" not in compared
    assert "75.0" in comparison_overview(compared) and "±" not in comparison_overview(compared)


def test_differences_are_taken_over_the_seeds_that_both_have():
    compared = compared_recipes(table().drop(index=0), "plain").set_index(["recipe", "attack"])
    assert compared.loc["arp", "clean"]["change"] == pytest.approx(np.mean([75 - 82, 71 - 84]))


def test_the_script_writes_the_comparison(tmp_path, capsys):
    source = tmp_path / "arp.tsv"
    write_tables({source: table()})
    assert run_script("summarize", "--robust_accuracy", source, "--baseline", "plain") == 0
    assert "82.0 ± 5.0" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "arp_summary.tsv", sep="\t")
    assert list(written["recipe"].unique()) == ["plain", "arp"] and len(written) == 4


def test_wrong_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no recipe madry"):
        compared_recipes(table(), "madry")
    with pytest.raises(UserError, match="missing file"):
        write_comparison(tmp_path / "none.tsv")
