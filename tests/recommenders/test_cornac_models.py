"""Recommenders of Cornac: their matrices give Cornac's scores; others are refused by name."""

import importlib.util

import numpy as np
import pytest

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.measures.reliance_table import trained_recommenders
from src.recommenders.cornac_models import FOLDED, REFUSED, row_name
from src.recommenders.registry import RECOMMENDERS
from tests.recommenders.test_recommender_contract import data_of
from tests.scripts import run_script
from tests.small_shops import write_data

IS_ABSENT = importlib.util.find_spec("cornac") is None


@pytest.mark.parametrize("name", REFUSED)
def test_recommenders_that_do_not_fold_are_refused_by_name(name):
    with pytest.raises(UserError, match=f"cornac:{name} does not fold to two matrices: its score"):
        row_name(f"cornac:{name}")


def test_unknown_recommenders_name_those_that_are_there():
    with pytest.raises(UserError, match="no cornac:Nobody here: choose from cornac:VBPR"):
        row_name("cornac:Nobody")
    assert row_name("VBPR") == "VBPR"


@pytest.mark.skipif(not IS_ABSENT, reason="cornac is installed")
def test_the_absent_library_is_one_line(tmp_path, capsys):
    words = ("--dataset", "tiny", "--root", tmp_path, "--model", "cornac:VMF")
    assert run_script("rec_generator", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cornac:VMF needs cornac, an optional library" in line
    kind = FOLDED["CornacBPR"]
    with pytest.raises(UserError, match="cornac:BPR needs cornac"):
        kind.fit(data_of(kind), 0)


@pytest.mark.parametrize("name", FOLDED)
def test_scores_are_those_of_cornac_up_to_a_constant_of_each_user(name, monkeypatch):
    pytest.importorskip("cornac")
    from cornac import models

    kind, fitted = FOLDED[name], []
    learner = getattr(models, kind.learner)

    class Kept(learner):
        def fit(self, *arguments):
            fitted.append(self)
            return super().fit(*arguments)

    monkeypatch.setattr(models, kind.learner, Kept)
    data = data_of(kind)
    users, items = kind.fit(data, 1).factors(data.features)
    scores = np.stack([fitted[0].score(user) for user in range(len(users))])
    apart = scores - users @ items.T
    assert np.ptp(apart, axis=1).max() <= 1e-4 * np.ptp(scores, axis=1).min()


def test_both_protocols_and_reliance_take_them(tmp_path):
    pytest.importorskip("cornac")
    layout, data = Layout("tiny", tmp_path), data_of(RECOMMENDERS["VBPR"])
    attacked = "pgd_1_2_eps4.0_eps_it4.0_nb_it10_linf"
    of = {"original": data.features, attacked: data.features + 3}
    write_data(layout, data.interactions.train, data.interactions.test, features=of)
    common = ("--dataset", "tiny", "--root", tmp_path, "--topk", 3, "--model", "cornac:VBPR")
    test_time = ["--experiment_name", attacked, "--load_weights_from", "original"]
    for words in ([], test_time):
        assert run_script("rec_generator", *common, *words) == 0
    lists = {path.name for path in layout.recommendations_dir.glob("*.tsv")}
    assert lists == {
        "original_top3_ep0_CornacVBPR.tsv",
        f"{attacked}_top3_ep0_CornacVBPR_testtime.tsv",
    }
    trained = trained_recommenders(layout, Experiment(), RECOMMENDERS)
    assert [of.run.model for of in trained] == ["Pop", "Random", "CornacVBPR"]
