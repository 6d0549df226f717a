"""Places of samples that bound a median, by hand; smoothed scores stay within their bounds."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from src.defences.median_smoothing import smoothed_bounds, upper_place


@pytest.mark.parametrize(("shift", "place"), [(0.25, 647), (0.5, 737), (1, 877)])
def test_places_by_hand(shift, place):
    """A thousand samples and an error of a thousandth; lower bounds are at 354, 264 and 124."""
    assert upper_place(1000, shift, 0.001) == place
    assert binom.sf(place - 1, 1000, norm.cdf(shift)) <= 0.001
    assert binom.sf(place - 2, 1000, norm.cdf(shift)) > 0.001
    scores = np.random.default_rng(0).permutation(1000.0 + np.arange(1000))
    bounds = smoothed_bounds(scores, shift, 1)
    assert (bounds.low, bounds.high) == (1000 + 1000 - place, 1000 + place - 1)
    assert bounds.median == 1499


def test_more_bounds_at_once_are_wider_and_too_many_have_no_end():
    scores = np.random.default_rng(0).normal(size=(3, 100))
    alone, many = (smoothed_bounds(scores, 0.5, 1, n) for n in (1, 1000))
    assert (alone.high < many.high).all() and (many.low < alone.low).all()
    endless = smoothed_bounds(scores, 3, 1)
    assert np.isinf(endless.high).all() and np.isinf(endless.low).all()
    np.testing.assert_array_equal(endless.median, np.sort(scores)[:, 49])


def test_smoothed_scores_of_ten_thousand_perturbations_stay_within_their_bounds():
    """All images meet the same draws of the noise; the score is no linear function of 12 pixels."""
    generator = torch.Generator().manual_seed(0)
    hidden, out = (torch.randn(size, generator=generator) for size in ((12, 16), (16,)))
    image, eps, sigma = torch.rand(12, generator=generator), 0.25, 0.5
    noise = sigma * torch.randn(1000, 12, generator=generator)

    def scores(point: torch.Tensor) -> torch.Tensor:
        return ((point + noise) @ hidden).relu() @ out

    bounds = smoothed_bounds(scores(image).numpy(), eps, sigma)
    ascent = torch.autograd.functional.jacobian(lambda point: scores(point).mean(), image)
    directions = torch.randn(10_000, 12, generator=generator)
    directions[0], directions[1] = ascent, -ascent
    steps = eps * directions / directions.norm(dim=1, keepdim=True)
    medians = torch.stack([scores(image + step).median() for step in steps]).numpy()
    assert bounds.low <= medians.min() < bounds.median < medians.max() <= bounds.high
    assert medians.max() == medians[0], "no random direction is as good as the ascent"
