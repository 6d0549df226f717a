"""A data set in MMRec's layout, from its file to the measures that RecBole defines."""

import numpy as np
import pandas as pd
import pytest

from src.artifacts.experiments import Run
from src.artifacts.layout import Layout
from src.artifacts.tables import read_pairs, read_top_k
from tests.scripts import run_script

N_USERS, N_ITEMS, K = 20, 60, 20
RUN = Run.parse("original_top60_ep3_VBPR_K4_batch16_lr0.05")


@pytest.fixture
def call(tmp_path, capsys):
    """Run a script on the data set ``baby``; return (exit code, stderr)."""

    def call(script, *arguments):
        code = run_script(script, *arguments, "--dataset", "baby", "--root", tmp_path)
        return code, capsys.readouterr().err

    return call


def write_set(folder):
    """Write users with 4 training, 2 validation and 1 to 12 test items, and features of all items."""
    rng = np.random.default_rng(1)
    lines = ["userID\titemID\trating\ttimestamp\tx_label"]
    for user in range(N_USERS):
        items = rng.permutation(N_ITEMS)
        labels = [0] * 4 + [1] * 2 + [2] * (1 + user % 12)
        lines += [f"{user}\t{items[n]}\t5.0\t{n}\t{label}" for n, label in enumerate(labels)]
    (folder / "baby.inter").write_text("\n".join(lines) + "\n")
    np.save(folder / "image_feat.npy", rng.random((N_ITEMS, 5)))


def of_recbole(layout):
    """Return mean Recall@K and nDCG@K of the stored lists, hit by hit as RecBole counts them."""
    test, lists = read_pairs(layout.test_set), read_top_k(layout.recommendations(RUN)).items
    recalls, gains = [], []
    for user in np.unique(test[:, 0]):
        relevant = set(test[test[:, 0] == user, 1].tolist())
        hits = [int(item in relevant) for item in lists[user, :K].tolist()]
        discounts = [1 / np.log2(place + 2) for place in range(K)]
        recalls.append(sum(hits) / len(relevant))
        best = sum(discounts[: min(len(relevant), K)])
        gains.append(sum(np.multiply(hits, discounts)) / best)
    return np.mean(recalls), np.mean(gains)


def test_a_set_in_mmrecs_layout_has_the_accuracy_that_recbole_counts(call, tmp_path):
    write_set(tmp_path)
    options = ("interactions", "--interactions", tmp_path / "baby.inter", "--split", "given")
    features = ("--features", tmp_path / "image_feat.npy")
    assert call("prepare_dataset", *options, *features)[0] == 0
    training = ("--epoch", 3, "--emb1_K", 4, "--batch_size", 16, "--lr", 0.05, "--topk", 60)
    assert call("rec_generator", *training)[0] == 0
    wanted = ("--metric", "accuracy", "--list_of_k", K, "--topk", 60)
    assert call("evaluate_rec", *wanted)[0] == 0
    layout = Layout("baby", tmp_path)
    table = pd.read_csv(layout.metric("accuracy", RUN), sep="\t").set_index("metric")["score"]
    assert (table["recall"], table["ndcg"]) == pytest.approx(of_recbole(layout), abs=1e-6)
    assert set(table.index) == {"hr", "ndcg", "recall", "precision", "map", "mrr", "auc"}
    assert table["hr"] > table["recall"]
    code, error = call("classify_extract")
    assert code == 2 and "has no images, its features came ready" in error


def test_accuracy_of_warm_and_cold_items(call, tmp_path):
    write_set(tmp_path)
    options = ("interactions", "--interactions", tmp_path / "baby.inter", "--split", "ratio")
    features = ("--features", tmp_path / "image_feat.npy")
    assert call("prepare_dataset", *options, *features, "--cold_items", 0.3)[0] == 0
    training = ("--epoch", 3, "--emb1_K", 4, "--batch_size", 16, "--lr", 0.05, "--topk", 60)
    assert call("rec_generator", *training)[0] == 0
    wanted = ("--metric", "accuracy", "--list_of_k", K, "--topk", 60)
    assert call("evaluate_rec", *wanted)[0] == 0
    layout = Layout("baby", tmp_path)
    table = pd.read_csv(layout.metric("accuracy", RUN), sep="\t")
    recall = table[table["metric"] == "recall"].set_index("items")["score"]
    lists = read_top_k(layout.recommendations(RUN)).items
    test = read_pairs(layout.test_set)
    cold_items = np.loadtxt(layout.cold_items, int)
    assert not np.isin(cold_items, read_pairs(layout.training_set)[:, 1]).any()
    is_cold = np.isin(test[:, 1], cold_items)
    for name, rows in {"all": test, "warm": test[~is_cold], "cold": test[is_cold]}.items():
        users = np.unique(rows[:, 0])
        own = [rows[rows[:, 0] == user, 1] for user in users]
        of_users = [
            np.isin(items, lists[user, :K]).mean() for user, items in zip(users, own, strict=True)
        ]
        assert recall[name] == pytest.approx(np.mean(of_users), abs=1e-6)
