"""Metrics of pixels against closed forms, brute-force loops, scikit-image and torchmetrics."""

import numpy as np
import pytest

from src.datasets.image_files import read_image
from src.metrics.image_quality import (
    IMAGE_METRICS,
    lp_norm,
    mse,
    psnr,
    ssim,
    total_variation,
)
from tests.real_data import REAL_DATA

PHOTOS = REAL_DATA / "imagenet_100"


def noise(n: int = 4, height: int = 24, width: int = 19, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, height, width, 3))


@pytest.fixture(params=["noise", "near", "photos"])
def pairs(request) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of unrelated images, of almost equal images, and of photographs with little noise."""
    if request.param == "noise":
        return noise(seed=0), noise(seed=1)
    if request.param == "photos":
        if not PHOTOS.is_dir():
            pytest.skip("no photographs here")
        files = sorted(PHOTOS.glob("*.jpg"))[:2]
        images = np.stack([read_image(file, 48)[0] for file in files]) / 255
    else:
        images = noise(seed=2)
    disturbed = images + np.random.default_rng(3).uniform(-0.03, 0.03, images.shape)
    return images, disturbed.clip(0, 1)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_every_metric_is_per_image_and_does_not_depend_on_the_batch(name):
    metric, a, b = IMAGE_METRICS[name], noise(seed=0), noise(seed=1)
    together = metric(a, b)
    assert together.shape == (4,) and together.dtype == np.float64
    alone = [metric(a[i : i + 1], b[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(metric(a[::-1], b[::-1]), together[::-1], rtol=1e-12)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_every_metric_says_which_way_it_points(name):
    metric, a = IMAGE_METRICS[name], np.full((1, 16, 16, 3), 0.5)
    rough = noise(1, 16, 16) - 0.5
    little, much = (metric(a, a + size * rough)[0] for size in (0.1, 0.9))
    if name != "l0":  # which only counts
        assert metric.higher_is_closer == (little > much)
    equal = metric(a, a)[0]
    best = {"psnr": np.inf, "ssim": 1, "ssim_uniform": 1}.get(name, 0)
    assert equal == pytest.approx(best)
    assert equal >= little if metric.higher_is_closer else equal <= little


def test_a_constant_offset_has_a_known_psnr():
    a = np.full((2, 8, 8, 3), 0.25)
    offset = np.array([0.1, 0.01]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(psnr(a, a + offset), -20 * np.log10([0.1, 0.01]))
    np.testing.assert_allclose(mse(a, a + offset), [1e-2, 1e-4])


def test_pixels_are_measured_as_scikit_image_measures_them(pairs):
    reference = pytest.importorskip("skimage.metrics")
    a, b = pairs
    singles = list(zip(a, b, strict=True))
    expected = {
        "mse": [reference.mean_squared_error(*pair) for pair in singles],
        "psnr": [reference.peak_signal_noise_ratio(*pair, data_range=1) for pair in singles],
        "ssim_uniform": [
            reference.structural_similarity(*pair, data_range=1, channel_axis=2) for pair in singles
        ],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(IMAGE_METRICS[name](a, b), values, rtol=0, atol=1e-5)


def test_gaussian_ssim_is_that_of_torchmetrics(pairs):
    functional = pytest.importorskip("torchmetrics.functional.image")
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(images).permute(0, 3, 1, 2) for images in pairs]
    expected = functional.structural_similarity_index_measure(
        *tensors, data_range=1.0, reduction="none"
    )
    np.testing.assert_allclose(ssim(*pairs), expected.numpy(), rtol=0, atol=1e-4)


def test_ssim_is_that_of_a_loop_over_windows():
    a, b = noise(1, 9, 8, seed=0), noise(1, 9, 8, seed=1)
    values = []
    for channel in range(3):
        for top in range(3):
            for left in range(2):
                x = a[0, top : top + 7, left : left + 7, channel].ravel()
                y = b[0, top : top + 7, left : left + 7, channel].ravel()
                covariance = np.cov(x, y)
                luminance = (2 * x.mean() * y.mean() + 1e-4) / (
                    x.mean() ** 2 + y.mean() ** 2 + 1e-4
                )
                structure = (2 * covariance[0, 1] + 9e-4) / (np.trace(covariance) + 9e-4)
                values.append(luminance * structure)
    np.testing.assert_allclose(ssim(a, b, window="uniform"), [np.mean(values)], rtol=1e-10)


@pytest.mark.parametrize("p", [0, 1, 2, np.inf])
def test_norms_are_those_of_the_flattened_change(p):
    a, b = noise(seed=0), noise(seed=1)
    b[:, 0] = a[:, 0]
    expected = [np.linalg.norm((y - x).ravel(), p) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(lp_norm(a, b, p), expected)


def test_the_total_variation_of_a_step_is_known():
    """Half of the columns are higher by 1: one of width - 1 differences in each row is 1."""
    steps = np.zeros((2, 6, 10, 3))
    steps[0, :, 5:] = 1
    steps[1, 2:] = 0.5
    np.testing.assert_allclose(total_variation(steps), [1 / 9, 0.5 / 5])
    np.testing.assert_allclose(total_variation(steps[1:]), [0.1])


def test_what_cannot_be_compared_is_said():
    with pytest.raises(ValueError, match="cannot be compared"):
        mse(noise(2), noise(3))
    with pytest.raises(ValueError, match="cannot be compared"):
        mse(noise()[0], noise()[0])
    with pytest.raises(ValueError, match="smaller than a window"):
        ssim(noise(1, 10, 32), noise(1, 10, 32))
