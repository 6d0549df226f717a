"""Attacked features at their clean length, scored by weights of a training."""

import sys

import numpy as np
import pytest

from src.artifacts.classes import Classes, write_attacked_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.tables import write_pairs
from src.datasets.interactions import load_interactions
from src.measures.norm_restored import Restored, at_clean_length, can_restore, displaced
from src.measures.summary import input_files
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.models import Model
from src.recommenders.ranking import top_k
from src.recommenders.weights import feature_scale, initial_weights, write_weights

N_USERS, N_ITEMS, N_FEATURES, TOP = 10, 12, 5, 4
ATTACKED = np.array([1, 4, 7])
RUN = Run(Experiment.parse("pgd_7_9_eps8.0"), "VBPR", 3, TOP, protocol="test_time")


@pytest.fixture
def layout(tmp_path):
    layout, rng = Layout("toy", tmp_path), np.random.default_rng(0)
    layout.experiment(RUN.experiment).mkdir(parents=True)
    layout.experiment(RUN.experiment.clean).mkdir()
    features = rng.random((N_ITEMS, N_FEATURES)).astype(np.float32)
    write_features(layout.features(RUN.experiment.clean), features)
    classes = Classes(ATTACKED, np.full(3, 7), ["shoe"] * 3, np.ones(3))
    write_attacked_classes(layout.classes(RUN.experiment), classes, classes)
    users = np.arange(N_USERS)
    write_pairs(layout.training_set, np.stack([users, np.zeros(N_USERS, int)], axis=1))
    write_pairs(layout.test_set, np.stack([users, np.ones(N_USERS, int)], axis=1))
    shapes = ((N_USERS, 4), (N_ITEMS, 4), (N_FEATURES, 4))
    hyperparameters = Hyperparameters(factors=4)
    weights = initial_weights(shapes, hyperparameters, feature_scale(features), 0)
    path = layout.weights(RUN.clean)
    path.parent.mkdir(parents=True)
    write_weights(path, weights)
    return layout


def lists_of(layout, features):
    """Return the lists for attacked features at their clean length."""
    write_features(layout.features(RUN.experiment), features)
    return Restored.of(layout, RUN, TOP).lists(RUN.experiment, at_clean_length)


def test_longer_features_alone_change_nothing(layout):
    clean = np.load(layout.features(RUN.experiment.clean))
    before = lists_of(layout, clean)
    longer = clean.copy()
    longer[ATTACKED] *= np.array([[2.0], [3.0], [0.5]], np.float32)
    assert (lists_of(layout, longer) == before).all()
    assert (before != 0).all()  # item 0 was trained on


def test_other_directions_change_the_lists(layout):
    clean = np.load(layout.features(RUN.experiment.clean))
    turned = clean.copy()
    turned[ATTACKED] = 100 * clean[ATTACKED][:, ::-1]
    same_length = clean.copy()
    same_length[ATTACKED] = clean[ATTACKED][:, ::-1]
    assert (lists_of(layout, turned) == lists_of(layout, same_length)).all()
    assert (lists_of(layout, turned) != lists_of(layout, clean)).any()


def test_lists_are_those_of_the_whole_catalogue_ranked_again(layout):
    clean = np.load(layout.features(RUN.experiment.clean))
    turned = clean.copy()
    turned[ATTACKED] = clean[ATTACKED][:, ::-1]
    found = lists_of(layout, 5 * turned)
    data = TrainingData(load_interactions(layout, N_ITEMS), clean)
    recommender = Model.parse("VBPR").kind.load(
        layout.weights(RUN.clean), data, Model.parse("VBPR").form
    )
    turned[ATTACKED] = at_clean_length(turned[ATTACKED], clean[ATTACKED])
    ranked = top_k(*recommender.factors(turned), data.at_test_time, TOP).items
    assert (found == ranked).all()


def test_an_item_that_all_users_have_is_in_no_list(layout):
    classes = Classes(np.array([0, 1]), np.full(2, 7), ["shoe"] * 2, np.ones(2))
    write_attacked_classes(layout.classes(RUN.experiment), classes, classes)
    found = lists_of(layout, 3 * np.load(layout.features(RUN.experiment.clean)))
    assert (found != 0).all()


def test_only_what_can_be_scored_again_is(layout):
    clean = np.load(layout.features(RUN.experiment.clean))
    assert not can_restore(layout, RUN)  # no attacked features yet
    write_features(layout.features(RUN.experiment), clean)
    assert can_restore(layout, RUN)
    for other in ("retrained", "test_time"):
        model = "VBPR" if other == "retrained" else "BPRMF"
        assert not can_restore(layout, Run(RUN.experiment, model, 3, TOP, protocol=other))


def test_a_recorded_file_that_is_gone_is_missed(layout, monkeypatch, capsys):
    features = layout.features(RUN.experiment)
    write_features(features, np.load(layout.features(RUN.experiment.clean)))
    Manifest.of("classify_extract_attack", {}, ()).write([features])
    assert features in input_files(layout, [RUN])
    features.unlink()
    with pytest.raises(UserError, match=r"missing file: .*features\.npy, which was written by"):
        input_files(layout, [RUN])
    monkeypatch.setattr(sys, "argv", ["summarize.py", "--accept_changed"])
    assert features not in input_files(layout, [RUN])
    assert "features.npy" in capsys.readouterr().err


def test_features_of_zeros_stay_zero():
    clean, features = np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32)
    features[2] = 3
    restored = at_clean_length(features, clean)
    np.testing.assert_allclose(restored, [[0, 0], [0, 0], [1, 1]], rtol=1e-6)


def test_a_displacement_is_as_far_as_the_attacks_and_elsewhere():
    rng = np.random.default_rng(1)
    clean = rng.random((3, 50)).astype(np.float32)
    features = clean + rng.normal(0, 0.1, (3, 50)).astype(np.float32)
    by_attack, by_chance = features - clean, displaced(features, clean) - clean
    assert np.linalg.norm(by_chance, axis=1) == pytest.approx(
        np.linalg.norm(by_attack, axis=1), rel=1e-4
    )
    assert not np.allclose(by_chance, by_attack, atol=0.02)
