"""Exchange with a checkout of MMRec: what is exported, and lists of scores that come back."""

from pathlib import Path

import numpy as np
import pytest

from reproduce import mmrec
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.tables import read_test_ranks, read_top_k
from tests.scripts import run_script
from tests.small_shops import write_data

TRAIN = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 0]])
TEST = np.array([[0, 3], [1, 3], [2, 1]])
VALIDATION = np.array([[0, 2], [1, 0], [2, 2]])
N_ITEMS = 5
"""The last item has no row."""


@pytest.fixture
def layout(tmp_path) -> Layout:
    layout = Layout("tiny", tmp_path / "own")
    layout.images.mkdir(parents=True)
    for item in range(N_ITEMS):
        (layout.images / f"{item}.jpg").write_bytes(b"")
    features = np.arange(2 * N_ITEMS, dtype=np.float32).reshape(N_ITEMS, 2)
    write_data(layout, TRAIN, TEST, VALIDATION, {"original": features})
    (tmp_path / "MMRec" / "src" / "models").mkdir(parents=True)
    (tmp_path / "MMRec" / "src" / "configs" / "dataset").mkdir(parents=True)
    return layout


@pytest.fixture
def call(layout, tmp_path):
    common = ("--dataset", "tiny", "--root", layout.root, "--topk", 2)
    checkout = ("--checkout", tmp_path / "MMRec")
    return lambda verb, *words: run_script(mmrec, verb, *common, *checkout, *words)


def exchanged(tmp_path: Path) -> Path:
    return tmp_path / "MMRec" / "data" / "tiny-original"


def test_the_files_that_mmrec_reads(call, tmp_path):
    assert call("export") == 0
    lines = (exchanged(tmp_path) / "tiny-original.inter").read_text().splitlines()
    assert lines[0].split("\t") == ["userID", "itemID", "rating", "timestamp", "x_label"]
    rows = {tuple(map(int, line.split("\t"))) for line in lines[1:]}
    assert rows == {
        (user, item, 1, 0, part)
        for part, pairs in enumerate((TRAIN, VALIDATION, TEST))
        for user, item in pairs.tolist()
    }
    features = np.load(exchanged(tmp_path) / "image_feat.npy")
    np.testing.assert_array_equal(features, np.arange(8).reshape(4, 2))
    settings = tmp_path / "MMRec" / "src" / "configs" / "dataset" / "tiny-original.yaml"
    assert "inter_file_name: 'tiny-original.inter'" in settings.read_text()


def test_scores_become_lists_and_ranks(call, layout, tmp_path):
    """User 0 may get items 3 and 4, user 1 too, user 2 items 1, 3 and 4; item 4 has no score."""
    exchanged(tmp_path).mkdir(parents=True)
    scores = np.array([[9, 8, 7, 1], [1, 2, 3, 4], [5, 6, 5, 7]], np.float32)
    np.save(exchanged(tmp_path) / "scores_FREEDOM_seed1.npy", scores)
    assert call("lists", "--model", "FREEDOM", "--seed", "1") == 0
    made = Run(Experiment(), "MMRec-FREEDOM", 0, 2, 1)
    assert Run.parse(made.name) == made
    lists = read_top_k(layout.recommendations(made))
    np.testing.assert_array_equal(lists.items, [[3, 4], [3, 4], [3, 1]])
    ranks = read_test_ranks(layout.test_ranks(made))
    np.testing.assert_array_equal(ranks.items, TEST[:, 1])
    np.testing.assert_array_equal(ranks.ranks, [0, 0, 1])


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("lists", [], "no scores at"),
        ("score", [], "has no tiny-original.inter: first run the verb export"),
        ("lists", ["--model", "BM3"], "MMRec-BM3 is no name of lists: give --name"),
        ("export", ["--checkout", "elsewhere"], "elsewhere is no checkout of MMRec"),
    ],
)
def test_what_is_missing_is_one_line(call, capsys, verb, words, message):
    assert call(verb, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_mmrec_needs_validation_rows(call, layout, capsys, tmp_path):
    layout.validation_set.unlink()
    assert call("export") == 2
    assert "MMRec needs validation rows" in capsys.readouterr().err
    assert not exchanged(tmp_path).exists()


@pytest.mark.parametrize("scores", [np.zeros((2, 4)), np.zeros((3, 6)), np.full((3, 4), np.nan)])
def test_scores_of_another_data_set_are_refused(call, layout, capsys, tmp_path, scores):
    exchanged(tmp_path).mkdir(parents=True)
    np.save(exchanged(tmp_path) / "scores_VBPR_seed0.npy", scores)
    assert call("lists") == 2
    assert "the data set has 3 users and 5 items" in capsys.readouterr().err
    assert not layout.recommendations_dir.exists()
