import numpy as np
import pytest
from scipy.spatial.distance import cdist

from src.metrics import retrieval as module
from src.metrics.retrieval import chance, nmi, retrieval, spread


def clustered(n: int = 60, d: int = 8, n_classes: int = 5, noise: float = 1.0, seed: int = 0):
    """Draw embeddings of length 1 and classes of different sizes around random centres."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(
        n_classes, n, p=np.arange(1, n_classes + 1) / (n_classes + 1) / n_classes * 2
    )
    embeddings = rng.normal(size=(n_classes, d))[classes] + noise * rng.normal(size=(n, d))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype(np.float32), classes.astype(np.int64)


def brute_force(embeddings: np.ndarray, classes: np.ndarray) -> dict[str, list[float]]:
    """Sort the images of every query by (distance, match), which is the worst order of ties."""
    values = {"first": [], "ap": [], "ap_r": [], "ap_10": []}
    distances = cdist(embeddings, embeddings)
    for query in range(len(classes)):
        others = [other for other in range(len(classes)) if other != query]
        others.sort(key=lambda o, q=query: (distances[q, o], classes[o] == classes[q]))
        matches = [classes[other] == classes[query] for other in others]
        r = sum(matches)
        if r == 0:
            for name in values:
                values[name].append(np.nan)
            continue
        precision = [sum(matches[: k + 1]) / (k + 1) * matches[k] for k in range(len(matches))]
        values["first"].append(matches.index(True) + 1)
        values["ap"].append(sum(precision) / r)
        values["ap_r"].append(sum(precision[:r]) / r)
        values["ap_10"].append(sum(precision[:10]) / min(r, 10))
    return values


@pytest.mark.parametrize("noise", [0.2, 1.0, 3.0])
def test_measures_match_a_sort_of_every_query(noise):
    embeddings, classes = clustered(noise=noise)
    classes[7] = 99  # nothing matches it
    found, expected = retrieval(embeddings, classes), brute_force(embeddings, classes)
    np.testing.assert_array_equal(found.first_rank, expected["first"])
    np.testing.assert_allclose(found.average_precision, expected["ap"], rtol=1e-12)
    np.testing.assert_allclose(found.at_r, expected["ap_r"], rtol=1e-12)
    np.testing.assert_allclose(found.at_10, expected["ap_10"], rtol=1e-12)
    for k in (1, 2, 5):
        hits = np.where(np.isnan(expected["first"]), np.nan, np.array(expected["first"]) <= k)
        np.testing.assert_array_equal(found.recall(k), hits)
    means = found.means()
    assert means["r1"] == pytest.approx(100 * np.nanmean(found.recall(1)))
    assert means["map_10"] == pytest.approx(100 * np.nanmean(expected["ap_10"]))
    assert means["first_rank"] == pytest.approx(np.nanmean(expected["first"]))


def test_measures_match_pytorch_metric_learning():
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    torch = pytest.importorskip("torch")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.inference import CustomKNN

    embeddings, classes = clustered(200, noise=1.5)
    include = ("precision_at_1", "mean_average_precision", "mean_average_precision_at_r")
    theirs = calculator.AccuracyCalculator(
        include=include, k=len(classes) - 1, knn_func=CustomKNN(LpDistance())
    ).get_accuracy(torch.from_numpy(embeddings), torch.from_numpy(classes))
    ours = retrieval(embeddings, classes).means()
    assert ours["r1"] == pytest.approx(100 * theirs["precision_at_1"])
    assert ours["map"] == pytest.approx(100 * theirs["mean_average_precision"])
    assert ours["map_r"] == pytest.approx(100 * theirs["mean_average_precision_at_r"])


def test_blocks_change_nothing(monkeypatch):
    embeddings, classes = clustered()
    whole = retrieval(embeddings, classes)
    monkeypatch.setattr(module, "_ENTRIES_AT_ONCE", 7 * len(classes))
    blocks = retrieval(embeddings, classes)
    np.testing.assert_array_equal(whole.first_rank, blocks.first_rank)
    np.testing.assert_array_equal(whole.average_precision, blocks.average_precision)


def test_images_that_are_all_alike_find_nothing():
    classes = np.repeat(np.arange(4), 5)
    means = retrieval(np.ones((20, 3), np.float32), classes).means()
    assert means["r1"] == 0
    assert means["first_rank"] == 16  # after the 15 images of other classes
    assert means["map_10"] == means["map_r"] == 0


def test_perfect_classes_find_everything():
    classes = np.arange(30) % 3
    means = retrieval(np.eye(3, dtype=np.float32)[classes], classes).means()
    assert all(means[name] == 100 for name in ("r1", "r2", "map", "map_r", "map_10"))
    assert means["first_rank"] == 1


def test_a_query_is_left_out_by_its_index():
    """The image next to the query is at an equal place and has another class."""
    embeddings = np.array([[1, 0], [1, 0], [0.9, 0.1]], np.float32)
    found = retrieval(embeddings, np.array([0, 1, 0]))
    np.testing.assert_array_equal(found.first_rank, [2, np.nan, 2])


def test_nothing_that_matches_is_no_number():
    means = retrieval(np.eye(3, dtype=np.float32), np.arange(3)).means()
    assert all(np.isnan(value) for value in means.values())
    assert np.isnan(chance(np.arange(3)))


def test_nmi_is_that_of_the_contingency_table():
    embeddings, classes = clustered(90, n_classes=3, noise=0.05)
    assert nmi(embeddings, classes, seed=0) == pytest.approx(100)
    noisy, classes = clustered(300, noise=1.5)
    value = nmi(noisy, classes, seed=3)
    assert 0 < value < 90
    assert value == nmi(noisy, classes, seed=3)


def test_spread_is_the_root_mean_squared_distance_of_pairs():
    embeddings, _ = clustered(40)
    squares = cdist(embeddings, embeddings) ** 2
    assert spread(embeddings) == pytest.approx(np.sqrt(squares.sum() / (40 * 39)), rel=1e-5)
    assert spread(np.ones((5, 2), np.float32)) == 0


def test_chance_is_the_recall_of_random_rankings():
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2, 3], [50, 30, 20, 1])
    recalls = [
        retrieval(rng.normal(size=(len(classes), 4)).astype(np.float32), classes).means()["r1"]
        for _ in range(200)
    ]
    assert chance(classes) == pytest.approx(np.mean(recalls), abs=1)
