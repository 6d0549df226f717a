"""Rows of the leaderboard: what counts as known, bounds, submissions, order and marks."""

import numpy as np
import pandas as pd
import pytest

from src.artifacts.errors import UserError
from src.artifacts.tables import write_table
from src.measures.leaderboard import (
    COLUMNS,
    best_known,
    ranked,
    read_results,
    strongest,
    strongest_objectives,
    submitted_rows,
    with_bounds,
    with_submissions,
)


def attack(after, threat="white_box", objective="rank", indicator="", name="apgd_random2_rank_x"):
    return {
        "threat": threat,
        "objective": objective,
        "before": 0.01,
        "after": after,
        "low": after - 0.02,
        "high": after,
        "indicator": indicator,
        "attack": name,
        "scope": "one",
    }


NOISE = attack(0.015, objective="noise", name="noise_random2_1_eps8.0_linf")


def test_the_attacker_who_knows_is_the_strongest_white_box():
    rows = pd.DataFrame(
        [
            NOISE,
            attack(0.03, objective="score", name="a"),
            attack(0.05, name="b"),
            attack(0.02, "transfer", name="given_random2_rank_y"),
            attack(0.2, "transfer", objective="noise", name="given_random2_1_z"),
        ]
    )
    known = best_known(rows)
    assert known["clean"] == 0.01
    assert known["noise"] == 0.015
    assert known["knows_nothing"] == 0.02
    assert known["knows_defence"] == 0.05
    assert (known["attack"], known["indicator"]) == ("b", "")
    assert (known["low"], known["high"]) == (pytest.approx(0.04), pytest.approx(0.06))


def test_a_defence_that_transfer_beats_is_not_evaluated():
    rows = pd.DataFrame(
        [NOISE, attack(0.03), attack(0.05, "transfer", name="given_random2_rank_y")]
    )
    known = best_known(rows)
    assert known["attack"] == "given_random2_rank_y"
    assert known["knows_defence"] == 0.03
    assert known["indicator"] == "an attack that knows less gains more"


def test_fewer_steps_that_have_not_converged_speak_for_more_steps():
    """The longest run has no longer one beside it, so that only the shorter one carries the sign."""
    short = attack(0.03, indicator="not converged: more steps gain")
    rows = pd.DataFrame([NOISE, short, attack(0.05), attack(0.04, objective="score")])
    assert best_known(rows)["indicator"] == "not converged: more steps gain"


def test_too_few_draws_of_one_objective_speak_for_all():
    few = attack(0.02, indicator="more draws gain; not converged: more steps gain")
    rows = pd.DataFrame([NOISE, few, attack(0.05, objective="score")])
    assert best_known(rows)["indicator"] == "more draws gain"


def test_the_best_image_of_each_item_counts_as_known():
    rows = pd.DataFrame([NOISE, attack(0.05), attack(0.07, "worst", "any", name="b")])
    known = best_known(rows)
    assert (known["knows_defence"], known["attack"], known["indicator"]) == (0.07, "b", "")


def test_an_undefended_entry_has_no_attacker_who_knows_nothing():
    assert np.isnan(best_known(pd.DataFrame([NOISE, attack(0.05)]))["knows_nothing"])


def test_each_eps_has_its_strongest_objective_among_attacks_on_lists_that_know_the_defence():
    rows = [
        attack(0.03) | {"eps": 2.0},
        attack(0.04, objective="score") | {"eps": 2.0},
        attack(0.06, "ranks_only") | {"eps": 8.0},
        attack(0.05, objective="score") | {"eps": 8.0},
        attack(0.09, "worst", "any") | {"eps": 8.0},
        attack(0.09, "transfer", "insa") | {"eps": 8.0},
        attack(0.09, objective="class") | {"eps": 8.0},
        attack(9.0, objective="expa") | {"eps": 8.0, "scope": "all"},
    ]
    assert strongest_objectives(pd.DataFrame(rows)) == {"score", "rank"}
    assert strongest_objectives(pd.DataFrame(rows[2:])) == {"rank"}


def row(entry="plain", *, exposure=0.05, nothing=np.nan, hr=0.4, scope="one", eps=8.0, **other):
    values = dict.fromkeys(COLUMNS, np.nan) | {
        "entry": entry,
        "place": "in front",
        "recommender": "VBPR",
        "hr20": hr,
        "reliance": 0.8,
        "scope": scope,
        "norm": "inf",
        "eps": eps,
        "clean": 0.01,
        "knows_nothing": nothing,
        "knows_defence": exposure,
        "low": exposure - 0.01,
        "high": exposure + 0.01,
        "attack": "apgd_random2_rank_x",
        "bound_method": "",
        "indicator": "",
        "extractor_seeds": 1,
        "suite": "1 small",
    }
    return values | other


def table(*rows):
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def test_order_and_marks():
    shown = ranked(
        table(
            row("undefended", exposure=0.1),
            row("undefended", exposure=0.9, scope="all"),
            row("dear", exposure=0.02, hr=0.39),
            row("blind", exposure=0.015, reliance=0.05),
            row("transfers", exposure=0.01, nothing=0.05, indicator="noise gains more"),
            row("kept", exposure=0.06, hr=0.393, reliance=0.73),
            row("away", exposure=0.07, reliance=0.71),
            row("kept", exposure=0.01, eps=2.0),
        )
    )
    assert list(shown["entry"]) == ["blind", "dear", "transfers", "kept", "away", "undefended"]
    marks = dict(zip(shown["entry"], shown["marks"], strict=True))
    assert marks["dear"] == ["costs more than 2 % of HR@20"]
    assert marks["blind"] == ["hardly looks"]
    assert marks["away"] == ["looks less"]  # more than a tenth of .8
    assert marks["transfers"] == ["not evaluated: noise gains more"]
    assert marks["kept"] == marks["undefended"] == []


def test_results_are_read_as_they_were_written(tmp_path):
    written = table(row(), row(scope="all"))
    write_table(tmp_path / "plain.tsv", written)
    pd.testing.assert_frame_equal(read_results(tmp_path / "plain.tsv"), written, check_dtype=False)
    (tmp_path / "other.tsv").write_text("entry\tplace\nplain\tin front\n")
    with pytest.raises(UserError, match="its columns are not entry place"):
        read_results(tmp_path / "other.tsv")


def test_images_that_do_more_are_recorded_and_stay_until_an_attack_does_as_much():
    recorded = table(row(), row(exposure=2.0, scope="all"))
    judged = pd.DataFrame([attack(0.07, "transfer"), attack(1.5, "transfer") | {"scope": "all"}])
    beaten = submitted_rows(recorded, "mine", judged, 8.0)
    assert beaten["attack"].tolist() == ["submitted:mine", "apgd_random2_rank_x"]
    assert beaten["knows_defence"].tolist() == [0.07, 2.0]
    again = with_submissions(table(row(exposure=0.06), row(exposure=2.0, scope="all")), beaten)
    assert again["attack"].tolist() == ["submitted:mine", "apgd_random2_rank_x"]
    assert strongest(with_submissions(table(row(exposure=0.08)), beaten)).tolist() == [0.08]
    newer = with_submissions(table(row(exposure=0.06, suite="2 small")), beaten)
    assert newer["attack"].tolist() == ["apgd_random2_rank_x"]


def test_images_that_do_no_more_leave_the_rows_alone():
    recorded = table(row(nothing=0.08))
    judged = pd.DataFrame([attack(0.07, "transfer")])
    assert submitted_rows(recorded, "mine", judged, 8.0).equals(recorded)


def proof(path, *rows):
    columns = ["item", "bound", "method", "norm", "eps"]
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)
    return path


def test_bounds_are_means_over_trainings_and_the_items_of_the_suite(tmp_path):
    files = [
        proof(
            tmp_path / f"{training}.tsv",
            *((item, bound, "crown", "inf", 8) for item, bound in ((3, first), (5, 0.3), (9, 0.9))),
        )
        for training, first in enumerate((0.1, 0.2))
    ]
    rows = table(row(), row(scope="all"), row(eps=4.0))
    proven = with_bounds(rows, files, np.array([3, 5]))
    assert proven["bound"].tolist()[0] == pytest.approx((0.1 + 0.2 + 0.3 + 0.3) / 4)
    assert proven["bound"].isna().tolist() == [False, True, True]
    assert proven["bound_method"].tolist() == ["crown", "", ""]
    with pytest.raises(UserError, match="item 4 of the suite is missing"):
        with_bounds(rows, files, np.array([3, 4]))


def test_a_bound_of_another_norm_is_not_shown(tmp_path):
    file = proof(tmp_path / "bounds.tsv", (3, 0.01, "smoothing", "2", 8))
    assert with_bounds(table(row()), [file], np.array([3]))["bound"].isna().all()


def test_a_bound_that_an_attack_exceeds_is_an_error(tmp_path):
    file = proof(tmp_path / "bounds.tsv", (3, 0.04, "crown", "inf", 8))
    with pytest.raises(RuntimeError, match=r"0\.040000 is below 0\.050000"):
        with_bounds(table(row()), [file], np.array([3]))
