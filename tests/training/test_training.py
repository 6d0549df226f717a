"""Training: Free-AT's update against its definition, resumption, bad tables, and success."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from src.artifacts.errors import UserError
from src.attacks.registry import FGSM
from src.datasets.labelled_folder import open_labelled_folder
from src.extractors.checkpoints import load_extractor
from src.extractors.extractor import Extractor
from src.training import loop
from src.training.accuracy import accuracy
from src.training.adversaries import AdversaryBatch, AdversaryBudget, Free
from src.training.loop import Schedule, train
from src.training.miners import MINERS
from src.training.options import Job
from src.training.pictures import Augmentation, flip_and_shift, read_pixels
from src.training.recipes import RECIPES, altered
from src.training.sources import choose_pictures, hold_out
from src.training.starts import new_extractor
from src.training.steps import State, train_step
from tests.image_sets import colour_pictures, tensors
from tests.pictures import write_labelled
from tests.scripts import run_script

EPS = 4 / 255
CPU = torch.device("cpu")
CLASSIFY = ("plain", "madry", "free", "trades")


def recipe_named(name: str, steps: int = 2):
    """Return a row of the table with a budget that takes no time."""

    def cheap(recipe):
        if recipe.adversary is None:
            return recipe
        budget = AdversaryBudget(
            EPS, EPS / (1 if isinstance(recipe.adversary, Free) else steps), steps
        )
        return replace(recipe, adversary=replace(recipe.adversary, budget=budget))

    return altered(RECIPES[name], cheap)


def tiny_classifier(n_classes: int = 3) -> Extractor:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, n_classes))
    return Extractor(network, [f"kind {number}" for number in range(n_classes)], "5")


def test_free_at_is_the_algorithm_of_the_paper():
    """Each step of two mini-batches with four replays descends in weights and ascends in pixels.

    In double precision rounding turns no sign of a gradient.
    """
    generator = torch.Generator().manual_seed(1)
    batches = [
        (
            torch.rand(5, 3, 8, 8, generator=generator, dtype=torch.float64),
            torch.randint(3, (5,), generator=generator),
        )
        for _ in range(2)
    ]
    ours, reference = (tiny_classifier().double().train() for _ in range(2))

    optimizer = torch.optim.SGD(ours.network.parameters(), lr=0.1)
    recipe, state = recipe_named("free"), State()
    for images, labels in batches:
        for _ in range(4):
            train_step(ours, [optimizer], recipe, state, images, labels, generator)

    delta = torch.zeros(5, 3, 8, 8, dtype=torch.float64)
    parameters = list(reference.network.parameters())
    for images, labels in batches:
        for _ in range(4):
            attacked = torch.clamp(images + delta, 0, 1).requires_grad_()
            log_probabilities = reference(attacked).logits.log_softmax(dim=1)
            loss = -log_probabilities[torch.arange(5), labels].mean()
            pixel_gradient, *gradients = torch.autograd.grad(loss, [attacked, *parameters])
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.1 * gradient
            delta = torch.clamp(delta + EPS * torch.sign(pixel_gradient), -EPS, EPS)

    torch.testing.assert_close(state.perturbation, delta, rtol=0, atol=1e-12)
    for mine, expected in zip(ours.network.parameters(), parameters, strict=True):
        torch.testing.assert_close(mine, expected)


def test_free_perturbation_stays_in_its_ball_and_images_in_range():
    adversary = Free("all", budget=AdversaryBudget(EPS, EPS, 1))
    images = torch.rand(4, 3, 6, 6).round()  # black and white
    generator = torch.Generator().manual_seed(0)
    batch = AdversaryBatch(
        tiny_classifier(), images, torch.arange(4), MINERS["random"], "N", 2.0, generator
    )
    perturbation = None
    for _ in range(5):
        perturbation, points, _ = adversary.perturb(batch, perturbation)
        assert 0 <= points.min() <= points.max() <= 1
        assert (points - images).abs().max() <= EPS + 1e-7
        perturbation = adversary.ascend(
            perturbation, torch.randn(images.shape, generator=generator)
        )
    assert perturbation.abs().max() <= EPS + 1e-7
    assert perturbation.abs().max() > 0


def test_plain_and_free_take_the_same_number_of_steps(monkeypatch, tmp_path):
    steps = []
    monkeypatch.setattr(loop, "train_step", lambda *_: steps.append(1) or 0.0)
    for name in CLASSIFY:
        steps.clear()
        train(tiny_classifier(), colour_pictures(), RECIPES[name], Schedule(8, 16), tmp_path / name)
        assert len(steps) == 8 * 6


@pytest.mark.parametrize("name", CLASSIFY)
def test_a_stopped_training_ends_with_the_same_weights(name, stopped_after_an_epoch, tmp_path):
    pictures, schedule = colour_pictures(), Schedule(8, 16, seed=3)
    whole = tiny_classifier()
    train(whole, pictures, recipe_named(name), schedule, tmp_path / "whole")
    rest = (pictures, recipe_named(name), schedule, tmp_path / "state")
    stopped_after_an_epoch(train, tiny_classifier(), *rest)
    resumed = tiny_classifier()
    train(resumed, *rest)
    expected = whole.network.state_dict()
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_training_learns_and_accuracy_falls_under_attack(tmp_path):
    training, held_out = hold_out(colour_pictures(), 0.25, seed=0)
    extractor = tiny_classifier()
    train(extractor, training, RECIPES["plain"], Schedule(12, 8), tmp_path / "state")
    assert accuracy(extractor, held_out) > 0.9

    assert accuracy(extractor, held_out, FGSM(255)) < accuracy(extractor, held_out)


def test_no_first_logit_of_squeezenet_is_clipped():
    """Clipped logits have no gradient, so that their classes are not learnt."""
    job = Job("squeezenet1_1", None, "free", RECIPES["free"], Schedule(1), eps=4.0)
    extractor = new_extractor(job, ("a", "b", "c")).eval()
    (weight := extractor.network.classifier[1].weight).requires_grad_()
    logits = extractor(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).logits
    logits.sum().backward()
    assert (logits > 0).all() and (weight.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_the_learning_rate_warms_up_and_falls_to_zero():
    factors = [loop._lr_factor(progress, 0.2) for progress in np.linspace(0.01, 1, 100)]
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert int(np.argmax(factors)) == pytest.approx(19, abs=1)
    assert factors[-1] == pytest.approx(0, abs=1e-12)


def test_augmentation_flips_and_shifts_whole_pictures():
    ramp = torch.arange(32, dtype=torch.uint8).repeat(3, 32, 1)[None].repeat(200, 1, 1, 1)
    augmented = flip_and_shift(ramp, torch.Generator().manual_seed(0))
    assert augmented.shape == ramp.shape
    assert augmented.dtype == torch.uint8
    middle = augmented[:, 0, 0, 4:28].long()
    slopes = middle.diff(dim=1)
    assert (slopes.abs() == 1).all()
    flipped = (slopes < 0).all(dim=1)
    assert ((slopes > 0).all(dim=1) | flipped).all()
    assert 60 < flipped.sum() < 140
    shifts = middle[~flipped, 0] - 4
    assert set(shifts.tolist()) == {-2, -1, 0, 1, 2}


def test_crops_are_windows_in_training_and_the_middle_afterwards():
    columns = torch.arange(32, dtype=torch.uint8).repeat(3, 32, 1)[None].repeat(200, 1, 1, 1)
    crop = Augmentation("crop", 28)
    cut = crop.training(columns, torch.Generator().manual_seed(0))
    assert cut.shape == (200, 3, 28, 28)
    first, last = cut[:, 0, 0, 0].long(), cut[:, 0, 0, -1].long()
    assert set((last - first).tolist()) == {-27, 27}
    assert set(torch.minimum(first, last).tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(crop.testing(columns), columns[:, :, 2:30, 2:30])
    small = columns[:, :, :20, :20]
    assert crop.training(small, torch.Generator()).shape == small.shape
    assert torch.equal(crop.testing(small), small)


def test_pictures_are_read_ahead_in_their_order():
    pictures = colour_pictures(60)
    batches = torch.randperm(60).split(4)
    seen = list(read_pixels(pictures, batches, CPU))
    expected_pixels, _ = tensors(pictures)
    assert len(seen) == 15
    for (rows, pixels), expected in zip(seen, batches, strict=True):
        assert torch.equal(rows, expected)
        assert torch.equal(pixels, expected_pixels[expected])
    with pytest.raises(IndexError):
        list(read_pixels(pictures, [torch.tensor([60])], CPU))


def test_a_choice_of_pictures_is_a_smaller_set_of_the_same_kind():
    pictures = colour_pictures(30)
    chosen = choose_pictures(pictures, 7, seed=1)
    assert len(chosen) == len(chosen.classes) == len(set(chosen.ids)) == 7
    np.testing.assert_array_equal(chosen.pixels(), pictures.pixels()[chosen.ids])
    names = [chosen.labels[number] for number in chosen.classes]
    assert names == [pictures.labels[pictures.classes[row]] for row in chosen.ids]
    one = choose_pictures(pictures, 1, seed=1)  # two of three categories are gone
    assert (len(one.labels), one.classes.tolist()) == (1, [0])


def test_split_is_a_partition():
    pictures = colour_pictures(30)
    training, held_out = hold_out(pictures, 0.2, seed=1)
    assert (len(training), len(held_out)) == (24, 6)
    assert sorted([*training.ids, *held_out.ids]) == list(range(30))
    for part in (training, held_out):
        np.testing.assert_array_equal(part.pixels(), pictures.pixels()[part.ids])


@pytest.fixture
def pictures_on_disk(tmp_path) -> Path:
    write_labelled(tmp_path, colour_pictures(60), side=16)
    return tmp_path


def test_pictures_are_read_exactly(pictures_on_disk):
    files = (pictures_on_disk / "images", pictures_on_disk / "labels.csv")
    read, expected = open_labelled_folder(*files), colour_pictures(60)
    np.testing.assert_array_equal(read.pixels(), expected.pixels())
    np.testing.assert_array_equal(read.classes, expected.classes)
    assert (read.labels, read.inputs) == (expected.labels, files)
    assert open_labelled_folder(*files, 24).pixels().shape == (60, 24, 24, 3)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("item,category\n0,0\n", "lacks the columns label"),
        ("item,category,label\n0,0,a\n0,1,b\n", "item 0 appears twice"),
        ("item,category,label\n0,0,a\n1,2,b\n", "without gaps"),
        ("item,category,label\n0,0,a\n1,0,a\n", "at least two"),
        ("item,category,label\n0,0,a\n1,0,b\n2,1,c\n", "category 0 has several labels"),
        ("item,category,label\n0,x,a\n1,1,b\n", "column category holds something"),
        ("item,category,label\n0,0,a\n99,1,b\n", "no image for item 99"),
    ],
)
def test_wrong_labels_are_one_line(pictures_on_disk, table, problem):
    labels = pictures_on_disk / "labels.csv"
    labels.write_text(table)
    with pytest.raises(UserError, match=problem):
        open_labelled_folder(pictures_on_disk / "images", labels)


def test_the_script_writes_a_checkpoint_like_any_other(pictures_on_disk, capsys):
    out = pictures_on_disk / "models" / "free_adv" / "demo.pt"
    options = (
        f"--images {pictures_on_disk}/images --labels {pictures_on_disk}/labels.csv --out {out} "
    )
    options += "--recipe free --arch shufflenet_v2_x0_5 --epochs 4 --batch 16 --size 32 --gpu -1"

    def call(*more: str) -> tuple[int, str, str]:
        return run_script("train_extractor", *options.split(), *more), *capsys.readouterr()

    code, printed, err = call()
    assert code == 0, err
    assert "under PGD-10 at 4/255" in printed
    extractor = load_extractor(None, out)
    assert extractor.labels == ("red", "green", "blue")
    assert extractor.arch == "shufflenet_v2_x0_5"
    first = out.read_bytes()
    names = {"demo.pt", "demo.pt.manifest.json", "demo_log.tsv"}
    assert {path.name for path in out.parent.iterdir()} == names
    assert "up to date" in call()[1]
    call("--force")
    assert out.read_bytes() == first
    assert call("--epochs", "0")[0] == 2
    assert call("--arch", "resnet1")[0] == 2
    assert out.read_bytes() == first
