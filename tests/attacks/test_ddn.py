"""Images of DDN succeed as 8-bit files too."""

import pytest
import torch
from torch import nn

from src.attacks.carlini_wagner import CarliniWagner
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.registry import DDN
from src.attacks.storage import to_levels, to_pixels
from tests.victims import FunctionVictim, predicted


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(72, 5),
    )
    network[-1].weight.data *= 40
    with frozen(network):
        yield network


@pytest.fixture(scope="module")
def levels():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (12, 16, 16, 3), generator=generator, dtype=torch.uint8).numpy()


@pytest.fixture(scope="module")
def images(levels):
    return to_pixels(levels)


@pytest.fixture(scope="module")
def goal(network, images):
    return ClassGoal(network(images).argsort(dim=1)[:, -2])


def distances(attacked, images):
    return (attacked - images).flatten(1).norm(dim=1)


def test_successes_are_whole_grey_levels_and_survive_storage(network, images, levels, goal):
    victim = FunctionVictim(network)
    attacked = DDN(steps=60)(victim, images, goal)
    assert victim.passes == 60 * len(images)
    assert goal.reached(predicted(network(attacked))).all()
    stored = to_pixels(to_levels(attacked, levels))
    assert torch.equal(stored, attacked)
    assert (attacked != images).flatten(1).any(dim=1).all()


def test_its_changes_are_nearly_as_small_as_carlini_and_wagners(network, images, goal):
    ddn = distances(DDN()(FunctionVictim(network), images, goal), images)
    cw = distances(
        CarliniWagner(iterations=300, initial_c=0.1)(FunctionVictim(network), images, goal), images
    )
    assert ddn.mean() < 1.15 * cw.mean()


def test_untargeted_leaves_the_class(network, images):
    goal = ClassGoal(network(images).argmax(dim=1), targeted=False)
    attacked = DDN(steps=40)(FunctionVictim(network), images, goal)
    assert goal.reached(predicted(network(attacked))).all()


def test_an_image_that_cannot_be_brought_there_stays_clean(images):
    def stubborn(points):
        return torch.stack([points.mean(dim=(1, 2, 3)), points.mean(dim=(1, 2, 3)) - 1e3], dim=1)

    goal = ClassGoal(torch.ones(len(images), dtype=torch.int64))
    assert torch.equal(DDN(steps=5)(FunctionVictim(stubborn), images, goal), images)


def test_images_without_a_gradient_move_in_a_random_direction(images):
    def flat(points):
        return torch.stack([points.sum(dim=(1, 2, 3)) * 0, points.sum(dim=(1, 2, 3)) * 0 + 1e-9], 1)

    goal = ClassGoal(torch.zeros(len(images), dtype=torch.int64))
    assert torch.isfinite(DDN(steps=3)(FunctionVictim(flat), images, goal)).all()


def test_it_needs_a_box(network, images, goal):
    with pytest.raises(ValueError, match="box"):
        DDN()(FunctionVictim(network, None), images, goal)
