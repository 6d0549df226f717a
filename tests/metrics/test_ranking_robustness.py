import numpy as np
import pytest

from src.metrics.ranking_robustness import (
    TERMS,
    collapsed,
    empirical_robustness_score,
    score_interval,
    terms_scored,
)

PUBLISHED = """
CUB none 0.0 100.0 0.0 99.9 .883 1.762 0.0 0.0 14.1 0.0 3.8
CUB EST-8 0.5 97.3 0.5 91.3 .875 1.325 3.9 0.4 14.9 0.0 7.9
CUB ACT-8 13.7 46.8 12.6 39.3 .547 .902 13.6 9.8 21.9 1.3 31.3
CUB HM-8 12.7 46.4 11.6 39.9 .567 .783 16.8 11.9 27.9 1.4 32.4
CUB HM&ICS-8 12.9 40.9 14.7 33.7 .806 .487 17.1 13.2 26.3 2.3 33.5
CUB EST-32 2.7 97.9 0.4 97.3 .848 1.576 1.4 0.0 4.0 0.0 5.3
CUB ACT-32 15.5 37.7 15.1 32.2 .472 .821 11.1 9.4 14.9 1.0 33.9
CUB HM-32 14.7 39.6 15.6 34.2 .523 .736 16.5 15.0 26.7 2.9 35.9
CUB HM&ICS-32 15.5 37.7 16.6 30.9 .753 .506 17.9 16.7 27.3 2.9 36.0
CARS none 0.2 100.0 0.1 99.6 .874 1.816 0.0 0.0 13.4 0.0 3.6
CARS EST-8 0.1 99.9 0.1 98.1 .902 1.681 0.7 0.2 15.4 0.0 4.4
CARS ACT-8 19.3 33.1 20.3 32.3 .413 .760 18.4 15.0 28.6 1.2 39.8
CARS HM-8 15.3 32.0 17.9 33.9 .463 .653 23.4 28.5 44.6 5.8 42.4
CARS HM&ICS-8 21.0 23.3 23.1 22.2 .698 .415 31.2 38.0 47.8 9.6 47.9
CARS EST-32 1.2 98.1 0.4 91.8 .880 1.281 2.9 0.7 8.2 0.0 7.3
CARS ACT-32 18.0 32.3 17.5 30.5 .383 .763 16.3 15.3 20.7 1.6 38.6
CARS HM-32 17.4 28.2 18.2 28.8 .426 .613 27.1 30.7 42.3 7.9 44.9
CARS HM&ICS-32 19.3 25.9 19.6 25.7 .650 .446 30.3 36.7 46.0 8.8 46.0
SOP none 0.1 99.3 0.2 99.1 .845 1.685 0.0 0.0 6.3 0.0 4.0
SOP EST-8 6.4 69.7 3.9 64.6 .611 1.053 3.8 2.2 10.2 1.3 19.0
SOP ACT-8 24.8 10.7 25.4 8.2 .321 .485 15.4 17.7 25.1 11.3 49.5
SOP HM-8 29.9 4.7 31.6 3.6 .455 .283 39.3 40.9 38.8 43.0 61.7
SOP HM&ICS-8 32.5 4.8 32.4 3.5 .586 .239 38.6 39.8 38.3 44.5 61.2
SOP EST-32 12.5 43.6 10.6 34.8 .468 .830 9.6 7.2 17.3 3.8 31.7
SOP ACT-32 24.1 10.5 22.7 9.4 .253 .532 21.2 21.6 27.8 15.3 50.8
SOP HM-32 30.6 4.7 31.2 3.5 .466 .266 38.6 40.3 38.6 44.3 61.8
SOP HM&ICS-32 32.0 4.2 33.7 3.0 .606 .207 39.1 39.8 37.9 45.6 61.6
"""
"""Zhou and Patel, CVPR 2022, ResNet18: data set, defence and PGD steps, the ten terms in the order of
``TERMS``, the ERS as printed."""
ROWS = {" ".join(line.split()[:2]): line.split()[2:] for line in PUBLISHED.split("\n") if line}


def measured(row: list[str]) -> dict[str, float]:
    return dict(zip(TERMS, map(float, row[:-1]), strict=True))


@pytest.mark.parametrize("name", ROWS)
def test_published_scores_follow_from_their_ten_terms(name):
    score = empirical_robustness_score(measured(ROWS[name]))
    assert score == pytest.approx(float(ROWS[name][-1]), abs=0.1)


def test_no_term_makes_up_for_others():
    best = dict(zip(TERMS, [50, 0, 50, 0, 0, 0, 100, 100, 100, 100], strict=True))
    assert set(terms_scored(best).values()) == {100}
    beyond = best | {"tma": -0.4, "ca+": 61, "qa+": 55}
    assert terms_scored(beyond) == terms_scored(best)
    assert terms_scored(best | {"es:d": 2.0 + 1e-6})["es:d"] == 0


def test_the_row_of_cub_by_hand():
    scores = terms_scored(measured(ROWS["CUB HM&ICS-32"]))
    by_hand = [31.0, 62.3, 33.2, 69.1, 24.7, 74.7, 17.9, 16.7, 27.3, 2.9]
    np.testing.assert_allclose(list(scores.values()), by_hand)
    assert empirical_robustness_score(measured(ROWS["CUB HM&ICS-32"])) == pytest.approx(35.98)


def test_the_score_spans_0_to_100():
    lost = dict.fromkeys(TERMS, 0.0) | {"ca-": 100.0, "qa-": 100.0, "tma": 1.0, "es:d": 2.0}
    assert empirical_robustness_score(lost) == 0
    unmoved = dict.fromkeys(TERMS, 100.0) | {"ca+": 50.0, "qa+": 50.0}
    unmoved |= {"ca-": 0.0, "qa-": 0.0, "tma": 0.0, "es:d": 0.0}
    assert empirical_robustness_score(unmoved) == 100


def test_a_missing_term_is_an_error():
    with pytest.raises(KeyError):
        empirical_robustness_score({"ca+": 1.0})


def test_intervals_are_students():
    scipy_stats = pytest.importorskip("scipy.stats")
    scores = np.array([30.0, 31.5, 29.0, 30.5])
    mean, low, high = score_interval(scores)
    expected = scipy_stats.t.interval(0.95, 3, scores.mean(), scipy_stats.sem(scores))
    assert (low, high) == pytest.approx(expected)
    assert mean == pytest.approx(30.25)
    once = score_interval(np.array([30.0]))
    assert once[0] == 30
    assert np.isnan(once[1:]).all()


def test_collapse_is_chance_or_a_point():
    assert collapsed(r1=0.8, chance=1.0, spread=1.0)
    assert collapsed(r1=40.0, chance=1.0, spread=0.02)
    assert not collapsed(r1=40.0, chance=1.0, spread=1.0)
