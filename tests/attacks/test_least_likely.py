"""Attacks towards the least likely class, beside hand computations and loops."""

import numpy as np
import pytest
import torch
from torch import nn

from src.attacks.goals import ClassGoal
from src.attacks.least_likely import (
    half_sign_start,
    least_likely,
    smoothed_cross_entropy,
    towards_least_likely,
)
from src.attacks.registry import IterLL, RandomStepLL, StepLL
from tests.victims import FunctionVictim

EPS = 8 / 255
N, CLASSES = 6, 5
UNTARGETED = ClassGoal(torch.zeros(N, dtype=torch.int64), targeted=False)
ATTACKS = (StepLL(8), RandomStepLL(8), IterLL(8))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(32, CLASSES))


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 9, CLASSES))


@pytest.fixture
def images() -> torch.Tensor:
    noise = torch.rand(N, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    noise[0], noise[1] = 0, 1
    return noise


def step_by_hand(linear: nn.Module, start: torch.Tensor, target: int, eps: float) -> np.ndarray:
    """Take one step on a linear classifier, whose smoothed loss has the gradient W^T (p - q)."""
    weight = linear[1].weight.detach().double().numpy()
    bias = linear[1].bias.detach().double().numpy()
    x = start.double().numpy()
    logits = weight @ x.ravel() + bias
    p = np.exp(logits - logits.max())
    q = np.full(CLASSES, 0.1 / CLASSES)
    q[target] += 0.9
    gradient = (weight.T @ (p / p.sum() - q)).reshape(x.shape)
    return np.clip(x - eps * np.sign(gradient), 0, 1)


def test_the_least_likely_class_has_the_smallest_logit():
    logits = torch.tensor([[3.0, -1, 2], [0, 5, 0.5]])
    assert least_likely(logits).tolist() == [1, 0]


def test_the_loss_spreads_a_tenth_of_the_label_over_all_classes():
    logits = torch.tensor([[3.0, -1, 2, 0], [0, 5, 0.5, 1]])
    classes = torch.tensor([1, 3])
    log_p = logits.log_softmax(dim=1)
    expected = [float(-(0.9 * log_p[i, c] + 0.1 * log_p[i].mean())) for i, c in enumerate(classes)]
    assert smoothed_cross_entropy(logits, classes).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_random_start_is_a_corner_of_the_half_ball(images):
    start = half_sign_start(images, EPS, torch.Generator().manual_seed(3))
    again = half_sign_start(images, EPS, torch.Generator().manual_seed(3))
    assert torch.equal(start, again)
    assert start.min() >= 0 and start.max() <= 1
    inside = (images > EPS) & (images < 1 - EPS)
    torch.testing.assert_close(
        (start - images)[inside].abs(), torch.full((), EPS / 2).expand(int(inside.sum()))
    )
    up = (start > images)[inside].float().mean()
    assert 0.4 < up < 0.6
    free = half_sign_start(images, EPS, torch.Generator().manual_seed(3), box=None)
    torch.testing.assert_close((free - images).abs(), torch.full_like(images, EPS / 2))


def test_the_step_on_a_linear_classifier_is_the_one_computed_by_hand(linear, images):
    attacked = StepLL(8)(FunctionVictim(linear), images, UNTARGETED)
    for image, found in zip(images, attacked, strict=True):
        target = int(linear(image[None]).argmin())
        np.testing.assert_allclose(found, step_by_hand(linear, image, target, EPS), atol=1e-6)


def test_the_random_step_keeps_the_target_of_the_clean_image(linear, images):
    linear[1].weight.data.mul_(20)  # a step of half the budget changes which class is least likely
    torch.manual_seed(11)
    attacked = RandomStepLL(8)(FunctionVictim(linear), images, UNTARGETED)
    start = half_sign_start(images, EPS, torch.Generator().manual_seed(11))
    targets, targets_there = (least_likely(linear(x)) for x in (images, start))
    assert (targets != targets_there).any()
    for row in range(N):
        expected = step_by_hand(linear, start[row], int(targets[row]), EPS / 2)
        np.testing.assert_allclose(attacked[row], expected, atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_the_least_likely_class_becomes_likelier(network, images, attack):
    torch.manual_seed(0)
    attacked = attack(FunctionVictim(network), images, UNTARGETED)
    targets = least_likely(network(images))
    before, after = (smoothed_cross_entropy(network(x), targets) for x in (images, attacked))
    assert (after < before).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("box", [(0.0, 1.0), None])
def test_attacks_stay_in_the_ball_and_in_the_box(network, images, attack, box):
    attacked = attack(FunctionVictim(network, box), images, UNTARGETED)
    assert (attacked - images).abs().max() <= EPS + 1e-6
    assert not attacked.requires_grad
    if box:
        assert attacked.min() >= 0 and attacked.max() <= 1
    else:
        assert attacked[0].min() < 0 and attacked[1].max() > 1
    assert all(parameter.grad is None for parameter in network.parameters())


def test_small_steps_get_further_than_one(network, images):
    network[0].weight.data.mul_(30)  # bends the loss within the budget
    targets = least_likely(network(images))
    one, many = (
        smoothed_cross_entropy(
            network(attack(FunctionVictim(network), images, UNTARGETED)), targets
        ).mean()
        for attack in (StepLL(8), IterLL(8))
    )
    assert many < one


def test_images_do_not_meet(network, images):
    together = IterLL(8)(FunctionVictim(network), images, UNTARGETED)
    for row in range(N):
        alone = IterLL(8)(FunctionVictim(network), images[row : row + 1], UNTARGETED)
        assert ((alone[0] - together[row]).abs() > 1e-6).float().mean() < 0.01


@pytest.mark.parametrize(
    ("levels", "steps"), [(0.5, 1), (2, 3), (4, 5), (8, 10), (16, 20), (32, 36), (255, 259)]
)
def test_the_number_of_small_steps_is_that_of_the_paper(levels, steps):
    assert IterLL(levels).steps == steps


def test_the_number_of_steps_and_their_size_can_be_chosen(network, images):
    short = IterLL(8, eps_iter=1, nb_iter=3)(FunctionVictim(network), images, UNTARGETED)
    assert (short - images).abs().max() == pytest.approx(3 / 255, abs=1e-6)
    same = towards_least_likely(FunctionVictim(network), images, UNTARGETED, EPS, 1 / 255, 3)
    assert torch.equal(short, same)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_they_choose_their_target_themselves(network, images, attack):
    with pytest.raises(ValueError, match="untargeted"):
        attack(FunctionVictim(network), images, ClassGoal(UNTARGETED.classes))
