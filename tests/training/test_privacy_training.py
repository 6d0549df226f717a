"""Training with privacy augmentation, by the conservative schedule, and on defended gradients."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.cli import Parser
from src.extractors.extractor import Extractor
from src.training import loop
from src.training.accuracy import accuracy
from src.training.command import add_training_options, recipe_options_of
from src.training.gradient_defence import defend_gradients
from src.training.loop import Schedule, train
from src.training.options import CONSERVATIVE, Job, job_of
from src.training.pictures import AUGMENTATIONS, PADDED, parse_augmentation
from src.training.recipes import RECIPES
from src.training.sources import hold_out
from tests.image_sets import colour_pictures

POLICY = "ats:3-1-7+43-18-18"
MODES = (*AUGMENTATIONS, POLICY)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_classifier() -> Extractor:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return Extractor(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)), ["r", "g", "b"], "5")


def job(*arguments: str) -> Job:
    """Return the job of ``train_extractor.py`` for its options."""
    parser = Parser("a training")
    add_training_options(parser)
    options = parser.parse_args(["--arch", "convnet8", *arguments])
    return job_of(options, recipe_options_of(options))


def test_crops_are_windows_of_a_picture_in_a_black_frame():
    pixels = torch.randint(1, 256, (30, 3, 9, 7), generator=seeded(1), dtype=torch.uint8)
    crops = PADDED.training(pixels, seeded())
    framed = functional.pad(pixels, (4, 4, 4, 4))
    found = set()
    for picture, crop in zip(framed, crops, strict=True):
        places = [
            (top, left, flipped)
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
            if torch.equal(
                crop.flip(2) if flipped else crop, picture[:, top : top + 9, left : left + 7]
            )
        ]
        assert len(places) == 1
        found.update(places)
    assert len(found) > 20 and {flipped for *_, flipped in found} == {False, True}
    assert torch.equal(PADDED.testing(pixels), pixels)


@pytest.mark.parametrize("name", MODES)
def test_modes_are_repeatable_and_leave_test_pictures_alone(name):
    pixels = torch.randint(0, 256, (12, 3, 16, 16), generator=seeded(1), dtype=torch.uint8)
    augmentation = parse_augmentation(name)
    changed = augmentation.training(pixels, seeded(5))
    assert torch.equal(changed, augmentation.training(pixels, seeded(5)))
    assert torch.equal(changed, pixels) == (name == "none")
    assert changed.dtype == torch.uint8 and changed.shape == pixels.shape
    assert torch.equal(augmentation.testing(pixels), pixels)


def test_a_policy_follows_the_crop():
    pixels = torch.randint(0, 256, (12, 3, 16, 16), generator=seeded(1), dtype=torch.uint8)
    augmentation, generator = parse_augmentation(POLICY), seeded(3)
    expected = augmentation.policy(PADDED.training(pixels, generator), generator)
    assert torch.equal(augmentation.training(pixels, seeded(3)), expected)


@pytest.mark.parametrize("text", ["", "aug", "ats", "ats:", "ats:50", "crop:3", "padded_crop"])
def test_unknown_augmentations_are_refused(text):
    with pytest.raises(UserError, match=r"unknown augmentation|is no policy"):
        parse_augmentation(text)


@pytest.mark.parametrize(("epochs", "drops"), [(200, (74, 124, 175)), (100, (37, 62, 87))])
def test_the_conservative_schedule_drops_when_published(epochs, drops):
    schedule = job("--schedule", "conservative", "--epochs", str(epochs)).schedule
    assert (schedule.lr, schedule.batch_size, schedule.optimizer) == (0.1, 64, "sgd")
    network = nn.Linear(1, 1)
    theirs = torch.optim.SGD(network.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(theirs, drops, 0.1)
    for epoch in range(epochs):
        for step in range(3):
            lr = loop._lr(schedule, 3 * epoch + step, 3 * epochs)
            assert lr == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()


def test_what_is_given_beside_the_conservative_schedule_counts():
    schedule = job("--schedule", "conservative", "--lr", ".05", "--batch", "8").schedule
    usual = job().schedule
    assert schedule == replace(usual, **{**CONSERVATIVE, "lr": 0.05, "batch_size": 8})
    assert usual == Schedule(epochs=12)


def test_checkpoints_from_before_these_options_stay_current():
    described = job().described()
    assert not {"lr_drops", "gradient_defence"} & described.keys()
    assert described["augmentation"] == {"kind": "shift", "side": 0}
    private = job("--augmentation", POLICY, "--schedule", "conservative").described()
    assert private["augmentation"]["policy"] == {"chains": ((3, 1, 7), (43, 18, 18))}
    json.dumps(private)


@pytest.mark.parametrize("name", ["none", "crop", "ats:43-18-18+25"])
def test_every_mode_learns(name, tmp_path):
    training, held_out = hold_out(colour_pictures(), 0.25, seed=0)
    extractor = tiny_classifier()
    private = {"batch_size": 8, "augmentation": parse_augmentation(name)}
    schedule = Schedule(20, **(CONSERVATIVE | private))
    train(extractor, training, RECIPES["plain"], schedule, tmp_path / "state")
    assert accuracy(extractor, held_out) > 0.9


class Halving:
    """Defence that can be computed by hand, except for the noise of its second tensor."""

    name = "halving"

    def __call__(self, gradients: list[Tensor], generator: torch.Generator) -> tuple[Tensor, ...]:
        first, second = (gradient / 2 for gradient in gradients)
        return first, second + torch.randn(second.shape, generator=generator)


def test_the_optimizer_steps_along_the_defended_gradient():
    parameters = [
        nn.Parameter(torch.zeros(3)),
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1)),
    ]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    defend_gradients(optimizer, Halving(), seeded(4))
    reference = seeded(4)
    expected = [torch.zeros(3), torch.zeros(2)]
    for step in range(3):
        optimizer.zero_grad()
        parameters[0].grad, parameters[1].grad = torch.full((3,), 2.0 + step), torch.ones(2)
        optimizer.step()
        expected[0] -= (2 + step) / 2
        expected[1] -= 0.5 + torch.randn(2, generator=reference)
    torch.testing.assert_close([p.data for p in parameters[:2]], expected)
    assert parameters[2].item() == 0  # it has no gradient


DEFENDED = Schedule(4, 16, seed=3, gradient_defence="gaussian_1e-2")


def weights(extractor: Extractor) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in extractor.parameters()])


def test_a_defended_training_that_was_stopped_ends_with_the_same_weights(
    stopped_after_an_epoch, tmp_path
):
    pictures, whole, resumed = colour_pictures(), tiny_classifier(), tiny_classifier()
    train(whole, pictures, RECIPES["plain"], DEFENDED, tmp_path / "whole")
    rest = (pictures, RECIPES["plain"], DEFENDED, tmp_path / "state")
    stopped_after_an_epoch(train, tiny_classifier(), *rest)
    train(resumed, *rest)
    assert torch.equal(weights(whole), weights(resumed))


def test_noise_of_one_step_is_that_of_the_defence(tmp_path):
    """After one step of plain SGD weights differ from the undefended ones by 0.5 x 0.1 N(0, 1)."""
    moved = {}
    for defence in (None, "gaussian_1e-1"):
        extractor = tiny_classifier()
        schedule = Schedule(1, 96, 0.5, momentum=1e-9, lr_drops=(), gradient_defence=defence)
        train(extractor, colour_pictures(), RECIPES["plain"], schedule, tmp_path / f"{defence}")
        moved[defence] = weights(extractor)
    noise = moved["gaussian_1e-1"] - moved[None]
    assert noise.std().item() == pytest.approx(0.05, rel=0.2)


def test_pruned_gradients_still_teach(tmp_path):
    training, held_out = hold_out(colour_pictures(), 0.25, seed=0)
    extractor = tiny_classifier()
    schedule = Schedule(20, 8, gradient_defence="prune_50")
    train(extractor, training, RECIPES["plain"], schedule, tmp_path / "state")
    assert accuracy(extractor, held_out) > 0.9


def test_unknown_defences_are_refused_before_anything_is_read():
    with pytest.raises(UserError, match="no gradient defence 'nonsense'"):
        job("--gradient_defence", "nonsense")
    with pytest.raises(UserError, match="unknown augmentation"):
        job("--augmentation", "")
    assert job("--gradient_defence", "prune_70").described()["gradient_defence"] == "prune_70"
