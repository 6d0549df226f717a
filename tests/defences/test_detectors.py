"""Detectors: scores by hand, thresholds at 1 % false alarms, texts."""

import numpy as np
import pytest
import torch

from src.artifacts.errors import UserError
from src.artifacts.experiments import check_name
from src.datasets.image_set import ImageArray, ImageSet
from src.defences.detectors import Guard, Neighbours, Squeeze, parse_detector
from src.defences.registry import Bits, MedianFilter
from src.measures.detection import detection


def test_a_squeeze_scores_the_relative_change_of_features():
    features = torch.tensor([[3.0, 4], [3, 4]])
    squeezed = torch.tensor([[3.0, 4], [0, 0]])
    scores = Squeeze(Bits(4)).score(features, squeezed)
    torch.testing.assert_close(scores, torch.tensor([0.0, 1]), atol=1e-5, rtol=0)


def test_neighbours_score_the_mean_distance_of_directions():
    detector = Neighbours(k=2).fitted(torch.tensor([[1.0, 0], [0, 1], [-1, 0]]))
    scores = detector.score(torch.tensor([[5.0, 0], [1, 1]]), None)
    torch.testing.assert_close(scores[0], torch.tensor(2**0.5 / 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[1], torch.tensor((2 - 2**0.5) ** 0.5), atol=1e-4, rtol=0)


def test_more_neighbours_than_clean_images():
    with pytest.raises(UserError, match="there are 3 clean images to be near to"):
        Neighbours(k=4).fitted(torch.eye(3))


@pytest.mark.parametrize(
    "text", ["squeeze:bits:n=4", "squeeze:median_filter:side=3+bits:n=3", "neighbours:k=7"]
)
def test_texts_are_read_back(text):
    detector = parse_detector(text)
    assert detector.text == text
    check_name(detector.folder, "folder")


def test_a_squeeze_has_its_defaults():
    assert parse_detector("squeeze:median_filter") == Squeeze(MedianFilter(3))
    assert parse_detector("neighbours") == Neighbours(k=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lid", "no detector 'lid': choose from squeeze:DEFENCE"),
        ("squeeze", "no defence ''"),
        ("squeeze:jpg", "no defence 'jpg'"),
        ("squeeze:none", "a squeeze changes images, and always alike"),
        ("squeeze:random_noise", "a squeeze changes images, and always alike"),
        ("squeeze:smooth:n=3", "a squeeze changes images, and always alike"),
        ("neighbours:k=0", "write neighbours:k=NUMBER"),
        ("neighbours:n=3", "write neighbours:k=NUMBER"),
    ],
)
def test_texts_that_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_detector(text)


def catalogue(n: int) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return ImageSet.of(ImageArray(pixels), np.zeros(n, np.int64), ("thing",))


def guard_of(tiny_extractor, n: int, attacked: np.ndarray) -> Guard:
    images = catalogue(n)
    features = np.random.default_rng(1).normal(size=(n, 6)).astype(np.float32)
    return Guard.of(
        Neighbours(k=3), tiny_extractor, images, features, attacked, batch_size=8, workers=0
    )


def test_the_threshold_refuses_one_of_a_hundred_clean_images(tiny_extractor):
    guard = guard_of(tiny_extractor, 450, np.arange(50))
    assert len(guard.clean) == 200 and len(guard.detector.known) == 200
    assert (guard.clean > guard.threshold).mean() <= 0.01
    assert (guard.clean >= guard.threshold).mean() > 0.01 - 1e-9


def test_no_threshold_without_clean_images(tiny_extractor):
    with pytest.raises(
        UserError, match="needs 200 clean images that are not attacked, and there are 199"
    ):
        guard_of(tiny_extractor, 249, np.arange(50))


def test_rates_of_detection_by_hand():
    clean = np.arange(100, dtype=float)
    found = detection(clean, np.array([99.5, 97.0, 90.5, 0.0]))
    assert (found["detected"], found["detected_5"], found["detected_10"]) == (0.25, 0.5, 0.75)
    assert detection(clean, clean)["auc"] == pytest.approx(0.5)
    assert detection(clean, clean + 1000)["auc"] == 1
