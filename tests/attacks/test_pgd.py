"""Projected gradient descent: budget, range, stops, and comparison with CleverHans."""

import pytest
import torch
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import nn

from src.attacks.pgd import limit, pgd, random_start, steepest

EPS = 8 / 255


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(32, 5))


@pytest.fixture
def images() -> torch.Tensor:
    noise = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    noise[0], noise[1] = 0, 1
    return noise


def raise_loss(network: nn.Module, labels: torch.Tensor):
    return lambda points: -nn.functional.cross_entropy(network(points), labels, reduction="none")


@pytest.mark.parametrize(("step", "steps"), [(2 / 255, 10), (EPS, 1), (1 / 255, 3)])
def test_it_is_the_pgd_of_cleverhans(network, images, step, steps):
    """Rounding may turn the sign of a gradient that is nearly zero."""
    labels = torch.arange(6) % 5
    theirs = projected_gradient_descent(
        network,
        images,
        EPS,
        step,
        steps,
        float("inf"),
        clip_min=0.0,
        clip_max=1.0,
        y=labels,
        rand_init=False,
        sanity_checks=False,
    )
    ours = pgd(images, raise_loss(network, labels), EPS, step, steps)
    assert ((ours - theirs.detach()).abs() > 1e-6).float().mean() < 0.01


@pytest.mark.parametrize("start", ["clean", "random"])
def test_points_stay_in_the_ball_and_in_range(network, images, start):
    labels = torch.zeros(6, dtype=torch.int64)
    first = (
        random_start(images, EPS, torch.Generator().manual_seed(0)) if start == "random" else None
    )
    points = pgd(images, raise_loss(network, labels), EPS, 5 / 255, 7, start=first)
    assert not points.requires_grad
    assert points.min() >= 0 and points.max() <= 1
    assert (points - images).abs().max() <= EPS + 1e-7
    assert (points - images).abs().mean() > EPS / 2


def test_another_range_than_that_of_pixels(images):
    points = pgd(images - 3, lambda points: points.sum(), 10.0, 1.0, 20, box=(-3.5, -2.0))
    torch.testing.assert_close(points, torch.full_like(points, -3.5))


def test_parameters_get_no_gradient_and_keep_their_flags(network, images):
    pgd(images, raise_loss(network, torch.zeros(6, dtype=torch.int64)), EPS, 1 / 255, 2)
    for parameter in network.parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
    assert not images.requires_grad


def test_an_image_does_not_depend_on_its_batch(network, images):
    """In double precision rounding turns no sign of a gradient."""
    network, images = network.double(), images.double()
    labels = torch.arange(6) % 5
    together = pgd(images, raise_loss(network, labels), EPS, 2 / 255, 5)
    alone = pgd(images[2:3], raise_loss(network, labels[2:3]), EPS, 2 / 255, 5)
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-12)


def test_no_budget_and_no_gradient_leave_images_as_they_are(network, images):
    assert torch.equal(pgd(images, lambda points: points.sum(), 0.0, 0.1, 3), images)
    assert torch.equal(pgd(images, lambda points: (points * 0).sum(), EPS, 0.1, 3), images)
    assert torch.equal(pgd(images, lambda points: points.sum(), EPS, 0.1, 0), images)


def test_random_starts_fill_the_ball_and_repeat(images):
    grey = torch.full((4, 3, 32, 32), 0.5)
    start = random_start(grey, EPS, torch.Generator().manual_seed(3))
    moved = start - grey
    assert moved.min() >= -EPS - 1e-7 and moved.max() <= EPS + 1e-7
    assert moved.std() == pytest.approx(EPS / 3**0.5, rel=0.02)
    assert torch.equal(start, random_start(grey, EPS, torch.Generator().manual_seed(3)))
    edges = random_start(images, EPS, torch.Generator().manual_seed(3))
    assert edges.min() >= 0 and edges.max() <= 1


@pytest.mark.parametrize("order", [float("inf"), 2, 1])
def test_the_limited_change_is_the_nearest_in_the_ball(order):
    generator = torch.Generator().manual_seed(5)
    change = torch.randn(4, 3, 5, 5, generator=generator)
    change[0] *= 1e-3
    change[1] = 0
    eps = 2.0
    nearest = limit(change, eps, order)
    assert torch.equal(nearest[:2], change[:2])
    assert (nearest.flatten(1).norm(order, dim=1) <= eps * (1 + 1e-5)).all()
    to_nearest = (change - nearest).flatten(1).norm(dim=1)
    for _ in range(50):
        other = torch.randn(change.shape, generator=generator)
        other *= eps / other.flatten(1).norm(order, dim=1).view(-1, 1, 1, 1)
        for between in (other, (other + nearest) / 2):
            assert (to_nearest <= (change - between).flatten(1).norm(dim=1) + 1e-5).all()


@pytest.mark.parametrize("order", [float("inf"), 2, 1])
def test_the_steepest_step_has_length_1_and_gains_most(order):
    gradient = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(6))
    step = steepest(gradient, order)
    torch.testing.assert_close(step.flatten(1).norm(order, dim=1), torch.ones(4))
    dual = {float("inf"): 1, 2: 2, 1: float("inf")}[order]
    gain = (gradient * step).flatten(1).sum(dim=1)
    torch.testing.assert_close(gain, gradient.flatten(1).norm(dual, dim=1))


def test_a_share_of_the_coordinates_moves_in_l1():
    gradient = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(7))
    step = steepest(gradient, 1, 0.05)
    assert ((step != 0).flatten(1).sum(dim=1) == 15).all()
    torch.testing.assert_close(step.flatten(1).norm(1, dim=1), torch.ones(4))
    assert torch.equal(step.sign()[step != 0], gradient.sign()[step != 0])


def test_where_a_gradient_vanishes_nothing_moves():
    for order in (float("inf"), 2, 1):
        assert not steepest(torch.zeros(2, 3, 4, 4), order).any()
