"""Promotion through the users' own items (ACF), against scores of every user for every changed item."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.datasets.interactions import Interactions
from src.measures.promotion import read_promotion
from src.recommenders.acf import ACF
from src.recommenders.data import TrainingData
from src.recommenders.hyperparameters import NetworkHyperparameters
from src.recommenders.weights import Weights, fresh_moments
from tests.scripts import run_script
from tests.small_shops import write_attack, write_shop

K, EPOCHS, TARGET = 5, 4, 9
IDS = np.array([20, 31, 44])
RANK = f"apgd_random3_rank_eps8.0_nb_iter30_linf_ACF-ep4_item{TARGET}"
OTHER = RANK.replace(f"item{TARGET}", "item10")
NOISE = "noise_random3_0_eps8.0_linf"
RUN = Run(Experiment(), "ACF", EPOCHS)


def fitted() -> tuple[ACF, TrainingData]:
    """Return a drawn ACF whose attention reads images, and sixty items and two hundred users."""
    rng = np.random.default_rng(0)
    has = rng.random((200, 60)) < 0.1
    has[:, 59] = False
    has[:, 0] |= ~has.any(axis=1)
    test = np.stack([np.arange(200), np.full(200, 59)], axis=1)
    interactions = Interactions(np.argwhere(has), test, 200, 60)
    data = TrainingData(interactions, rng.standard_normal((60, 6), np.float32))
    sizes = NetworkHyperparameters(None, factors=4, learning_rates=(0.01,) * 3, hidden=3)
    shapes = dict(zip(ACF.tables, ACF.shapes(data, sizes), strict=True))
    tables = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return ACF.of(None, Weights(tables, fresh_moments(tables), data.scale), data), data


def attacked_features(step: float) -> np.ndarray:
    moved = fitted()[1].features.copy()
    noise = np.random.default_rng(1).standard_normal(moved[IDS].shape, np.float32)
    moved[IDS] += np.float32(step * moved.std()) * noise
    return moved


def lists(features: np.ndarray) -> np.ndarray:
    acf, data = fitted()
    users, items = acf.factors(features)
    scores = users @ items.T
    scores[tuple(data.interactions.train.T)] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def exposure_by_hand(features: np.ndarray) -> float:
    """Mean over items of the share of buyers without the target who are shown it."""
    data, shares = fitted()[1], []
    train = data.interactions.train
    have_target = train[train[:, 1] == TARGET, 0]
    for item in IDS:
        alone = data.features.copy()
        alone[item] = features[item]
        buyers = np.setdiff1d(train[train[:, 1] == item, 0], have_target)
        shares.append((lists(alone)[buyers] == TARGET).any(axis=1).mean())
    return float(np.mean(shares))


@pytest.fixture
def shop(tmp_path) -> Layout:
    layout = write_shop(tmp_path, *fitted(), RUN)
    for name, step in ((RANK, 8.0), (OTHER, 1.0), (NOISE, 2.0)):
        write_attack(layout, name, IDS, attacked_features(step))
    return layout


def audit(root: Path, *options: object) -> int:
    common = ("--root", root, "--dataset", "shop", "--epoch", EPOCHS, "--k", K)
    return run_script("audits.promotion", *common, *options)


def test_rows_say_how_many_buyers_are_shown_the_target(shop):
    acf, _ = fitted()
    learnt = replace(acf, weights=replace(acf.weights, scale=acf.weights.scale / 4))
    learnt.save(shop.weights(replace(RUN, experiment=Experiment.parse(RANK))))
    assert audit(shop.root, "--model", "ACF", "--target_item", TARGET) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    assert set(table["recommender"]) == {f"ACF_item{TARGET}"}
    assert set(table["attack"]) == {RANK, NOISE}
    rows = table[table["popularity"] == "any"].set_index(["objective", "scope", "threat"])
    clean, rank, noise = (exposure_by_hand(attacked_features(step)) for step in (0, 8, 2))
    one = rows.loc["rank", "one", "white_box"]
    assert len({clean, rank, noise}) == 3
    assert one["before"] == pytest.approx(clean, rel=1e-4)
    assert one["after"] == pytest.approx(rank, rel=1e-4)
    assert one["control"] == pytest.approx(noise - clean, abs=1e-5)
    together = rows.loc["rank", "all", "white_box"]
    shown = (lists(attacked_features(8.0)) == TARGET).sum(axis=1).mean()
    assert together["after"] == pytest.approx(shown, rel=1e-4)
    users, items = learnt.factors(attacked_features(8.0))
    scores = users @ items.T
    scores[tuple(fitted()[1].interactions.train.T)] = -np.inf
    shown = (np.argsort(-scores, axis=1)[:, :K] == TARGET).sum(axis=1).mean()
    assert rows.loc["rank", "all", "retrained"]["after"] == pytest.approx(shown, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "ACF"), "another item in their lists, --target_item"),
        (("--model", "VBPR", "--target_item", TARGET), "VBPR reads an image for its own item"),
        (("--model", "ACF", "--target_item", 60), "there are items 0 to 59"),
        (("--model", "ACF", "--target_item", 31), "is one of the attacked items"),
    ],
)
def test_targets_that_do_not_fit_are_refused_in_one_line(shop, capsys, options, said):
    assert audit(shop.root, *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1 and said in errors[0]
    assert not shop.result("promotion.tsv").exists()
