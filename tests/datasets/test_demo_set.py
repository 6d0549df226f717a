"""Generated catalogue: reproducible, varied, with tastes that the pictures explain."""

import numpy as np
import pandas as pd
import pytest

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets.catalogue import open_whole_catalogue
from src.datasets.demo.build import Demo, item_categories, write_demo
from src.datasets.demo.products import LABELS, draw_product
from src.datasets.demo.taste import FEWEST, MOST, choose, utilities, visible_attributes
from src.datasets.interactions import load_interactions
from tests.folders import contents

SMALL = Demo(items=40, users=30, size=32, per_class=2, seed=3)


def written(root, demo):
    layout = Layout("demo", root)
    layout.images.mkdir(parents=True)
    write_demo(layout, demo)
    return layout


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return written(tmp_path_factory.mktemp("demo"), SMALL)


def test_the_same_seed_gives_the_same_bytes(small, tmp_path):
    assert contents(written(tmp_path, SMALL).data) == contents(small.data)


def test_another_seed_gives_another_set(small, tmp_path):
    other = contents(written(tmp_path, Demo(40, 30, 32, 2, seed=4)).data)
    assert all(
        other[name] != content for name, content in contents(small.data).items() if "images" in name
    )


def test_stages_can_read_it(small):
    catalogue = open_whole_catalogue(small.images)
    assert len(catalogue) == 40 and catalogue.image(7).shape == (32, 32, 3)
    data = load_interactions(small, 40)
    assert data.n_users == 30 and len(data.test) == 30
    assert data.degrees.min() >= FEWEST - 1 and data.degrees.max() <= MOST - 1


def test_tables_of_categories(small):
    for path, n in (
        (small.item_categories, 40),
        (small.extractor_set / "labels.csv", 2 * len(LABELS)),
    ):
        frame = pd.read_csv(path)
        assert list(frame) == ["item", "category", "label"]
        assert frame["item"].tolist() == list(range(n))
        assert [LABELS[number] for number in frame["category"]] == frame["label"].tolist()
        assert set(frame["category"]) == set(range(len(LABELS)))
    assert len(list((small.extractor_set / "images").glob("*.png"))) == 2 * len(LABELS)


def test_catalogue_has_enough_of_origin_and_target():
    counts = np.bincount(item_categories(Demo()))
    assert counts.sum() == 400 and len(set(counts.tolist())) > 3
    assert counts[LABELS.index("sandal")] >= 40 and counts[LABELS.index("running shoe")] >= 40


@pytest.mark.parametrize("category", range(len(LABELS)))
def test_pictures_of_a_kind_differ(category):
    pictures = [
        np.asarray(draw_product(category, 32, np.random.default_rng(seed))[0], float)
        for seed in range(6)
    ]
    for one in range(6):
        assert pictures[one].shape == (32, 32, 3) and pictures[one].std() > 10
        for other in range(one):
            assert np.abs(pictures[one] - pictures[other]).mean() > 5


def test_taste_follows_kind_and_attributes():
    random = np.random.default_rng(0)
    categories = item_categories(Demo())
    looks = [draw_product(int(category), 16, random)[1] for category in categories]
    attributes = visible_attributes(looks)
    np.testing.assert_allclose(attributes.mean(axis=0), 0, atol=1e-12)
    utility = utilities(categories, looks, 2000, random)
    train, test = choose(utility, random)
    chosen = np.bincount(categories[train[:, 1]], minlength=len(LABELS)) / np.bincount(categories)
    assert LABELS[chosen.argmax()] == "running shoe" and LABELS[chosen.argmin()] == "sandal"
    assert chosen.max() > 8 * chosen.min()
    # What a user's other choices look like says something about the one held out.
    profile = np.stack(
        [np.bincount(train[:, 0], attributes[train[:, 1], axis]) for axis in range(4)], axis=1
    )
    profile /= np.bincount(train[:, 0])[:, None]
    for axis in range(4):
        held_out = attributes[test[np.argsort(test[:, 0]), 1], axis]
        assert np.corrcoef(profile[:, axis], held_out)[0, 1] > 0.15


def test_choices_are_distinct_and_drawn_in_proportion():
    utility = np.log(np.array([[8.0, 4.0, 2.0, 1.0]])).repeat(4000, axis=0)
    random = np.random.default_rng(1)
    train, test = choose(np.concatenate([utility, np.zeros((4000, 96))], axis=1), random)
    pairs = np.concatenate([train, test])
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert test[:, 0].tolist() == list(range(4000))
    taken = np.bincount(pairs[:, 1], minlength=4)[:4]
    assert (np.diff(taken) < 0).all()
    everything, _ = choose(utility, random)  # fewer items than a user would take
    assert len(everything) == 4000 * 3


@pytest.mark.parametrize("wrong", [{"items": 3}, {"users": 0}, {"size": 4}, {"seed": -1}])
def test_impossible_sizes(wrong):
    with pytest.raises(UserError, match=f"--{next(iter(wrong))} must be at least"):
        Demo(**wrong)
