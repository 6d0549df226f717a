"""Carlini and Wagner: the engine against CleverHans, and its own promises."""

import copy

import pytest
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from torch import nn

from src.attacks.carlini_wagner import CarliniWagner, CarliniWagnerCleverHans
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from tests.victims import FunctionVictim


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5),
    )
    network[-1].weight.data *= 60
    with frozen(network):
        yield network


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(1)
    images = torch.rand(6, 3, 12, 12)
    images[0, :, :4] = 0.0  # black and white pixels stand at the ends of the box
    images[1, :, 4:8] = 1.0
    return images


@pytest.fixture(scope="module")
def goal(network, images):
    """Return the second most likely class of every image as the goal."""
    return ClassGoal(network(images).argsort(dim=1)[:, -2])


def distance(attacked, images):
    return (attacked - images).flatten(1).norm(dim=1)


@pytest.mark.parametrize("targeted", [True, False])
def test_with_its_defects_on_it_is_bitwise_cleverhans_at_batch_one(network, images, goal, targeted):
    attack = CarliniWagner(abort="never", warm=True, alias=True, iterations=60, initial_c=0.1)
    classes = goal.classes if targeted else network(images).argmax(dim=1)
    for image, label in zip(images[:3].split(1), classes[:3].split(1), strict=True):
        theirs = carlini_wagner_l2(
            network, image, 5, y=label, targeted=targeted, initial_const=0.1, max_iterations=60
        )
        ours = attack(FunctionVictim(network), image, ClassGoal(label, targeted))
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, image)


def test_with_confidence_and_late_success_it_is_still_bitwise_cleverhans(network, images, goal):
    options = {"confidence": 1.0, "iterations": 40, "search_steps": 7, "initial_c": 1e-3}
    attack = CarliniWagner(abort="never", warm=True, alias=True, **options)
    theirs = CarliniWagnerCleverHans(**options)(FunctionVictim(network), images[:2], goal[:2])
    for n in range(2):
        assert torch.equal(
            attack(FunctionVictim(network), images[n : n + 1], goal[n : n + 1])[0],
            theirs[n].detach(),
        )


@pytest.mark.parametrize("box", [(0.0, 1.0), None])
def test_a_batch_is_its_images_one_by_one(network, images, goal, box):
    attack = CarliniWagner(iterations=60, initial_c=0.1, search_steps=3)
    victim = FunctionVictim(copy.deepcopy(network).double(), box)
    images = images.double()  # 60 steps of Adam amplify what float32 rounds
    together = attack(victim, images, goal)
    alone = torch.cat([attack(victim, images[n : n + 1], goal[n : n + 1]) for n in range(6)])
    torch.testing.assert_close(
        distance(together, images), distance(alone, images), rtol=1e-4, atol=1e-6
    )
    assert goal.reached(victim(together)).all()


def test_an_unreachable_image_stays_clean_and_moves_no_other(network, images, goal):
    def walled(points):
        """Return a network in which class 4 cannot win if the first pixel is exactly black."""
        logits = network(points)
        wall = (points[:, :, 6, 6].sum(dim=1) < 1).float() * 1e6
        return logits - wall[:, None] * nn.functional.one_hot(torch.tensor(4), 5)

    images = images.clone()
    images[3, :, 6, 6] = 0.01
    classes = goal.classes.clone()
    classes[3] = 4
    attack = CarliniWagner(iterations=60, initial_c=0.1)
    others = torch.tensor([0, 1, 2, 4, 5])
    everything = attack(FunctionVictim(walled), images, ClassGoal(classes))
    without = attack(FunctionVictim(walled), images[others], ClassGoal(classes)[others])
    # Pixels drift apart as rounding goes through all iterations; the distance that is searched does not.
    found, expected = distance(everything, images)[others], distance(without, images[others])
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)
    assert (expected > 0).sum() > 2
    assert torch.equal(everything[3], images[3])


def test_giving_up_image_by_image_saves_passes_at_equal_success(network, images, goal):
    outcomes = {}
    for abort in ("image", "never"):
        victim = FunctionVictim(network)
        attacked = CarliniWagner(abort=abort, iterations=200, initial_c=0.1)(victim, images, goal)
        passes = victim.passes
        reached = goal.reached(victim(attacked))
        outcomes[abort] = passes, reached.sum(), distance(attacked, images).mean()
    assert outcomes["never"][0] == 5 * 200 * 6
    assert outcomes["image"][0] < 0.8 * outcomes["never"][0]
    assert outcomes["image"][1] == outcomes["never"][1] == 6
    assert outcomes["image"][2] <= 1.05 * outcomes["never"][2]


def test_confidence_is_the_margin_of_the_logits(network, images, goal):
    attacked = CarliniWagner(confidence=0.5, iterations=150, initial_c=1.0)(
        FunctionVictim(network), images, goal
    )
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    logits = network(attacked)
    target = logits.gather(1, goal.classes[:, None])[:, 0]
    others = logits.scatter(1, goal.classes[:, None], -torch.inf).amax(dim=1)
    assert (target - others >= 0.5 - 1e-5).all()


def test_untargeted_leaves_the_class(network, images):
    start = network(images).argmax(dim=1)
    goal = ClassGoal(start, targeted=False)
    attacked = CarliniWagner(iterations=100, initial_c=0.1)(FunctionVictim(network), images, goal)
    assert (network(attacked).argmax(dim=1) != start).all()


def test_weights_keep_no_gradients(network, images, goal):
    CarliniWagner(iterations=5)(FunctionVictim(network), images, goal)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_few_iterations_and_impossible_combinations():
    with pytest.raises(ValueError, match="abort"):
        CarliniWagner(warm=True)
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(1, 3, 2, 2)
    attack = CarliniWagner(iterations=1, search_steps=1)
    assert (
        attack(FunctionVictim(network), images, ClassGoal(torch.tensor([0]))).shape == images.shape
    )
