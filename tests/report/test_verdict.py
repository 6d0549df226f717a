"""Verdict of the report: its sentences say what net effects and verdicts say, and no more."""

import numpy as np
import pytest

from src.report.study import Study
from src.report.verdict import overview, reached, verdict_section
from tests.small_shops import write_promotion


def row(net, *, extractor="original", eps=8.0, objective="rank", threat="white_box", **other):
    """Return a row of the promotion table, clean exposure .01 and noise .002, interval net ± .01."""
    values = {
        "extractor": extractor, "recommender": "VBPR", "threat": threat, "objective": objective,
        "norm": "inf", "eps": eps, "scope": "one", "popularity": "any", "k": 20, "items": 12,
        "before": 0.01, "change": net + 0.002, "after": net + 0.012, "low": net - 0.008,
        "high": net + 0.012, "control": 0.002, "net": net, "net_low": net - 0.01,
        "net_high": net + 0.01, "verdict": "effect", "weakest_level": "1 extractor training",
        "indicator": "", "attack": "apgd_7_rank_eps8.0_linf",
    }  # fmt: skip
    return values | other


@pytest.fixture
def study(tmp_path):
    """Return a function that makes a study of promotion rows."""
    return lambda *rows: Study(write_promotion(tmp_path, rows), 20, (), ())


def said(study):
    return " ".join(verdict_section(study, "verdict", "Verdict").text)


def test_the_verdict_gives_the_strongest_attack_its_interval_and_what_is_not_shown(study):
    text = said(study(row(0.03), row(0.2), row(0.05, eps=4.0)))
    assert "from 1.0 to 21.2" in text
    assert "+20.0 points (+19.0 to +21.0)" in text
    assert "Verdict: effect (1 extractor training)." in text
    assert "whether another extractor training gives the same" in text
    assert "helps" not in text, "there is no defence"


def test_items_that_most_users_have_already_say_little(study):
    text = said(study(row(0.2, before=0.86, after=0.99)))
    assert "a larger catalogue, since 86 % of the users have the item in their list without" in text
    assert "larger catalogue" not in said(study(row(0.2, before=0.4)))


def test_a_defence_helps_where_its_interval_is_below(study):
    defended = row(0.05, extractor="jpeg", verdict="effect")
    text = said(study(row(0.2), defended))
    assert "jpeg helps most: it leaves +5.0 points (+4.0 to +6.0), still an effect" in text
    text = said(study(row(0.2), row(0.0, extractor="jpeg", verdict="equivalent")))
    assert "as good as nothing beyond noise" in text
    assert "what jpeg costs in accuracy" in text, "no lists were measured"


def test_the_network_with_classes_of_the_shop_is_undefended(study):
    found = reached(study(row(0.2, extractor="means"), row(0.3, extractor="means.jpeg-quality75")))
    assert found.headline["extractor"] == "means"
    assert found.defended["extractor"].tolist() == ["means.jpeg-quality75"]
    others = (row(0.3, extractor="act"), row(0.4, extractor="none"))
    found = reached(study(row(0.2, extractor="plain"), *others))
    assert found.headline["extractor"] == "plain"
    assert found.defended["extractor"].tolist() == ["act", "none"]


def test_overlapping_intervals_show_no_help(study):
    text = said(study(row(0.2), row(0.19, extractor="jpeg")))
    assert "No defence is shown to help: with jpeg it is +19.0 points" in text


@pytest.mark.parametrize(
    "other",
    [
        {"indicator": "not converged", "verdict": "not evaluated"},
        {"threat": "unaware"},
        {"objective": "demote-rank"},
        {"popularity": "cold"},
    ],
)
def test_attacks_that_failed_or_are_of_another_kind_are_no_headline(study, other):
    found = reached(study(row(0.03), row(0.5, **other)))
    assert found.headline["net"] == pytest.approx(3)


def test_a_defence_that_met_fewer_attacks_is_named(study):
    text = said(study(row(0.2), row(0.1), row(0.05, extractor="jpeg")))
    assert "whether jpeg would withstand all attacks that original met" in text
    text = said(study(row(0.2), row(0.05, extractor="jpeg")))
    assert "withstand" not in text


def test_defences_compare_within_the_budget_of_the_headline(study):
    found = reached(study(row(0.2), row(0.01, extractor="jpeg", eps=2.0)))
    assert found.defended.empty


def test_an_attack_on_many_items_precedes_a_larger_effect_on_few(study):
    found = reached(study(row(0.2), row(0.3, items=2)))
    assert found.headline["net"] == pytest.approx(20)


def test_without_noise_there_is_no_verdict(study):
    assert "there is no verdict" in said(study(row(np.nan)))


def test_the_terminal_shows_the_sentences_and_the_eight_strongest(study):
    rows = [row(0.2 - at / 100, extractor=f"e{at}") for at in range(11)]
    text = overview(study(*rows))
    lines = text.split("\n\n")[1].splitlines()
    assert len(lines) == 2 + 8, "a header, a rule, and rows"
    assert [line.split()[0] for line in lines[2:]] == [f"e{at}" for at in range(8)]
    assert "20.0" in lines[2] and lines[2].endswith("effect (1 extractor training)")
    assert "Verdict: effect" in " ".join(text.split())
