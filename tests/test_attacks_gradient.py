"""FGSM, PGD, SPSA, noise, restarts and freezing."""

import math

import numpy as np
import pytest
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from cleverhans.torch.attacks.spsa import spsa
from torch import nn

from src.artifacts.errors import UserError
from src.attacks.freezing import frozen
from src.attacks.goals import CountedLogits, Goal
from src.attacks.gradient_sign import FGSM, PGD
from src.attacks.noise import Noise
from src.attacks.repeated import Rechecked, Restarted
from src.attacks.spsa import SPSA
from src.attacks.victim import Victim
from src.extractors.extractor import Extractor

EPS = 8 / 255
BOX = (0.0, 1.0)


@pytest.fixture
def extractor():
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 6),
    )
    network[1].running_mean.uniform_(-0.1, 0.1)
    network[-1].weight.data *= 5
    return Extractor(network, [f"class {n}" for n in range(6)], arch="tiny").eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (5, 3, 16, 16), generator=generator) / 255


@pytest.fixture
def goal(extractor, images):
    return Goal(extractor(images).logits.argsort(dim=1)[:, -2])


def raw(extractor):
    return lambda x: extractor.network((x - extractor.mean) / extractor.std)


@pytest.mark.parametrize("norm", [math.inf, 2, 1])
@pytest.mark.parametrize("targeted", [True, False])
def test_fgsm_is_bitwise_cleverhans(extractor, images, goal, norm, targeted):
    theirs = fast_gradient_method(
        raw(extractor), images, EPS, norm, 0, 1, y=goal.classes, targeted=targeted
    )
    victim = Victim.of(extractor)
    with frozen(*victim.networks):
        ours = FGSM(EPS, norm)(victim.logits, images, Goal(goal.classes, targeted), victim.box)
    assert torch.equal(ours, theirs)
    assert not ours.requires_grad
    assert not torch.equal(ours, images)


@pytest.mark.parametrize("norm", [math.inf, 2])
@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_is_bitwise_cleverhans(extractor, images, goal, norm, random_start):
    arguments = (EPS, EPS / 6, 10, norm, 0, 1)
    torch.manual_seed(7)
    theirs = projected_gradient_descent(
        raw(extractor), images, *arguments, y=goal.classes, targeted=True, rand_init=random_start
    )
    victim = Victim.of(extractor)
    torch.manual_seed(7)
    with frozen(*victim.networks):
        attack = PGD(EPS, EPS / 6, 10, norm, random_start)
        ours = attack(victim.logits, images, goal, victim.box)
    assert torch.equal(ours, theirs)
    assert victim.logits.passes == 10 * len(images)
    assert (ours - images).flatten(1).norm(norm, dim=1).max() <= EPS * (1 + 1e-5)
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_pgd_depends_on_its_random_start_and_gets_nearer_to_its_goal(extractor, images, goal):
    def cross_entropy(attacked):
        return nn.functional.cross_entropy(extractor(attacked).logits, goal.classes)

    victim = Victim.of(extractor)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(PGD(EPS, EPS / 6)(victim.logits, images, goal, BOX))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert cross_entropy(runs[0]) < 0.8 * cross_entropy(images)


def test_the_normalised_space_is_the_published_one(extractor, images, goal):
    """Bitwise CleverHans on normalised points, without clipping."""
    normalised = (images - extractor.mean) / extractor.std
    theirs = fast_gradient_method(
        extractor.network, normalised, EPS, np.inf, y=goal.classes, targeted=True
    )
    victim = Victim.of(extractor, "normalised")
    assert victim.box is None
    points = victim.to_points(images)
    ours = FGSM(EPS)(victim.logits, points, goal, victim.box)
    assert torch.equal(ours, theirs)
    assert victim.to_images(ours).min() >= 0
    torch.testing.assert_close(victim.to_images(points), images)


def test_the_tuned_victim_agrees_but_for_rounding(extractor, images, goal):
    tuned, exact = Victim.of(extractor, fast=True), Victim.of(extractor)
    torch.testing.assert_close(tuned.logits(images), exact.logits(images))
    assert not tuned.networks[1].network.get_submodule("0").weight.requires_grad
    ours = FGSM(EPS)(tuned.logits, images, goal, BOX)
    assert (ours == FGSM(EPS)(exact.logits, images, goal, BOX)).float().mean() > 0.999
    assert torch.equal(tuned.exact(images), exact.exact(images))


def test_a_gradient_that_vanishes_is_explained(images):
    constant = nn.Linear(3 * 16 * 16, 2)
    nn.init.zeros_(constant.weight)
    network = nn.Sequential(nn.Flatten(), constant)
    with pytest.raises(UserError, match="--l inf"):
        FGSM(EPS, 1)(network, images, Goal(torch.zeros(5, dtype=torch.int64)), BOX)


def test_spsa_probes_around_its_iterate(images):
    """The gradient of a quadratic depends on where it is estimated: at 2x it points elsewhere."""
    center = 0.5

    def near_center(points):
        far = (points - center).pow(2).sum(dim=(1, 2, 3))
        return torch.stack([far, torch.zeros_like(far)], dim=1)

    image = torch.full((1, 3, 4, 4), 0.45)
    goal = Goal(torch.tensor([1]))
    torch.manual_seed(0)
    attack = SPSA(eps=0.1, steps=60, samples=64)
    ours = attack(near_center, image, goal, BOX)
    torch.manual_seed(0)
    theirs = spsa(
        near_center, image, 0.1, 60, y=goal.classes, targeted=True, spsa_samples=64,
        clip_min=0, clip_max=1, sanity_checks=False,
    )  # fmt: skip
    # From 0.45 the way to 0.5 is upwards; 2 * 0.45 lies beyond it, so CleverHans goes down.
    assert (ours - center).abs().mean() < 0.02
    assert (theirs - center).abs().mean() > 0.1


def test_spsa_needs_no_gradient_and_keeps_its_budget(extractor, images, goal):
    def blind(points):
        assert not points.requires_grad
        return extractor(points).logits.detach()

    logits = CountedLogits(blind)
    attacked = SPSA(EPS, steps=20, samples=32)(logits, images, goal, BOX)
    assert logits.passes == len(images) * 20 * 65
    assert (attacked - images).abs().max() <= EPS + 1e-6

    def margin(points):
        return extractor(points).logits.gather(1, goal.classes[:, None]).mean()

    assert margin(attacked) > margin(images)


def test_noise_has_the_attacks_size_and_knows_nothing(images, goal):
    inner = images.clamp(0.2, 0.8)
    noisy = Noise(EPS)(None, inner, goal, BOX)
    torch.testing.assert_close((noisy - inner).abs(), torch.full_like(inner, EPS))
    assert abs(float((noisy > inner).float().mean()) - 0.5) < 0.05
    assert Noise(0.5)(None, images, goal, BOX).max() <= 1


def test_restarts_keep_the_first_success_and_leave_it_alone(images):
    seen = []

    def jump(logits, points, goal, box):
        seen.append(len(points))
        return points + len(seen)

    def logits(points):
        """Image n is there once it has been moved n times."""
        moved = (points - images[: len(points)]).mean(dim=(1, 2, 3)).round()
        if len(points) < len(images):
            moved = torch.full((len(points),), float(len(seen)))
        needed = torch.arange(len(images))[-len(points) :]
        return torch.stack([torch.full_like(moved, 0.5), (moved >= needed).float()], dim=1)

    goal = Goal(torch.ones(5, dtype=torch.int64))
    attacked = Restarted(jump, 3)(logits, images, goal, BOX)
    assert seen == [5, 3, 2]
    moved = (attacked - images).mean(dim=(1, 2, 3)).round()
    assert moved.tolist() == [1, 1, 2, 3, 3]


def test_what_only_the_tuned_network_believes_is_done_again_exactly(images):
    def tuned(points):
        return torch.tensor([[0.0, 1.0]]).expand(len(points), 2)

    def exact(points):
        fooled = points.mean(dim=(1, 2, 3)) > 5
        return torch.stack([~fooled, fooled], dim=1).float()

    def attack(logits, points, goal, box):
        return points + (10 if logits is exact else 1)

    images = images.clone()
    images[2] += 10
    attacked = Rechecked(attack, exact)(tuned, images, Goal(torch.ones(5, dtype=torch.int64)), BOX)
    assert (attacked - images).mean(dim=(1, 2, 3)).round().tolist() == [10, 10, 1, 10, 10]


def test_freezing_restores_every_module_and_parameter(extractor):
    network = extractor.network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    with pytest.raises(RuntimeError, match="inside"), frozen(extractor):
        assert not any(module.training for module in extractor.modules())
        assert not any(parameter.requires_grad for parameter in extractor.parameters())
        raise RuntimeError("inside")
    assert network.training
    assert network[2].training
    assert not network[1].training
    assert not network[0].weight.requires_grad
    assert network[0].bias.requires_grad


def test_frozen_attacks_leave_no_weight_gradients(extractor, images, goal):
    with frozen(extractor):
        PGD(EPS, EPS / 6, 2)(lambda x: extractor(x).logits, images, goal, BOX)
    assert all(parameter.grad is None for parameter in extractor.parameters())
    assert all(parameter.requires_grad for parameter in extractor.parameters())


@pytest.mark.parametrize("targeted", [True, False])
def test_the_goal_is_reached_by_a_margin(targeted):
    logits = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.4, 0.0], [0.0, 3.0, 1.0]])
    goal = Goal(torch.tensor([1, 1, 1]), targeted)
    assert goal.reached(logits).tolist() == (
        [False, True, True] if targeted else [True, False, False]
    )
    assert goal.reached(logits, confidence=0.5).tolist() == (
        [False, False, True] if targeted else [True, False, False]
    )
