"""Steps of training and of attacks run on a GPU, and wait for nothing that it computes.

The device here is torch's ``meta``: its tensors have shapes but no values, and any question for a value
(``item``, a mask as an index, the truth of a tensor) raises an error. ``OnOneDevice`` refuses what a GPU
refuses or waits for besides: tensors and generators of the CPU, and copies of memory that is not pinned.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from src.attacks import least_likely, pgd
from src.attacks.carlini_wagner import CarliniWagner
from src.attacks.goals import ClassGoal
from src.attacks.list_goals import list_goal
from src.attacks.registry import attack_named
from src.attacks.victim import ExtractorVictim
from src.defences.registry import parse_defence
from src.extractors.architectures import build_extractor
from src.leaks.costs import INDICES, Matching
from src.recommenders.audience import Audience
from src.training import adversaries, miners, objectives, pictures, sharing
from src.training.batches import pairs
from src.training.gradient_defence import defend_gradients
from src.training.recipes import RECIPES
from src.training.steps import State, train_step

DRAWERS = (adversaries, least_likely, miners, objectives, pgd, pictures, sharing)
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
    "acap",
    "amd",
    "ramd",
    "amdsemi-aap",
    "hm",
    "free-est",
    "free-amd",
    "free-amdsemi",
    "preserve",
    "rectify",
    "arp",
]
"""Recipes without a gate, which leaves images out."""
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
FAR = torch.device("meta")
COPIES = ("aten._to_copy.default", "aten.copy_.default")


class OnOneDevice(TorchDispatchMode):
    """Refuses operations in which a tensor or a generator of the CPU meets the device.

    Numbers (tensors without axes) may, and so may copies to the device that nobody waits for.
    """

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        result = operation(*args, **(kwargs or {}))
        tensors = [of for of in [*given, *tree_leaves(result)] if isinstance(of, torch.Tensor)]
        if not any(of.is_meta for of in tensors):
            return result
        if any(isinstance(of, torch.Generator) for of in given):
            raise RuntimeError(f"{operation}: a generator of the CPU draws on the device")
        if str(operation) in COPIES:
            if len({of.device for of in tensors}) > 1 and not (kwargs or {}).get("non_blocking"):
                raise RuntimeError(f"{operation}: a copy that waits for the device")
        elif any(of.is_cpu and of.ndim for of in tensors):
            raise RuntimeError(f"{operation}: a tensor of the CPU meets the device")
        return result


@pytest.fixture
def far(monkeypatch):
    """Let generators of the device be torch's own, since ``meta`` has none."""
    for module in DRAWERS:
        monkeypatch.setattr(module, "generator_on", lambda *_: None)


def far_extractor(arch="c2f2"):
    with FAR:
        return build_extractor(arch, "abcd")


def far_images(n=4):
    return torch.rand(n, 1, 28, 28, device=FAR)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda values: values.sum().item(), "[Mm]eta tensor"),
        (lambda values: values[values > 0], "nonzero"),
        (lambda values: bool((values > 0).any()), "[Mm]eta tensor"),
        (lambda values: values.cpu(), "[Mm]eta tensor"),
        (lambda values: values + torch.rand(4), "not on the expected device"),
        (lambda values: values[torch.arange(2)], "a tensor of the CPU meets the device"),
        (lambda values: torch.tensor([1.0]).to(values.device), "a copy that waits"),
        (lambda values: values.uniform_(generator=torch.Generator()), "a generator of the CPU"),
    ],
)
def test_the_device_refuses_questions_for_values_and_what_is_on_the_cpu(far, ask, message):
    # torch's NotImplementedError is a RuntimeError too.
    with OnOneDevice(), pytest.raises(RuntimeError, match=message):
        ask(torch.rand(4, device=FAR))


@pytest.mark.parametrize("name", STEPPED)
def test_a_training_step_stays_on_the_device(far, name):
    recipe, generator = RECIPES[name], torch.Generator()
    if recipe.attention is None:
        extractor = far_extractor("c2f2+8" if recipe.batches is pairs else "c2f2")
        state = State.of(recipe, extractor, 2)
    else:
        # The layer is looked for by values.
        extractor = build_extractor("cifar_resnet8", "abcd")
        state = State.of(recipe, extractor, 2)
        extractor.to(FAR)
    optimizer = torch.optim.SGD(extractor.parameters(), 0.1, momentum=0.9, nesterov=True)

    def step():
        pixels = torch.zeros(8, 1, 28, 28, dtype=torch.uint8, device=FAR)
        if recipe.attention is not None:
            pixels = pixels.expand(-1, 3, -1, -1)
        images = pictures.to_images(pictures.flip_and_shift(pixels, generator))
        classes = torch.zeros(8, dtype=torch.long, device=FAR)
        train_step(extractor, [optimizer], recipe, state, images, classes, generator)

    step()  # the first step copies constants
    with OnOneDevice():
        step()
    assert state.last_loss.is_meta and state.last_loss.ndim == 0


@pytest.mark.parametrize("name", ["gaussian_1e-3", "lap_1e-2", "prune_70", "clip_1.0", "sign"])
def test_a_gradient_defence_stays_on_the_device(far, name):
    extractor, generator = far_extractor(), torch.Generator()
    optimizer = torch.optim.SGD(extractor.parameters(), 0.1)
    defend_gradients(optimizer, sharing.parse_gradient_defence(name), generator)
    state = State.of(RECIPES["plain"], extractor, 1)
    classes = torch.zeros(4, dtype=torch.long, device=FAR)
    with OnOneDevice():
        train_step(
            extractor, [optimizer], RECIPES["plain"], state, far_images(), classes, generator
        )


@pytest.mark.parametrize("name", [*pictures.AUGMENTATIONS, "ats:0-12-28+23-38-45+30-4"])
def test_augmentation_stays_on_the_device(far, name):
    pixels = torch.zeros(8, 3, 28, 28, dtype=torch.uint8, device=FAR)
    with OnOneDevice():
        augmented = pictures.parse_augmentation(name).training(pixels, torch.Generator())
    assert augmented.is_meta and augmented.shape == pixels.shape


@pytest.mark.parametrize("name", ATTACKERS)
def test_an_attack_stays_on_the_device(far, name):
    extractor = far_extractor().eval().requires_grad_(False)
    goal = ClassGoal(torch.zeros(4, dtype=torch.long, device=FAR), targeted=False)
    with OnOneDevice():
        attacked = attack_named(name, 8)(ExtractorVictim(extractor), far_images(), goal)
    assert attacked.is_meta and attacked.shape == (4, 1, 28, 28)


def test_carlini_and_wagner_stay_on_the_device(far):
    extractor = far_extractor().eval().requires_grad_(False)
    goal = ClassGoal(torch.zeros(4, dtype=torch.long, device=FAR), targeted=True)
    attack = CarliniWagner(search_steps=2, iterations=2, abort="never")
    with OnOneDevice():
        assert attack(ExtractorVictim(extractor), far_images(), goal).is_meta


@pytest.mark.parametrize("defence", ["bits", "blur", "tv", "random_noise", "smooth:n=2"])
def test_an_attack_through_a_defence_stays_on_the_device(far, defence):
    extractor = parse_defence(defence).in_front_of(far_extractor().eval().requires_grad_(False))
    goal = ClassGoal(torch.zeros(4, dtype=torch.long, device=FAR), targeted=False)
    with OnOneDevice():
        assert attack_named("fgsm", 8)(ExtractorVictim(extractor), far_images(), goal).is_meta


@pytest.mark.parametrize("objective", ["score", "rank", "insa", "expa"])
def test_an_attack_on_lists_stays_on_the_device(far, objective):
    extractor = far_extractor().eval().requires_grad_(False)
    sizes = {"slopes": (9, extractor.n_features), "features": (4, extractor.n_features)}
    sizes |= {"scores": (4, 9), "thresholds": (4, 9), "hook": (extractor.n_features,)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in sizes.items()}
    goal = list_goal(objective, Audience(**arrays, may_see=np.ones((4, 9), bool)), FAR)
    with OnOneDevice():
        assert attack_named("apgd", 8)(ExtractorVictim(extractor), far_images(), goal).is_meta


@pytest.mark.parametrize("indices", INDICES)
def test_a_cost_of_gradients_stays_on_the_device(indices):
    near = Matching.of(
        "sim", [torch.rand(2, 3, number + 1) for number in range(12)], indices, "exp"
    )
    far = Matching(
        near.cost,
        [of.to(FAR) for of in near.observed],
        near.weights.to(FAR),
        near.kept,
        near.n_drawn,
    )
    with OnOneDevice():
        costs = far.drawn(np.random.default_rng(0))(far.observed)
    assert costs.shape == (2,)
