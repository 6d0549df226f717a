"""The report's section on how far attacks push items: what stands in it is what the table says."""

import numpy as np
import pytest

from src.artifacts.layout import Layout
from src.report.promotion import promotion_section
from tests.small_shops import write_promotion


def row(
    objective, eps, after, *, threat="white_box", scope="one", indicator="", recommender="VBPR"
):
    attack = "noise" if objective == "noise" else "apgd"
    values = {
        "extractor": "original",
        "recommender": recommender,
        "threat": threat,
        "objective": objective,
        "norm": "inf",
        "eps": eps,
        "scope": scope,
        "popularity": "any",
        "k": 20,
        "items": 12,
        "before": 0.01,
        "after": after,
        "change": after - 0.01,
        "low": after - 0.02,
        "high": after,
        "control": 0.002,
        "net": after - 0.012,
        "net_low": after - 0.022,
        "net_high": after - 0.002,
        "restored": (after - 0.01) / 2,
        "reliance": 0.9 if recommender == "VBPR" else 0.06,
        "verdict": "effect",
        "indicator": indicator,
        "attack": f"{attack}_7_any_eps{eps:.1f}_linf",
    }
    if objective == "noise":
        values |= dict.fromkeys(("control", "net", "net_low", "net_high"), np.nan) | {"verdict": ""}
    return values


@pytest.fixture
def section(tmp_path):
    rows = [
        row("noise", 4.0, 0.011),
        row("noise", 8.0, 0.012),
        row("rank", 4.0, 0.15),
        row("rank", 8.0, 0.28),
        row("rank", 8.0, 0.31, indicator="not converged: more steps gain"),
        row("class", 8.0, 0.035),
        row("class", 4.0, 0.02),
        row("demote-rank", 8.0, 0.004),
        row("rank", 8.0, 0.05, threat="transfer"),
        row("rank", 8.0, 13.4, scope="all"),
        row("rank", 8.0, 1.5, scope="all", threat="retrained"),
        row("score", 8.0, 0.012, indicator="noise gains more", recommender="AMR"),
    ]
    return section_of(rows, tmp_path)


def section_of(rows, root):
    return promotion_section(write_promotion(root, rows), "promotion", "Promotion")


def test_a_defended_extractor_has_a_line_by_what_the_attacker_knows(tmp_path):
    rows = [
        row("rank", 8.0, 0.28),
        *(
            row("rank", 8.0, after, threat=threat) | {"extractor": "jpeg-quality50"}
            for after, threat in ((0.09, "white_box"), (0.03, "unaware"))
        ),
    ]
    (table,) = [of for of in section_of(rows, tmp_path).blocks if of.kind == "table"][1:]
    line = dict(table.shown.iloc[0])
    assert line["extractor"] == "jpeg-quality50" and line["budget"] == "L∞ 8"
    assert (line["knows nothing"], line["knows the defence"]) == ("3.0 %", "9.0 %")
    assert line["noise"] == "1.2 %"


def test_intervals_of_exposure_end_at_all_users(tmp_path):
    table = section_of([row("rank", 8.0, 0.997)], tmp_path).blocks[1]
    assert table.shown["after"].tolist() == ["99.7 %\n(98.7, 100.0)"]


def test_it_begins_with_the_sentence_of_the_strongest_attack(section):
    assert section.text[0] == (
        "The strongest attack (rank, 8/255 in L-inf) on VBPR with the extractor original shows an item "
        "in the top 20 of 31.0% of the users who may be shown it, instead of 1.0%; noise of the same "
        "size reaches 1.2%. This is a lower bound (not converged: more steps gain)."
    )
    assert section.notes == [
        "AMR with original hardly looks at images: permuted features cost 6% of its hits"
    ]


def test_the_table_has_the_strongest_attack_of_each_aim_within_the_largest_budget(section):
    table = section.blocks[1]
    lines = table.shown.set_index(["recommender", "attacker knows", "aim"])
    assert lines.index.tolist() == [
        ("VBPR", "white box", "rank, L∞ 8"),
        ("VBPR", "other extractor", "rank, L∞ 8"),
        ("VBPR", "white box", "class, L∞ 8"),
        ("VBPR", "white box", "demote-rank, L∞ 8"),
        ("AMR", "white box", "score, L∞ 8"),
        ("VBPR", "white box (retrained)", "rank, L∞ 8"),
    ]
    rank = lines.iloc[0]
    assert rank["after"] == "28.0 %\n(27.0, 29.0)" and rank["noise"] == "1.2 %"
    assert rank["net"] == "+26.8 %\n(+25.8, +27.8)" and rank["restored"] == "14.5 %"
    assert lines.iloc[5]["after"] == "1.50\n(1.49, 1.51)"
    amr = lines.iloc[4]
    assert amr["after"] == "not evaluated" and amr["net"] == "–"
    assert amr["verdict"] == "noise gains more"
    assert len(table.data) == 12


def test_bars_are_what_each_attacker_reaches_within_the_largest_budget(tmp_path):
    rows = [
        row("noise", 8.0, 0.012),
        row("class", 8.0, 0.035),
        row("rank", 4.0, 0.6),
        row("rank", 8.0, 0.28),
        row("score", 8.0, 0.24),
        row("rank", 8.0, 0.27, threat="other_seed"),
        row("rank", 8.0, 0.31, indicator="not converged: more steps gain"),
        row("demote-rank", 8.0, 0.9),
        row("rank", 8.0, 13.4, scope="all"),
        row("rank", 8.0, 0.2, recommender="AMR"),
        *(
            row("rank", 8.0, after, threat=threat) | {"extractor": "jpeg-quality50"}
            for after, threat in ((0.09, "white_box"), (0.03, "unaware"))
        ),
    ]
    rows[3] |= {"control_low": 0.001, "control_high": 0.003}
    plot = section_of(rows, tmp_path).blocks[0]
    assert plot.title == "Users who are shown an attacked item, within 8/255: original, VBPR"
    assert plot.alt.endswith(
        "knowledge: rank, white box 28.0; rank, white box, jpeg-quality50 9.0; class, white box 3.5; "
        "rank, not the defence, jpeg-quality50 3.0; noise 1.2; clean 1.0."
    )


def test_the_clean_level_of_bars_is_that_of_the_largest_change(tmp_path):
    often = {"extractor": "plain", "before": 0.5, "change": 0.1, "low": 0.09, "high": 0.11}
    rows = [row("rank", 8.0, 0.28), row("rank", 8.0, 0.6) | often]
    rows[0] |= {"control_low": 0.001, "control_high": 0.003}
    plot = section_of(rows, tmp_path).blocks[0]
    assert plot.alt.endswith(
        "rank, white box, plain 60.0; rank, white box 28.0; noise 1.2; clean 1.0."
    )


def test_the_plot_shows_evaluated_attacks_noise_and_the_clean_level(section):
    plot = section.blocks[2]
    assert plot.title == "Exposure of an attacked item against ε: original, VBPR"
    for said in ("rank 15.00, 28.00", "class 2.00, 3.50", "noise 1.10, 1.20", "clean 1.00."):
        assert said in plot.alt
    assert plot.light["svg"].startswith(b"<?xml")


def test_without_the_table_it_names_the_command(tmp_path):
    missing = promotion_section(Layout("shop", tmp_path), "promotion", "Promotion").missing
    assert missing == "python -m audits.promotion --dataset shop"
