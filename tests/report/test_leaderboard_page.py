"""The page of the leaderboard, from rows that are given."""

import re

import numpy as np
import pandas as pd
import pytest

from src.artifacts.tables import write_table
from src.measures.leaderboard import COLUMNS
from src.report.leaderboard import write_page


def results(folder, entry, exposure, hr, **other):
    values = dict.fromkeys(COLUMNS, np.nan) | {
        "entry": entry,
        "place": "in front",
        "recommender": "VBPR_lr0.05",
        "hr20": hr,
        "hr20_low": hr - 0.02,
        "hr20_high": hr + 0.02,
        "reliance": 0.8,
        "scope": "one",
        "norm": "inf",
        "eps": 8.0,
        "clean": 0.01,
        "noise": 0.011,
        "knows_defence": exposure,
        "low": exposure - 0.01,
        "high": exposure + 0.01,
        "attack": "apgd_random40_rank_eps8.0_nb_iter30_linf_VBPR-ep100",
        "extractor_seeds": 2,
        "suite": "1 small",
    }
    folder.mkdir(exist_ok=True)
    write_table(folder / f"{entry}.tsv", pd.DataFrame([values | other]))


def test_page_has_a_table_in_order_and_a_plot(tmp_path):
    folder = tmp_path / "shop"
    results(folder, "undefended", 0.11, 0.4)
    results(folder, "jpeg50", 0.06, 0.4, knows_nothing=0.02, bound=0.25, bound_method="crown")
    results(folder, "madry", 0.02, 0.3, attack="submitted:mine")
    page, plot = write_page(tmp_path / "leaderboard.md", {"shop": sorted(folder.iterdir())})
    text = page.read_text()
    rows = re.findall(r"^\| (\w+) \| in front \|.*", text, re.MULTILINE)
    assert rows == ["madry", "jpeg50", "undefended"]
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "0.400 (0.380 to 0.420)" in lines["jpeg50"]
    assert "| 2.00 | 6.00 | 25.00 (crown) | rank by apgd, 5.00 to 7.00 |" in lines["jpeg50"]
    assert "mine (submitted)" in lines["madry"]
    assert "costs more than 2 % of HR@20" in lines["madry"]
    assert "from 1.00 % to 11.00 % of the users" in text
    assert "None holds; the nearest is jpeg50, which leaves 50 %." in text
    assert plot.name == "leaderboard_shop-1-small.svg" and f"]({plot.name})" in text
    assert plot.read_bytes().startswith(b"<?xml")


def test_the_undefended_entry_alone_is_no_verdict_on_defences(tmp_path):
    results(tmp_path / "shop", "undefended", 0.11, 0.4)
    page, _ = write_page(tmp_path / "page.md", {"shop": [tmp_path / "shop" / "undefended.tsv"]})
    assert "No defence was evaluated." in page.read_text()


@pytest.mark.parametrize(
    ("defence", "said"),
    [
        ({"extractor_seeds": 3}, "apart. jpeg50 holds: it leaves 20 %.\n"),
        ({"extractor_seeds": 2}, "None holds; the nearest is jpeg50, which leaves 20 %.\n"),
        ({"extractor_seeds": 3, "high": 0.11}, "None holds; the nearest is jpeg50"),
        ({"extractor_seeds": 3, "hr20": 0.39}, "None holds: each has a mark.\n"),
        (
            {"extractor_seeds": 3, "reliance": 0.6},
            "None holds: each has a mark. jpeg50 leaves 20 %, but looks at images less: reliance 0.60 "
            "instead of 0.80.\n",
        ),
        ({"reliance": 0.6, "indicator": "noise gains more"}, "None holds: each has a mark.\n"),
    ],
)
def test_page_says_which_defence_holds(tmp_path, defence, said):
    folder = tmp_path / "shop"
    results(folder, "undefended", 0.11, 0.4)
    results(folder, "jpeg50", 0.03, 0.4, **defence)
    page, _ = write_page(tmp_path / "leaderboard.md", {"shop": sorted(folder.iterdir())})
    assert said in page.read_text()


def test_page_names_every_defence_that_holds_and_every_one_that_looks_away(tmp_path):
    folder = tmp_path / "shop"
    results(folder, "undefended", 0.11, 0.4, extractor_seeds=3)
    for entry, exposure, reliance in (
        ("trades", 0.04, 0.75),
        ("madry", 0.03, 0.8),
        ("fare", 0.06, 0.8),
        ("amr", 0.02, 0.05),
        ("rank_amr", 0.025, 0.65),
        ("unit", 0.07, 0.6),
    ):
        results(folder, entry, exposure, 0.4, reliance=reliance, extractor_seeds=3)
    page, _ = write_page(tmp_path / "leaderboard.md", {"shop": sorted(folder.iterdir())})
    text = page.read_text()
    assert "apart. madry, trades and fare hold: they leave 20, 30 and 50 %." in text
    assert (
        " amr and rank_amr leave 10 and 15 %, but look at images less: reliance 0.05 and 0.65 instead "
        "of 0.80.\n"
    ) in text
    marks = dict(re.findall(r"^\| (\w+) \| in front .* \| ([^|]*) \|$", text, re.MULTILINE))
    assert marks == dict.fromkeys(("undefended", "trades", "madry", "fare"), "") | {
        "amr": "hardly looks",
        "rank_amr": "looks less",
        "unit": "looks less",
    }


@pytest.mark.parametrize(
    ("hr", "mark"),
    [
        (0.395, "keeps the deployed recommender valid: HR 0.400 before, 0.395 after"),
        (0.39, "costs more than 2 % of HR@20"),
    ],
)
def test_page_says_which_defence_keeps_the_deployed_recommender(tmp_path, hr, mark):
    folder = tmp_path / "shop"
    results(folder, "undefended", 0.11, 0.4)
    results(folder, "fare", 0.03, hr, recommender="VBPR_lr0.05_of-original", extractor_seeds=3)
    page, _ = write_page(tmp_path / "leaderboard.md", {"shop": sorted(folder.iterdir())})
    (row,) = re.findall(r"^\| fare .* \| ([^|]*) \|$", page.read_text(), re.MULTILINE)
    assert row == mark
    assert ("fare holds" in page.read_text()) == (hr == 0.395)


def test_rows_of_different_suites_are_in_tables_of_their_own(tmp_path):
    folder = tmp_path / "shop"
    results(folder, "undefended", 0.11, 0.4)
    results(folder, "amr", 0.02, 0.4, suite="2 small")
    page, *plots = write_page(tmp_path / "leaderboard.md", {"shop": sorted(folder.iterdir())})
    headings = re.findall(r"^## (shop.*)", page.read_text(), re.MULTILINE)
    assert headings == ["shop, suite 1 small", "shop, suite 2 small"]
    assert len(plots) == 2
