"""Rows of ``RECOMMENDERS`` and the example of docs/extending.md keep the contract's promises."""

import functools
import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.cornac_models import FOLDED
from src.recommenders.data import TrainingData
from src.recommenders.factor_models import VBPR, FactorModel
from src.recommenders.hyperparameters import (
    Adversary,
    GraphHyperparameters,
    Hyperparameters,
    NetworkHyperparameters,
)
from src.recommenders.parameter_attack import ParameterAttack
from src.recommenders.ranking import top_k
from src.recommenders.recommender import Recommender
from src.recommenders.registry import RECOMMENDERS
from tests.page_examples import example_of_the_page

N_USERS, N_ITEMS, N_FEATURES = 7, 9, 5
SIDE = 4
"""Height and width of the images of recommenders that read pixels."""


KINDS = {**RECOMMENDERS, "the example": example_of_the_page("recommenders")}
NEEDS_CORNAC = pytest.mark.skipif(
    importlib.util.find_spec("cornac") is None, reason="cornac is an extra"
)
CASES = [
    pytest.param(kind, form, id=f"{name}{label}", marks=[NEEDS_CORNAC] if name in FOLDED else [])
    for name, kind in KINDS.items()
    for label, form in kind.forms.items()
]


def data_of(kind: type[Recommender], seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(seed)
    has = rng.random((N_USERS, N_ITEMS)) < 0.4
    has[:, 0], has[:, 1] = True, False
    test = np.stack([np.arange(N_USERS), np.ones(N_USERS, np.int64)], axis=1)
    interactions = Interactions(np.argwhere(has), test, N_USERS, N_ITEMS)
    features = 3 * rng.random((N_ITEMS, N_FEATURES), dtype=np.float32)
    if kind.reads_pixels:
        features = rng.integers(0, 256, (N_ITEMS, 3 * SIDE**2)).astype(np.float32)
    return TrainingData(interactions, features if kind.reads_images else None)


def fit(kind: type[Recommender], form: str | None, seed: int = 0) -> Recommender:
    data = data_of(kind)
    return kind.fit(data, seed, **options_of(kind, form, data, seed))


fitted = functools.cache(fit)
"""Fits once for all tests."""


def options_of(
    kind: type[Recommender], form: str | None, data: TrainingData, seed: int
) -> dict[str, Any]:
    """Return options of a factor model: few epochs, high rates, and the model that it continues."""
    if not issubclass(kind, FactorModel):
        return {}
    of_both = {"hyperparameters": Hyperparameters(form, 3, 8, learning_rates=(0.5, 0.5, 0.5))}
    rates, penalties = (0.01, 0.01, 0.01), (0.0, 0.0, 0.0)
    if kind.defaults.layers:
        small = GraphHyperparameters(form, 3, 8, rates, penalties, layers=2)
        return {"hyperparameters": small, "epochs": 2}
    if kind.defaults.hidden:
        small = NetworkHyperparameters(form, 3, 8, rates, penalties, hidden=8)
        return {"hyperparameters": small, "epochs": 2}
    if kind.continues is None:
        return of_both | {"epochs": 2}
    plain = RECOMMENDERS[kind.continues].fit(data, seed, **of_both, epochs=1)
    adversary = Adversary(1.0, ParameterAttack("fgsm", 0.5), kind.perturbs)
    return of_both | {"epochs": 2, "adversary": adversary, "start": plain.weights}


def load_options(kind: type[Recommender], form: str | None) -> dict[str, Any]:
    return {"form": form} if issubclass(kind, FactorModel) else {}


def test_what_continues_follows_what_it_continues():
    names = list(RECOMMENDERS)
    for name, kind in RECOMMENDERS.items():
        if kind.continues:
            assert names.index(kind.continues) < names.index(name)
            plain = RECOMMENDERS[kind.continues]
            assert plain.continues is None
            assert (plain.reads_images, plain.forms) == (kind.reads_images, kind.forms)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_factors_are_finite_float32_of_all_users_and_items(kind, form):
    users, items = fitted(kind, form).factors(data_of(kind).features)
    assert users.dtype == items.dtype == np.float32
    assert users.shape == (N_USERS, items.shape[1]) and len(items) == N_ITEMS
    assert np.isfinite(users).all() and np.isfinite(items).all()


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_the_same_data_and_seed_give_the_same_bytes(kind, form, tmp_path):
    files = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for path in files:
        fit(kind, form, seed=3).save(path)
    first, second = (dict(np.load(path)) for path in files)
    assert list(first) == list(second)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize(
    ("kind", "form"), [case for case in CASES if issubclass(case.values[0], FactorModel)]
)
def test_a_continued_training_ends_at_the_same_bytes(kind, form):
    data = data_of(kind)
    options = options_of(kind, form, data, 0) | {"epochs": 3}
    begun = fitted(kind, form)
    ends = (
        kind.fit(data, 0, **options),
        kind.fit(data, 0, **options | {"start": begun.weights}),
    )
    for name in begun.weights.tables:
        one, other = (end.weights.tables[name] for end in ends)
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_what_is_saved_recommends_the_same_after_loading(kind, form, tmp_path):
    saved, data = fitted(kind, form), data_of(kind)
    saved.save(tmp_path / "weights.npz")
    loaded = kind.load(tmp_path / "weights.npz", data, **load_options(kind, form))
    for before, after in zip(
        saved.factors(data.features), loaded.factors(data.features), strict=True
    ):
        assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_files_that_hold_something_else_are_refused(kind, form, tmp_path):
    data, options = data_of(kind), load_options(kind, form)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(UserError, match=r"does not hold|is not an archive"):
            kind.load(tmp_path / name, data, **options)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_weights_of_another_data_set_are_refused(kind, form, tmp_path):
    fitted(kind, form).save(tmp_path / "weights.npz")
    data = data_of(kind)
    train = np.vstack([data.interactions.train, [[N_USERS, 0]]])
    larger = Interactions(train, data.interactions.test, N_USERS + 1, N_ITEMS)
    with pytest.raises(UserError):
        kind.load(
            tmp_path / "weights.npz",
            TrainingData(larger, data.features),
            **load_options(kind, form),
        )


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_lists_are_ranked_by_the_product_of_the_factors(kind, form):
    data = data_of(kind)
    users, items = fitted(kind, form).factors(data.features)
    lists = top_k(users, items, data.at_test_time, 3)
    scores = users.astype(np.float64) @ items.T.astype(np.float64)
    np.testing.assert_allclose(
        lists.scores, np.take_along_axis(scores, lists.items, axis=1), rtol=1e-5, atol=1e-6
    )
    known = data.interactions.train
    scores[known[:, 0], known[:, 1]] = -np.inf
    best = -np.sort(-scores, axis=1)[:, :3]
    listed = np.take_along_axis(scores, lists.items, axis=1)
    np.testing.assert_allclose(listed, best, rtol=1e-5, atol=1e-6)


def moves(kind: type[Recommender]) -> float:
    """Return the change of scores that images must make at least.

    The default penalties of Cornac's VMF leave its matrix of features almost at 0.
    """
    return 1e-6 if kind is FOLDED["CornacVMF"] else 1e-4


def slopes_of(recommender: Recommender, features: np.ndarray, item: int, step: float) -> np.ndarray:
    """Return finite differences of every user's score of ``item``: (users, features)."""

    def scores(shift: np.ndarray) -> np.ndarray:
        moved = features.copy()
        moved[item] += shift
        users, items = recommender.factors(moved)
        return users.astype(np.float64) @ items[item].astype(np.float64)

    shifts = step * np.eye(features.shape[1], dtype=np.float32)
    slopes = [(scores(shift) - scores(-shift)) / (2 * step) for shift in shifts]
    return np.stack(slopes, axis=1)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_directions_are_the_gradients_of_scores(kind, form):
    recommender, features, item, step = fitted(kind, form), data_of(kind).features, 4, 0.25
    directions = recommender.directions(features, item)
    if not kind.reads_images:
        assert directions is None
        return

    assert directions.dtype == np.float32
    some = np.array([5, 2])
    own = recommender.slopes(some)
    if kind.reads_pixels:
        users, items = recommender.factors(features)
        embedded = recommender.embedded(features)
        np.testing.assert_allclose(own @ embedded.T, users[some] @ items.T, rtol=1e-5)
        return
    if kind.moves_users:
        assert own is None
        step = 1e-2
    slopes = slopes_of(recommender, features, item, step)
    largest = np.abs(slopes).max()
    assert largest > moves(kind) / 10
    np.testing.assert_allclose(directions, slopes, rtol=1e-4, atol=1e-3 * min(largest, 1e-2))
    assert own is None or np.allclose(own, directions[some], rtol=1e-6)


@pytest.mark.parametrize("form", ["shared", "full"])
def test_longer_features_of_the_same_direction_score_the_same_when_length_is_not_read(
    form, tmp_path
):
    data = replace(data_of(VBPR), unit=True)
    recommender = VBPR.fit(data, 0, **options_of(VBPR, form, data, 0))
    recommender.save(tmp_path / "weights.npz")
    recommender = VBPR.load(tmp_path / "weights.npz", data, form)
    features, item, step = data.features, 4, 1e-2
    longer = features * np.linspace(0.5, 3, N_ITEMS, dtype=np.float32)[:, None]
    for one, other in zip(recommender.factors(features), recommender.factors(longer), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

    slopes = slopes_of(recommender, features, item, step)
    directions = recommender.directions(features, item)
    np.testing.assert_allclose(directions, slopes, rtol=1e-2, atol=1e-3)
    assert np.abs(directions @ features[item]).max() < 1e-4


@pytest.mark.parametrize(("kind", "form"), [case for case in CASES if case.values[0].reads_images])
def test_features_of_another_shape_are_refused(kind, form):
    recommender, features = fitted(kind, form), data_of(kind).features
    for wrong in (features[:-1], features[:, :-1], None):
        with pytest.raises(UserError, match="features are"):
            recommender.factors(wrong)


@pytest.mark.parametrize(("kind", "form"), [case for case in CASES if case.values[0].reads_images])
def test_scores_follow_the_images(kind, form):
    recommender, features = fitted(kind, form), data_of(kind).features
    before, after = (
        users @ items.T for users, items in map(recommender.factors, (features, 2 * features))
    )
    assert np.abs(after - before).max() > moves(kind)
