"""DVBPR: its network by a loop over pixels, its gradient, and a training step by finite differences."""

import numpy as np
import torch

from src.datasets.interactions import Interactions
from src.recommenders.audience import audience_of
from src.recommenders.data import TrainingData
from src.recommenders.dvbpr import DVBPR, network_shapes
from src.recommenders.hyperparameters import NetworkHyperparameters
from src.recommenders.pixel_network import PixelNetwork, batch_loss, to_images
from src.recommenders.ranking import top_k

SIDE = 6


def data() -> TrainingData:
    train = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 3], [2, 0]])
    train = train[np.lexsort((train[:, 1], train[:, 0]))]
    test = np.array([[0, 4], [1, 4], [2, 4]])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3 * SIDE**2)).astype(np.uint8)
    return TrainingData(Interactions(train, test, 3, 5), pixels)


def small(**changes: object) -> NetworkHyperparameters:
    rates = (0.01,) * 3
    values = {"factors": 3, "batch": 8, "hidden": 4, "learning_rates": rates, "penalties": (0,) * 3}
    return NetworkHyperparameters(None, **(values | changes))


def same_convolution(
    maps: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int
) -> np.ndarray:
    """Convolve (C, H, W) as TensorFlow does with SAME padding, one output pixel after another."""
    size, kernel = maps.shape[1], weight.shape[2]
    n_out = -(-size // stride)
    before = max((n_out - 1) * stride + kernel - size, 0) // 2
    out = np.empty((len(weight), n_out, n_out))
    for row in range(n_out):
        for column in range(n_out):
            total = bias.astype(np.float64)
            for y in range(kernel):
                for x in range(kernel):
                    at_y, at_x = row * stride + y - before, column * stride + x - before
                    if 0 <= at_y < size and 0 <= at_x < size:
                        total = total + weight[:, :, y, x] @ maps[:, at_y, at_x]
            out[:, row, column] = total
    return np.maximum(out, 0)


def same_pooling(maps: np.ndarray) -> np.ndarray:
    size = -(-maps.shape[1] // 2)
    blocks = [
        [maps[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] for x in range(size)] for y in range(size)
    ]
    return np.stack([np.stack([b.max(axis=(1, 2)) for b in row], 1) for row in blocks], 1)


def test_the_network_is_that_of_a_loop_over_pixels():
    side, factors = 17, 3  # 5 after the stride, then 3, 2 and 1
    torch.manual_seed(0)
    network = PixelNetwork(side, 4, factors).eval()
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3 * side**2)).astype(np.uint8)
    t = {name: of.detach().numpy().astype(np.float64) for name, of in network.named_parameters()}
    maps = pixels.reshape(side, side, 3).transpose(2, 0, 1) / 127.5 - 1
    maps = same_pooling(same_convolution(maps, t["conv1.weight"], t["conv1.bias"], 4))
    maps = same_pooling(same_convolution(maps, t["conv2.weight"], t["conv2.bias"], 1))
    for name in ("conv3", "conv4", "conv5"):
        maps = same_convolution(maps, t[f"{name}.weight"], t[f"{name}.bias"], 1)
    hidden = same_pooling(maps).ravel()
    for name in ("fc1", "fc2"):
        hidden = np.maximum(t[f"{name}.weight"] @ hidden + t[f"{name}.bias"], 0)
    wanted = t["fc3.weight"] @ hidden + t["fc3.bias"]
    with torch.inference_mode():
        found = network(to_images(pixels, side))[0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_shapes_at_the_published_size():
    """At 224 pixels maps are 56, 28, 14 and 7 wide, so that the first dense layer reads 12544."""
    shapes = network_shapes(224, 4096, 64)
    assert shapes[10:] == ((4096, 12544), (4096,), (4096, 4096), (4096,), (64, 4096), (64,))


def test_gradients_in_pixels_are_finite_differences():
    of = data()
    weights = DVBPR.initial(of, small(), 0)
    network = PixelNetwork(SIDE, 4, 3).eval().double()
    state = {name: torch.from_numpy(weights.tables[name]).double() for name in DVBPR.tables[1:]}
    network.load_state_dict(state)
    levels = torch.from_numpy(of.features[4].astype(np.float64))

    def scores(of_levels: torch.Tensor) -> np.ndarray:
        images = of_levels.reshape(1, SIDE, SIDE, 3).permute(0, 3, 1, 2) / 127.5 - 1
        return weights.tables["theta"] @ network(images)[0].detach().numpy()

    found = DVBPR.of(None, weights, of).directions(of.features, 4)
    assert np.abs(found).max() > 1e-9
    for pixel in range(0, len(levels), 5):
        step = torch.zeros_like(levels)
        step[pixel] = 1e-4
        slope = (scores(levels + step) - scores(levels - step)) / 2e-4
        np.testing.assert_allclose(
            found[:, pixel], slope, rtol=1e-3, atol=1e-4 * np.abs(found).max()
        )


def test_the_loss_is_that_of_a_loop_over_triples():
    of, penalties = data(), (0.5, 0.0, 0.25)
    weights = DVBPR.initial(of, small(), 3)
    tables = {name: torch.from_numpy(table) for name, table in weights.tables.items()}
    triples = np.array([[0, 1, 2, 0], [0, 2, 3, 1], [3, 0, 1, 2]])
    network = PixelNetwork(SIDE, 4, 3).eval()
    found = batch_loss(
        tables,
        torch.from_numpy(triples),
        network=network,
        pixels=of.features,
        penalties=penalties,
    )
    users, items = DVBPR.of(None, weights, of).factors(of.features)
    wanted = 0.0
    for user, preferred, other in triples.T:
        margin = users[user] @ items[preferred] - users[user] @ items[other]
        wanted += np.log1p(np.exp(-margin)) + 0.25 * np.sum(users[user] ** 2)
    squares = [np.sum(of**2) for name, of in weights.tables.items() if name.endswith("weight")]
    wanted += 0.125 * sum(squares)
    np.testing.assert_allclose(found.item(), wanted, rtol=1e-5)


def test_training_raises_the_scores_of_what_users_have():
    of = data()
    before = DVBPR.of(None, DVBPR.initial(of, small(hidden=64), 0), of)
    wide = small(hidden=64, learning_rates=(1e-3,) * 3)
    after = DVBPR.fit(of, 0, hyperparameters=wide, epochs=20)
    own = tuple(of.interactions.train.T)

    def margin(recommender: DVBPR) -> float:
        users, items = recommender.factors(of.features)
        scores = users @ items.T
        return float(scores[own].mean() - scores.mean())

    assert margin(after) > margin(before) + 1e-4


def test_the_extractor_of_an_attack_is_what_ranks():
    of = data()
    recommender = DVBPR.of(None, DVBPR.initial(of, small(), 0), of)
    extractor = recommender.extractor(torch.device("cpu"))
    images = of.features.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2) / np.float32(255)
    with torch.inference_mode():
        features = extractor(torch.from_numpy(images)).features.numpy()
    np.testing.assert_allclose(features, recommender.embedded(of.features), rtol=1e-4, atol=1e-7)

    audience = audience_of(recommender, of, np.array([1, 4]), 2)
    users, items = recommender.factors(of.features)
    scores = audience.slopes @ audience.features.T
    np.testing.assert_allclose(scores, users @ items[[1, 4]].T, rtol=1e-5)
    lists = top_k(users, items, of.at_test_time, 3)
    assert lists.items.shape == (3, 3)


def test_its_network_on_a_device_is_a_copy():
    found = data()
    model = DVBPR.of(None, DVBPR.initial(found, small(), 0), found)
    before = model.embedded(found.features)
    assert model.extractor(torch.device("meta")).device.type == "meta"
    np.testing.assert_array_equal(model.embedded(found.features), before)
