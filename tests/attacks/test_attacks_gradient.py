"""FGSM, PGD, SPSA, noise, restarts and freezing."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from cleverhans.torch.attacks.spsa import spsa
from torch import nn
from torchvision.transforms.functional import normalize

from src.artifacts.errors import UserError
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.registry import CW, DDN, FGSM, PGD, SPSA, AutoAttack, MarginPGD, Noise
from src.attacks.repeated import Rechecked, Restarted
from src.attacks.storage import to_levels
from src.attacks.victim import ExtractorVictim
from src.extractors.extractor import Extractor
from tests.victims import FunctionVictim, predicted

EPS = 8 / 255
NORMS = {"inf": math.inf, "2": 2, "1": 1}
ENGINES = ("own", "cleverhans")


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
    return Extractor(network, [f"class {n}" for n in range(6)], "5", arch="tiny").eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (5, 3, 16, 16), generator=generator) / 255


@pytest.fixture
def goal(extractor, images):
    return ClassGoal(extractor(images).logits.argsort(dim=1)[:, -2])


def raw(extractor):
    return lambda x: extractor.network((x - extractor.mean) / extractor.std)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_fgsm_is_bitwise_cleverhans(extractor, images, goal, norm, targeted, engine):
    theirs = fast_gradient_method(
        raw(extractor), images, EPS, NORMS[norm], 0, 1, y=goal.classes, targeted=targeted
    )
    victim = ExtractorVictim(extractor)
    with frozen(*victim.networks):
        ours = FGSM(8, norm=norm, engine=engine)(victim, images, ClassGoal(goal.classes, targeted))
    assert torch.equal(ours, theirs)
    assert not ours.requires_grad
    assert not torch.equal(ours, images)


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_pgd_is_bitwise_cleverhans(extractor, images, goal, norm, random_start, engine):
    arguments = (EPS, 8 / 6 / 255, 10, NORMS[norm], 0, 1)
    torch.manual_seed(7)
    theirs = projected_gradient_descent(
        raw(extractor), images, *arguments, y=goal.classes, targeted=True, rand_init=random_start
    )
    victim = ExtractorVictim(extractor)
    torch.manual_seed(7)
    with frozen(*victim.networks):
        attack = PGD(8, norm, random_start=random_start, engine=engine)
        ours = attack(victim, images, goal)
    assert torch.equal(ours, theirs)
    assert victim.passes == 10 * len(images)
    assert (ours - images).flatten(1).norm(NORMS[norm], dim=1).max() <= EPS * (1 + 1e-5)
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_pgd_depends_on_its_random_start_and_gets_nearer_to_its_goal(extractor, images, goal):
    def cross_entropy(attacked):
        return nn.functional.cross_entropy(extractor(attacked).logits, goal.classes)

    victim = ExtractorVictim(extractor)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(PGD(8)(victim, images, goal))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert cross_entropy(runs[0]) < 0.8 * cross_entropy(images)


def test_the_normalised_space_is_the_published_one(extractor, images, goal):
    """The result equals CleverHans' bit for bit on normalised points, without clipping."""
    normalised = (images - extractor.mean) / extractor.std
    theirs = fast_gradient_method(
        extractor.network, normalised, EPS, np.inf, y=goal.classes, targeted=True
    )
    victim = ExtractorVictim(extractor, "normalised")
    assert victim.box is None
    points = victim.to_points(images)
    ours = FGSM(8)(victim, points, goal)
    assert torch.equal(ours, theirs)
    assert victim.to_images(ours).min() >= 0
    torch.testing.assert_close(victim.to_images(points), images)


def test_truncated_images_lose_the_levels_that_the_published_code_loses(extractor):
    """It calls torchvision's ``normalize`` twice."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    victim = ExtractorVictim(extractor.replaced(mean=mean, std=std), "normalised")
    levels = torch.arange(256).expand(1, 3, 1, 256)
    images = victim.to_images(victim.to_points(levels / 255))
    clean = levels.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    stored = to_levels(images, clean, "truncate")
    lost = clean.astype(int) - stored
    assert set(np.unique(lost)) == {0, 1}
    assert lost.sum(axis=(0, 1, 2)).tolist() == [104, 26, 94]
    theirs = normalize(
        normalize(levels[0] / 255, mean, std),
        [-m / s for m, s in zip(mean, std, strict=True)],
        [1 / s for s in std],
    )
    assert torch.equal(images[0], theirs.clamp(0, 1))


def test_the_tuned_victim_agrees_but_for_rounding(extractor, images, goal):
    tuned, exact = ExtractorVictim(extractor, fast=True), ExtractorVictim(extractor)
    torch.testing.assert_close(tuned(images).logits, exact(images).logits)
    assert not tuned.network.network.get_submodule("0").weight.requires_grad
    ours = FGSM(8)(tuned, images, goal)
    assert (ours == FGSM(8)(exact, images, goal)).float().mean() > 0.999
    assert torch.equal(tuned.exact(images).logits, exact(images).logits)


def test_a_gradient_that_vanishes_is_explained(images):
    constant = nn.Linear(3 * 16 * 16, 2)
    nn.init.zeros_(constant.weight)
    network = nn.Sequential(nn.Flatten(), constant)
    victim, goal = FunctionVictim(network), ClassGoal(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(UserError, match="--l inf"):
        FGSM(8, norm="1", engine="cleverhans")(victim, images, goal)
    assert torch.equal(FGSM(8, norm="1")(victim, images, goal), images)


def test_spsa_probes_around_its_iterate(images):
    """The gradient of a quadratic depends on the point: at 2x it has another direction."""
    center = 0.5

    def near_center(points):
        far = (points - center).pow(2).sum(dim=(1, 2, 3))
        return torch.stack([far, torch.zeros_like(far)], dim=1)

    image = torch.full((1, 3, 4, 4), 0.45)
    goal = ClassGoal(torch.tensor([1]))
    torch.manual_seed(0)
    attack = SPSA(eps=25.5, nb_iter=60, batch_size=64)
    ours = attack(FunctionVictim(near_center), image, goal)
    torch.manual_seed(0)
    theirs = spsa(
        near_center, image, 0.1, 60, y=goal.classes, targeted=True, spsa_samples=64,
        clip_min=0, clip_max=1, sanity_checks=False,
    )  # fmt: skip
    # From 0.45 the step to 0.5 is upwards; 2 * 0.45 lies beyond 0.5, so CleverHans goes down.
    assert (ours - center).abs().mean() < 0.02
    assert (theirs - center).abs().mean() > 0.1


def test_spsa_needs_no_gradient_and_keeps_its_budget(extractor, images, goal):
    def blind(points):
        assert not points.requires_grad
        return extractor(points).logits.detach()

    victim = FunctionVictim(blind)
    attacked = SPSA(8, nb_iter=20, batch_size=32)(victim, images, goal)
    assert victim.passes == len(images) * 20 * 65
    assert (attacked - images).abs().max() <= EPS + 1e-6

    def margin(points):
        return extractor(points).logits.gather(1, goal.classes[:, None]).mean()

    assert margin(attacked) > margin(images)


def test_noise_has_the_attacks_size_and_knows_nothing(images, goal):
    inner = images.clamp(0.2, 0.8)
    victim = FunctionVictim(None)
    noisy = Noise(8)(victim, inner, goal)
    torch.testing.assert_close((noisy - inner).abs(), torch.full_like(inner, EPS))
    assert abs(float((noisy > inner).float().mean()) - 0.5) < 0.05
    assert Noise(127)(victim, images, goal).max() <= 1
    assert victim.passes == 0


@pytest.mark.parametrize("norm", ["2", "1"])
@pytest.mark.parametrize("eps", [3.0, 40.0, 3000.0])
def test_noise_of_other_norms_is_whole_levels_of_nearly_its_size(images, goal, norm, eps):
    noisy = Noise(eps, norm)(FunctionVictim(None), images, goal)
    change = (noisy - images) * 255
    torch.testing.assert_close(change, change.round(), rtol=0, atol=1e-3)
    assert noisy.min() >= 0 and noisy.max() <= 1
    size = change.round().flatten(1).norm(NORMS[norm], dim=1)
    largest = torch.maximum(images, 1 - images).mul(255).flatten(1).norm(NORMS[norm], dim=1)
    assert (size <= eps).all()
    assert (size >= 0.9 * torch.minimum(largest / 2, torch.tensor(eps))).all()
    assert abs(float(change.sign().mean())) < 0.1


def test_noise_like_another_attack_has_a_size_for_each_image(images, goal):
    sizes = (0.0, 5.0, 20.0, 100.0, 400.0)
    noisy = Noise(like="cw_1_2_conf0", sizes=sizes)(FunctionVictim(None), images, goal)
    found = ((noisy - images) * 255).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, torch.tensor(sizes), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("random_start", [True, False])
def test_pgd_in_an_l1_ball_keeps_to_it_and_gets_nearer_to_its_goal(
    extractor, images, goal, random_start
):
    victim, eps = ExtractorVictim(extractor), 2000
    attacked = PGD(eps, "1", random_start=random_start)(victim, images, goal)
    assert ((attacked - images).abs().flatten(1).sum(dim=1) <= eps / 255 * (1 + 1e-4)).all()
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert goal(victim(attacked)).mean() < goal(victim(images)).mean()


class Lift:
    """Goal that makes the first feature large."""

    def __call__(self, prediction):
        return -prediction.features[:, 0]

    def missed_by(self, prediction):
        return 1 - prediction.features[:, 0]

    def reached(self, prediction, confidence=0.0):
        return prediction.features[:, 0] >= 1 + confidence

    def __getitem__(self, rows):
        return self


@pytest.mark.parametrize("attack", [FGSM(8), PGD(8), PGD(300, "2"), MarginPGD(8)], ids=repr)
def test_a_goal_may_read_features(extractor, images, attack):
    victim = ExtractorVictim(extractor)
    with frozen(*victim.networks):
        attacked = attack(victim, images, Lift())
    before, after = (victim(points).features[:, 0] for points in (images, attacked))
    assert (after > before).all()


@pytest.mark.parametrize("attack", [CW(c=10, max_it=200), DDN(60)], ids=repr)
def test_the_smallest_change_is_found_for_a_goal_that_reads_features(images, attack):
    """Feature 0 is 4 times the mean, so that it is 1 if all pixels have moved to a mean of 1/4."""
    dark = images * 0.3

    def four_means(points):
        return 4 * points.mean(dim=(1, 2, 3))[:, None].expand(-1, 2)

    attacked = attack(FunctionVictim(four_means), dark, Lift())
    assert (four_means(attacked)[:, 0] >= 1).all()
    nearest = (0.25 - dark.mean(dim=(1, 2, 3))) * 768**0.5
    distance = (attacked - dark).flatten(1).norm(dim=1)
    assert (distance < 1.3 * nearest + 0.05).all()


def test_attacks_on_classes_refuse_other_goals(images):
    for attack in (FGSM(engine="cleverhans"), AutoAttack()):
        assert not attack.takes_any_goal
        with pytest.raises(ValueError, match="classes alone"):
            attack(FunctionVictim(lambda x: x.flatten(1)[:, :5]), images, Lift())


def test_restarts_keep_the_first_success_and_leave_it_alone(images):
    seen = []

    def jump(victim, points, goal):
        seen.append(len(points))
        return points + len(seen)

    def logits(points):
        """Return logits by which image n reaches its goal after n moves."""
        moved = (points - images[: len(points)]).mean(dim=(1, 2, 3)).round()
        if len(points) < len(images):
            moved = torch.full((len(points),), float(len(seen)))
        needed = torch.arange(len(images))[-len(points) :]
        return torch.stack([torch.full_like(moved, 0.5), (moved >= needed).float()], dim=1)

    goal = ClassGoal(torch.ones(5, dtype=torch.int64))
    attacked = Restarted(jump, 3)(FunctionVictim(logits), images, goal)
    assert seen == [5, 3, 2]
    moved = (attacked - images).mean(dim=(1, 2, 3)).round()
    assert moved.tolist() == [1, 1, 2, 3, 3]


def test_what_only_the_tuned_network_believes_is_done_again_exactly(images):
    def tuned(points):
        return torch.tensor([[0.0, 1.0]]).expand(len(points), 2)

    def exact(points):
        fooled = points.mean(dim=(1, 2, 3)) > 5
        return torch.stack([~fooled, fooled], dim=1).float()

    def attack(victim, points, goal):
        return points + (10 if victim.logits is exact else 1)

    images = images.clone()
    images[2] += 10
    goal = ClassGoal(torch.ones(5, dtype=torch.int64))
    attacked = Rechecked(attack, FunctionVictim(exact))(FunctionVictim(tuned), images, goal)
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
        PGD(8, nb_iter=2)(ExtractorVictim(extractor), images, goal)
    assert all(parameter.grad is None for parameter in extractor.parameters())
    assert all(parameter.requires_grad for parameter in extractor.parameters())


@pytest.mark.parametrize("targeted", [True, False])
def test_the_goal_is_reached_by_a_margin(targeted):
    prediction = predicted(torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.4, 0.0], [0.0, 3.0, 1.0]]))
    goal = ClassGoal(torch.tensor([1, 1, 1]), targeted)
    assert goal.reached(prediction).tolist() == (
        [False, True, True] if targeted else [True, False, False]
    )
    assert goal.reached(prediction, confidence=0.5).tolist() == (
        [False, False, True] if targeted else [True, False, False]
    )


def test_cleverhans_attacks_without_the_packages_that_setup_leaves_out():
    code = """
import sys
for left_out in ("nose", "mnist", "tensorflow_probability", "easydict", "pycodestyle"):
    sys.modules[left_out] = None
import src.attacks.carlini_wagner, src.attacks.gradient_sign, src.attacks.spsa
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
