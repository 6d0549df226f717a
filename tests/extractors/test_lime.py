"""LIME for images: planted weights come back, as lime's own code finds them; overlaps of its masks."""

import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.extractor import Extractor
from src.extractors.lime_explanations import explain, local_weights, superpixels
from src.metrics.explanations import attention_agreement, support_overlap

SIDE = 64


@pytest.fixture
def lime():
    return pytest.importorskip("lime", reason="an optional library")


def draw(seed: int, cells: int = 4) -> np.ndarray:
    """Draw (SIDE, SIDE, 3) uint8: squares of random bright colours with noise."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(80, 230, (cells, cells, 3))
    smooth = np.kron(colours, np.ones((SIDE // cells, SIDE // cells, 1), int))
    return (smooth + rng.integers(-25, 26, smooth.shape)).astype(np.uint8)


def linear_extractor(image: np.ndarray, weights: np.ndarray) -> Extractor:
    """Build an extractor whose first logit adds the ``weights`` of ``image``'s shown superpixels."""
    of_pixel = weights[superpixels(image, 0)] / 255
    light = np.zeros(len(weights))
    np.add.at(light, superpixels(image, 0), image.sum(axis=2) / 255**2)
    network = nn.Sequential(nn.Conv2d(3, 2, SIDE, bias=False), nn.Flatten())
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[0] = torch.from_numpy(of_pixel / light[superpixels(image, 0)])
    return Extractor(network, ["planted", "other"], "0", mean=(0, 0, 0), std=(1, 1, 1)).eval()


@pytest.fixture
def image():
    return draw(0)


@pytest.fixture
def planted(lime, image):
    """Weights of superpixels, few of which are not 0."""
    weights = np.zeros(superpixels(image, 0).max() + 1)
    assert len(weights) >= 10
    weights[[0, 3, 4, 8]] = 0.5, -0.6, 0.4, -0.3
    return weights


def test_a_gpu_that_holds_seven_copies_explains_with_all(image, planted, gpu_holds, capsys):
    extractor, sampling = linear_extractor(image, planted), {"n_samples": 60, "seed": 3}
    whole = explain(extractor, image[None], np.array([0]), **sampling)
    gpu_holds(7)
    np.testing.assert_array_equal(explain(extractor, image[None], np.array([0]), **sampling), whole)
    assert capsys.readouterr().out.count("at once: halving batches") == 1


def test_planted_weights_are_recovered(image, planted):
    extractor = linear_extractor(image, planted)
    arguments = (extractor, image[None], np.array([0]))
    sampling = {"n_samples": 600, "hidden": "black"}
    mask = explain(*arguments, **sampling, n_features=4)
    assert mask.dtype == np.int8
    assert np.array_equal(mask[0], np.sign(planted)[superpixels(image, 0)])
    # Support for one of two classes is opposition to the other.
    other = explain(extractor, image[None], np.array([1]), **sampling, n_features=4)
    assert np.array_equal(other, -mask)
    # The strongest alone.
    assert set(np.unique(explain(*arguments, **sampling, n_features=1))) == {-1, 0}


def test_planted_weights_of_a_linear_model(lime):
    shown = np.random.default_rng(0).integers(0, 2, (1000, 12))
    shown[0] = 1
    planted = np.linspace(-0.3, 0.4, 12)
    found = local_weights(shown, 0.2 + shown @ planted, 12, seed=0)
    np.testing.assert_allclose(found, planted, atol=0.03)
    strongest = local_weights(shown, 0.2 + shown @ planted, 7, seed=0)
    assert np.array_equal(strongest != 0, np.abs(planted) >= np.sort(np.abs(planted))[-7])


@pytest.mark.parametrize(("hidden", "hide_color"), [("mean", None), ("black", 0)])
def test_it_is_the_explanation_of_lime(lime, image, hidden, hide_color):
    """Copies and fit are equal for all sizes of batches."""
    from lime.lime_image import LimeImageExplainer

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(128, 3))
    network[-1].weight.data *= 20
    extractor = Extractor(network, ["a", "b", "c"], "4").eval()

    def probabilities(copies):
        with torch.no_grad():
            pixels = torch.from_numpy(copies).permute(0, 3, 1, 2).float() / 255
            return extractor(pixels).logits.softmax(dim=1).double().numpy()

    images, classes = np.stack([image, draw(1)]), np.array([2, 0])
    sampling = {"n_samples": 150, "seed": 7, "hidden": hidden}
    masks = explain(extractor, images, classes, **sampling, batch_size=100)
    for row in range(2):
        explanation = LimeImageExplainer(random_state=7).explain_instance(
            images[row],
            probabilities,
            labels=(int(classes[row]),),
            hide_color=hide_color,
            top_labels=None,
            num_features=10,
            num_samples=150,
            segmentation_fn=lambda pixels: superpixels(pixels, 7),
            random_seed=7,
        )
        _, theirs = explanation.get_image_and_mask(
            int(classes[row]), positive_only=False, num_features=10
        )
        assert np.array_equal(masks[row], theirs)
    again = explain(extractor, images[1:], classes[1:], **sampling, batch_size=13)
    assert np.array_equal(again, masks[1:])
    assert not np.array_equal(explain(extractor, images, classes, n_samples=20), masks)


def test_classes_must_exist(lime, image, planted):
    with pytest.raises(UserError, match="classes 0 to 1"):
        explain(linear_extractor(image, planted), image[None], np.array([2]))


def test_without_lime_one_line_says_what_to_install(monkeypatch, tiny_extractor, image):
    for name in ("lime", "lime.lime_base"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"needs lime.*pip install -r requirements-extras.txt"):
        explain(tiny_extractor, image[None], np.array([0]))


def test_overlap_of_explanations():
    clean = np.array([[[1, 1], [-1, 0]], [[0, -1], [0, 0]]], np.int8)
    attacked = np.array([[[1, -1], [1, 0]], [[0, 0], [-1, 0]]], np.int8)
    np.testing.assert_allclose(support_overlap(clean, attacked), [1 / 3, 1])


def test_agreement_of_explanations_and_attention():
    """The reference enlarges attention by torch, one image after the other."""
    rng = np.random.default_rng(0)
    masks = rng.integers(-1, 2, (5, 24, 20)).astype(np.int8)
    maps = rng.normal(size=(5, 3, 5))
    masks[1] = np.minimum(masks[1], 0)
    maps[2] = -1 - np.abs(maps[2])
    agreement = attention_agreement(masks, maps)
    large = functional.interpolate(torch.from_numpy(maps)[:, None], (24, 20), mode="bilinear")
    for row in range(5):
        support = masks[row] > 0
        threshold = np.sort(large[row, 0].ravel())[::-1][max(support.sum() - 1, 0)]
        attended = large[row, 0].numpy() >= threshold - 1e-12
        if row in (1, 2):
            assert np.isnan(agreement[row])
        else:
            expected = (support & attended).sum() / (support | attended).sum()
            assert agreement[row] == pytest.approx(expected, abs=0.02)


def test_attention_that_is_the_explanation():
    masks = np.zeros((1, 8, 8), np.int8)
    masks[0, :4, 4:] = 1
    maps = np.array([[[0.0, 1.0], [0.0, 0.0]]])
    assert attention_agreement(masks, maps) > 0.85
    assert attention_agreement(masks, -maps + 0.1) == 0
    with pytest.raises(ValueError, match="1 masks, 2 maps"):
        attention_agreement(masks, np.repeat(maps, 2, axis=0))
