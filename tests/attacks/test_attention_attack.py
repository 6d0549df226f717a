"""Attack on attention: its objective by hand, its budget, and the shift of maps."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.fidelity import CORRECTED
from src.attacks.attention_attack import AttentionGoal, attention_shift
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.registry import PGD, Attention, Noise
from src.attacks.settings import AttackSettings, experiment
from src.attacks.victim import ExtractorVictim
from src.extractors.architectures import build_extractor
from src.extractors.attention import Watched, class_directions
from src.extractors.extractor import Extractor
from tests.scripts import run_script

EPS = 8 / 255


def make_extractor(averaged: bool) -> Extractor:
    """Build a smooth extractor, for comparison with differences; features may be means of maps."""
    torch.manual_seed(5)
    maps = (nn.Conv2d(3, 6, 5, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh())
    if averaged:
        top = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    else:
        top = (nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(12), nn.Tanh(), nn.Linear(12, 4))
    network = nn.Sequential(*maps, *top)
    network(torch.zeros(1, 3, 32, 32))
    network[-1].weight.data *= 10
    labels, head = [f"class {n}" for n in range(4)], str(len(network) - 1)
    extractor = Extractor(network, labels, head, arch="cifar_resnet20")
    return extractor.eval().requires_grad_(False)


@pytest.fixture(params=[True, False], ids=["averaged", "gradient"])
def extractor(request):
    return make_extractor(request.param)


@pytest.fixture
def images():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def predictions(extractor, images):
    with torch.no_grad():
        return extractor(images).logits.argmax(dim=1)


def attention_by_hand(watched, image, number):
    """Compute Grad-CAM of one image without its ReLU, one channel after the other."""
    attended = watched(image[None].clone().requires_grad_())
    value = (class_directions(watched.extractor, torch.tensor([number])) * attended.features).sum()
    (gradient,) = torch.autograd.grad(value, attended.maps)
    total = torch.zeros(attended.maps.shape[2:])
    for channel in range(attended.maps.shape[1]):
        weight = gradient[0, channel].mean()
        total += weight * attended.maps[0, channel].detach()
    return total


def moved(watched, clean, attacked, classes):
    """Return the shift (N,) of the attention of ``classes``."""

    def read(points):
        attended = watched(points.clone().requires_grad_())
        return watched.attention(attended, class_directions(watched.extractor, classes)).detach()

    return attention_shift(read(clean), read(attacked))


@pytest.mark.parametrize("weight", [2.0, -0.5, math.inf])
@pytest.mark.parametrize("targeted", [True, False])
def test_the_objective_by_hand(extractor, images, targeted, weight):
    watched = Watched(extractor)
    classes = predictions(extractor, images)
    goal = ClassGoal((classes + 1) % 4 if targeted else classes, targeted)
    attacked = (images + 0.1 * torch.rand_like(images)).requires_grad_()
    values = AttentionGoal.of(watched, images, goal, weight)(watched(attacked))
    assert values.shape == (6,)
    for row in range(6):
        maps = [
            attention_by_hand(watched, x[row].detach(), int(classes[row]))
            for x in (images, attacked)
        ]
        first, second = (each / each.square().sum().sqrt() for each in maps)
        distance = (first - second).square().sum()
        logits = extractor(attacked[row : row + 1]).logits[0].softmax(dim=0)
        loss = -logits[goal.classes[row]].log() * (1 if targeted else -1)
        expected = -distance if math.isinf(weight) else loss - weight * distance
        torch.testing.assert_close(values[row], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("weight", [3.0, math.inf])
def test_its_slope_is_that_of_differences(extractor, images, weight):
    """The slope includes the gradient of the map itself."""
    goal = ClassGoal(predictions(extractor, images), targeted=False)
    watched = Watched(extractor)
    attention = AttentionGoal.of(watched, images, goal, weight)

    def objective(points):
        return attention(watched(points))

    point = (images + 0.1 * torch.rand_like(images)).requires_grad_()
    (slope,) = torch.autograd.grad(objective(point).sum(), point)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    ahead, behind = (
        objective((point.detach() + h * direction).requires_grad_()).sum() for h in (2e-3, -2e-3)
    )
    expected = (ahead - behind).item() / 4e-3
    assert (slope * direction).sum().item() == pytest.approx(expected, rel=2e-2)


def test_distances_of_maps():
    row = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    maps = torch.cat([row, 7 * row, -row, torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])])
    expected = torch.tensor([0.0, 0.0, 4.0, 2.0])
    torch.testing.assert_close(attention_shift(row.expand(4, 2, 2), maps), expected)


@pytest.mark.parametrize("targeted", [True, False])
def test_attention_moves_farther_or_stays_nearer_than_under_pgd(extractor, images, targeted):
    watched, classes = Watched(extractor), predictions(extractor, images)
    goal = ClassGoal((classes + 1) % 4 if targeted else classes, targeted)
    victim = ExtractorVictim(extractor)
    plain = PGD(nb_iter=20)
    attacks = [Attention(nb_iter=20, attention_weight=weight) for weight in (math.inf, 20, -20)]
    distances = []
    for attack in (attacks[0], attacks[1], plain, attacks[2]):
        torch.manual_seed(0)
        attacked = attack(victim, images, goal)
        assert not attacked.requires_grad
        assert attacked.min() >= 0 and attacked.max() <= 1
        assert (attacked - images).abs().max() <= EPS + 1e-6
        distances.append(moved(watched, images, attacked, classes))
    alone, away, without, kept = distances
    assert away.mean() > without.mean()
    assert (kept < 0.1 * without).all()
    noisy = moved(watched, images, Noise()(victim, images, goal), classes)
    assert (alone > 3 * noisy).all()


def test_without_a_weight_to_speak_of_it_is_pgd(images):
    """Rounding may turn the sign of a gradient that is nearly zero."""
    extractor = make_extractor(averaged=True)
    goal = ClassGoal((predictions(extractor, images) + 1) % 4)
    victim = ExtractorVictim(extractor)
    expected = PGD(random_start=False)(victim, images, goal)
    attacked = Attention(attention_weight=1e-12, random_start=False)(victim, images, goal)
    assert ((attacked - expected).abs() > 1e-6).float().mean() < 0.01


def test_chance_comes_from_the_seed_and_images_do_not_meet(extractor, images):
    goal = ClassGoal((predictions(extractor, images) + 1) % 4)
    victim = ExtractorVictim(extractor)
    attack = Attention(nb_iter=4, attention_weight=5.0)
    torch.manual_seed(1)
    first = attack(victim, images, goal)
    torch.manual_seed(1)
    assert torch.equal(attack(victim, images, goal), first)
    assert not torch.equal(attack(victim, images, goal), first)
    still = replace(attack, random_start=False)
    together = still(victim, images, goal)
    alone = still(victim, images[2:3], goal[torch.tensor([2])])
    # Rounding may turn the sign of a gradient that is nearly zero.
    assert ((together[2:3] - alone).abs() > 1e-6).float().mean() < 0.01


def test_an_unbounded_space(extractor, images):
    goal = ClassGoal(predictions(extractor, images), targeted=False)
    victim = ExtractorVictim(extractor, "normalised")
    points = victim.to_points(images)
    attacked = Attention(nb_iter=3)(victim, points, goal)
    assert (attacked - points).abs().max() <= EPS + 1e-6
    assert victim.box is None and attacked.min() < points.min()


def test_one_cell_cannot_move(images):
    extractor = make_extractor(averaged=True)
    goal = ClassGoal(torch.zeros(6, dtype=torch.int64))
    with pytest.raises(UserError, match="single cell"):
        Attention()(ExtractorVictim(extractor), images[:, :, :9, :9], goal)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "cifar_resnet20", "googlenet"])
def test_a_tuned_victim_has_the_attention_of_the_extractor(arch):
    """This also holds if tracing the network loses the layer of the maps."""
    torch.manual_seed(0)
    extractor = build_extractor(arch, ["a", "b", "c"]).eval()
    images = torch.rand(2, 3, 64, 64)
    classes = torch.tensor([0, 2])
    victim = ExtractorVictim(extractor, fast=True)
    maps = []
    for watched in (Watched(extractor), victim.watched):
        attended = watched(images.clone().requires_grad_())
        maps.append(watched.attention(attended, class_directions(extractor, classes)).detach())
    first, second = (functional.normalize(each.flatten(1)) for each in maps)
    torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-4)
    assert victim.passes == 2


@pytest.mark.parametrize("space", ["pixel", "normalised"])
def test_passes_of_a_campaign(extractor, images, space):
    attack = Attention(nb_iter=3)
    settings = AttackSettings("attention", attack, 0, 1)
    victim = ExtractorVictim(extractor, space)
    points = victim.to_points(images)
    with frozen(*victim.networks):
        attacked = attack(victim, points, ClassGoal(torch.ones(6, dtype=torch.int64)))
    assert victim.passes == 6 * settings.passes == 6 * 4
    assert (attacked - points).abs().max() <= EPS + 1e-6


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (AttackSettings("attention", Attention()), "attention_774_770_eps8.0_w1_nb_it10_linf"),
        (
            AttackSettings(
                "attention", Attention(attention_weight=-2.5, eps_iter=2.0, random_start=False)
            ),
            "attention_774_770_eps8.0_w-2.5_nb_it10_linf_step2.0_norand",
        ),
        (
            AttackSettings(
                "attention", Attention(attention_weight=math.inf), restarts=2, target=None
            ),
            "attention_774_any_eps8.0_winf_nb_it10_linf_restarts2",
        ),
    ],
)
def test_names(settings, name):
    settings.check(CORRECTED)
    built = experiment(settings, "madry", CORRECTED)
    assert built.name == f"madry_{name}"
    assert Experiment.parse(built.name) == built


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_weight": 0.0}, "--attention_weight is above 0"),
        ({"attention_weight": -math.inf}, "--attention_weight is above 0"),
        ({"attention_weight": math.nan}, "--attention_weight is above 0"),
        ({"attention_weight": math.inf, "random_start": False}, "needs a random start"),
        ({"norm": "2"}, "--l inf, not 2"),
        ({"eps_iter": 9.0}, "larger than --eps"),
    ],
)
def test_what_cannot_be_run_says_so(changes, message):
    with pytest.raises(UserError, match=message):
        AttackSettings("attention", Attention(**changes)).check(CORRECTED)


def test_it_runs_in_fp32_and_restarts_at_random_points_only():
    with pytest.raises(UserError, match="in fp32 only"):
        AttackSettings("attention", Attention(), precision="bf16").check(CORRECTED)
    still = Attention(random_start=False)
    with pytest.raises(UserError, match="random start"):
        AttackSettings("attention", still, restarts=2).check(CORRECTED)


def test_stage_3(draw_images, tiny_checkpoint, tmp_path):
    """Stage 3 stores files under the attack's own name, and skips them when it runs again."""
    data = tmp_path / "data" / "shop"
    draw_images(data / "original" / "images", 6, size=64)
    common = ["--root", tmp_path, "--dataset", "shop", "--gpu", -1, "--model_file", tiny_checkpoint]

    def script(name, *arguments):
        return run_script(name, *common, *arguments)

    assert script("classify_extract") == 0
    numbers = read_classes(data / "original" / "classes.csv").classes
    origin = int(np.bincount(numbers).argmax())
    options = ["--attack_type", "attention", "--attention_weight", -1.5, "--nb_iter", 3, "--eps", 8]
    options += ["--origin_class", origin, "--target_class", (origin + 1) % 5]
    assert script("classify_extract_attack", *options) == 0
    folder = data / f"attention_{origin}_{(origin + 1) % 5}_eps8.0_w-1.5_nb_it3_linf"
    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    assert len(report) == (numbers == origin).sum()
    assert (report["linf"] <= 8).all() and (report["passes"] == 4).all()
    assert script("evaluate_attack", *options) == 0
