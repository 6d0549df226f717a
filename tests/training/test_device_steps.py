"""Steps of training and of attacks wait for nothing that a GPU computes.

The device here is torch's ``meta``: its tensors have shapes but no values, and any question for a value
(``item``, a mask as an index, the truth of a tensor) raises an error.
"""

import pytest
import torch

from src.attacks import least_likely, pgd
from src.attacks.carlini_wagner import CarliniWagner
from src.attacks.goals import ClassGoal
from src.attacks.registry import attack_named
from src.attacks.victim import ExtractorVictim
from src.extractors.architectures import build_extractor
from src.training import adversaries, miners, objectives, pictures
from src.training.batches import pairs
from src.training.recipes import RECIPES
from src.training.steps import State, train_step

DRAWERS = (adversaries, least_likely, miners, objectives, pgd, pictures)
"""Modules that draw on the device."""
STEPPED = [
    "plain",
    "madry",
    "free",
    "trades",
    "pgd_at",
    "stepll_at",
    "fare",
    "denoiser",
    "none",
    "est",
    "rest",
    "ses",
    "act",
    "tbc",
    "amd",
    "amdsemi-aap",
    "hm",
    "free-est",
    "free-amd",
    "free-amdsemi",
]
"""Recipes without attention, whose gate leaves images out, and without a choice that the CPU draws."""
ATTACKERS = [
    "fgsm",
    "pgd",
    "mifgsm",
    "apgd",
    "annealed",
    "ddn",
    "noise",
    "square",
    "stepll",
    "rstepll",
    "iterll",
    "margin",
]
"""Attacks of our own; SPSA is CleverHans'."""


@pytest.fixture
def far(monkeypatch):
    """Make new tensors on a device whose values nobody can see."""
    for module in DRAWERS:
        monkeypatch.setattr(module, "generator_on", lambda *_: None)
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(
    "ask",
    [
        lambda values: values.sum().item(),
        lambda values: values[values > 0],
        lambda values: bool((values > 0).any()),
        lambda values: values.cpu(),
    ],
)
def test_the_device_refuses_questions_for_values(far, ask):
    with pytest.raises((RuntimeError, NotImplementedError)):
        ask(torch.rand(4))


@pytest.mark.parametrize("name", STEPPED)
def test_a_training_step_asks_for_no_value(far, name):
    embeds = RECIPES[name].batches is pairs
    extractor = build_extractor("c2f2+8" if embeds else "c2f2", "abcd")
    optimizer = torch.optim.SGD(extractor.parameters(), 0.1, momentum=0.9, nesterov=True)
    recipe, generator = RECIPES[name], torch.Generator()
    state = State.of(recipe, extractor, 2)
    for _ in range(2):
        pixels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
        images = pictures.to_images(pictures.flip_and_shift(pixels, generator))
        classes = torch.zeros(8, dtype=torch.long)
        train_step(extractor, [optimizer], recipe, state, images, classes, generator)
    assert state.last_loss.is_meta and state.last_loss.ndim == 0


@pytest.mark.parametrize("name", ATTACKERS)
def test_an_attack_asks_for_no_value_in_a_step(far, name):
    extractor = build_extractor("c2f2", "abcd").eval().requires_grad_(False)
    goal = ClassGoal(torch.zeros(4, dtype=torch.long), targeted=False)
    attacked = attack_named(name, 8)(ExtractorVictim(extractor), torch.rand(4, 1, 28, 28), goal)
    assert attacked.shape == (4, 1, 28, 28)


def test_carlini_and_wagner_ask_for_no_value_in_a_step(far):
    extractor = build_extractor("c2f2", "abcd").eval().requires_grad_(False)
    goal = ClassGoal(torch.zeros(4, dtype=torch.long), targeted=True)
    attack = CarliniWagner(search_steps=2, iterations=2, abort="never")
    assert attack(ExtractorVictim(extractor), torch.rand(4, 1, 28, 28), goal).is_meta
