"""Storage in 8 bits: rounding, truncation as published, budgets, lossless files."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.artifacts.errors import UserError
from src.attacks.attack import Budget
from src.attacks.storage import norms, to_levels, to_pixels, write_images
from src.datasets.image_files import read_image
from src.extractors.extractor import IMAGENET_MEAN, IMAGENET_STD

LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
"""Every grey level once in every channel."""


@pytest.mark.parametrize(
    ("eps", "change"),
    [(4, 0), (-4, -1), (8, 1), (-8, -2), (16, 3), (-16, -4)],
)
def test_the_published_quantiser(eps, change):
    """A red pixel p is changed by eps/255 after normalisation, truncated and clipped."""
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    attacked = (to_pixels(LEVELS) - mean) / std + eps / 255
    stored = to_levels((attacked * std + mean).clamp(0, 1), LEVELS, "truncate")[..., 0].ravel()
    expected = (np.arange(256) + change).clip(0, 255)
    assert (stored == expected).sum() >= 250
    assert (stored == expected)[8:-8].mean() > 0.99


def test_truncation_of_an_unchanged_image_lowers_some_levels_and_rounding_none():
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    again = ((to_pixels(LEVELS) - mean) / std * std + mean).clamp(0, 1)
    change = to_levels(again, LEVELS, "truncate").astype(int) - LEVELS
    assert set(np.unique(change)) == {-1, 0}
    assert (change < 0).reshape(-1, 3).any(axis=0).all()
    assert np.array_equal(to_levels(again, LEVELS), LEVELS)


def test_pixels_and_levels_are_inverse():
    pixels = to_pixels(LEVELS)
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[0, 0].flatten(), torch.arange(256) / 255)
    assert np.array_equal(to_levels(pixels, LEVELS), LEVELS)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    eps=st.floats(1, 20),
    norm=st.sampled_from(["inf", "2", "1"]),
)
def test_rounding_keeps_every_budget(seed, eps, norm):
    generator = np.random.default_rng(seed)
    clean = generator.integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    change = generator.normal(size=clean.shape)
    budget = Budget(eps * (1 if norm == "inf" else 10), norm)
    change *= (budget.eps / norms(change, budget.order))[:, None, None, None]
    images = torch.from_numpy(((clean + change).clip(0, 255) / 255).transpose(0, 3, 1, 2))
    levels = to_levels(images.float(), clean, "round", budget)
    stored = levels.astype(np.int64) - clean
    assert (norms(stored, budget.order) <= budget.eps + 1e-9).all()
    # No budget is wasted: no coordinate is a whole level from its target.
    wanted = (clean + change).clip(0, 255) - clean
    assert (np.abs(stored - wanted) < 1 + 1e-3).all()


def test_a_whole_budget_is_used_up_to_the_last_level():
    clean = np.full((1, 2, 2, 3), 100, np.uint8)
    images = torch.full((1, 3, 2, 2), 108 / 255 + 1e-7)
    assert (to_levels(images, clean, "round", Budget(8)) == 108).all()
    # 8.5 levels may become 8, never 9.
    images = torch.full((1, 3, 2, 2), 108.6 / 255)
    assert (to_levels(images, clean, "round", Budget(8.6)) == 108).all()


def test_an_l2_budget_pays_for_the_largest_fractions_first():
    clean = np.full((1, 1, 1, 3), 100, np.uint8)
    images = torch.tensor([101.9, 101.7, 100.6]).view(1, 3, 1, 1) / 255
    # Nearest is (2, 2, 1) with norm 3. Under 2.3 only the first can be rounded up: (2, 1, 0).
    budget = Budget(2.3, "2")
    assert to_levels(images, clean, "round", budget).ravel().tolist() == [102, 101, 100]
    assert to_levels(images, clean, "round", Budget(3, "2")).ravel().tolist() == [102, 102, 101]


def test_files_are_lossless_rgb(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (2, 7, 9, 3), dtype=np.uint8)
    write_images(tmp_path / "images", [4, 17], levels, levels, Budget(1))
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["17.tiff", "4.tiff"]
    image, note = read_image(tmp_path / "images" / "17.tiff")
    assert np.array_equal(image, levels[1])
    assert note is None


def test_a_change_over_its_budget_is_refused(tmp_path):
    clean = np.full((1, 4, 4, 3), 50, np.uint8)
    with pytest.raises(UserError, match=r"3\.tiff: changed by 9\.000"):
        write_images(tmp_path, [3], clean + 9, clean, Budget(8))
