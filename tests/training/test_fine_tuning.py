"""Defences by fine-tuning: FARE, its form weighed by a recommender, and denoisers."""

import copy
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageSet
from src.defences.unet import UNet, load_denoiser
from src.extractors.checkpoints import load_extractor, save_extractor
from src.extractors.extractor import Extractor
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.read_out import change_of_scores
from src.recommenders.weights import initial_weights, write_weights
from src.training.accuracy import with_seen_classes
from src.training.adversaries import AdversaryBudget
from src.training.command import WITHOUT_LABELS
from src.training.loop import Schedule, train
from src.training.original import Original, Reading
from src.training.pictures import UNCHANGED
from src.training.recipes import RECIPES, parts
from src.training.starts import CleanedImages
from src.training.steps import State, perturbed_views, train_step
from tests.image_sets import image_set
from tests.scripts import run_script
from tests.small_shops import write_data

EPS = 16 / 255


def tiny_extractor(seed: int = 0) -> Extractor:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(4 * 49, 5), nn.Tanh(), nn.Linear(5, 3))
    extractor = Extractor(network, ["a", "b", "c"], "7").eval()
    extractor.network[1].running_mean.uniform_(-0.2, 0.2)
    return extractor


def photos(n: int = 24) -> ImageSet:
    pixels = torch.randint(256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    return image_set(pixels, torch.zeros(n, dtype=torch.long), ("any",))


def recipe_named(name: str, eps: float = EPS, steps: int = 2):
    recipe = RECIPES[name]
    budget = AdversaryBudget(eps, eps / 2, steps)
    return replace(recipe, adversary=replace(recipe.adversary, budget=budget))


def reading(n_features: int = 5, unit: bool = False) -> Reading:
    rng = np.random.default_rng(0)
    return Reading(rng.standard_normal((n_features, 2), np.float32), unit)


def ready(name: str) -> Extractor:
    extractor = tiny_extractor()
    if name.startswith("denoiser"):
        torch.manual_seed(1)
        extractor.preprocess = CleanedImages(UNet(2))
    return extractor


def images_of_a_batch() -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_recipes_without_labels_are_those_that_compare_with_the_original():
    assert tuple(name for name in RECIPES if parts(RECIPES[name])[0].fine_tunes) == WITHOUT_LABELS


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("name", ["fare", "fare_rec"])
def test_a_step_is_the_loss_computed_by_hand(name, unit):
    """The reference computes the loss image by image and takes one step of SGD, clean term included."""
    read = reading(unit=unit) if name == "fare_rec" else None
    ours, images = tiny_extractor(), images_of_a_batch()
    with torch.no_grad():
        ours.network[5].weight.mul_(1.3)  # so that the network differs from the original
    first = tiny_extractor()
    recipe = recipe_named(name)
    state = State.of(recipe, first, 1, read)
    reference = copy.deepcopy(ours)
    points = perturbed_views(
        ours, recipe, state, images, torch.zeros(4).long(), generator(3)
    ).points
    assert (points - images).abs().max() <= EPS + 1e-6

    optimizer = torch.optim.SGD(ours.network.parameters(), lr=0.1)
    loss = train_step(ours, [optimizer], recipe, state, images, torch.zeros(4).long(), generator(3))

    def squared(network, image, benign):
        after, before = network(image[None]).features[0], first(benign[None]).features[0].detach()
        if name == "fare":
            return sum((after - before) ** 2)
        if unit:
            after, before = after / after.norm(), before / before.norm()
        directions = torch.from_numpy(read.directions)
        return sum(((after - before) @ directions[:, k]) ** 2 for k in range(2))

    pairs = list(zip(points, images, strict=True))
    perturbed = sum(squared(reference, point, image) for point, image in pairs) / 4
    clean = sum(squared(reference, image, image) for image in images) / 4
    assert loss == pytest.approx(perturbed.item(), rel=1e-4)
    assert perturbed > clean > 0
    gradients = torch.autograd.grad(
        perturbed + 0.5 * clean, list(reference.network.parameters()), allow_unused=True
    )
    for mine, weight, gradient in zip(
        ours.network.parameters(), reference.network.parameters(), gradients, strict=True
    ):
        expected = weight if gradient is None else weight - 0.1 * gradient
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    assert gradients[-1] is None  # the head stays
    assert torch.equal(first.network[5].weight, tiny_extractor().network[5].weight)


def test_the_adversary_increases_what_the_recommender_sees():
    images, network = images_of_a_batch(), tiny_extractor()
    recipe = recipe_named("fare_rec", steps=10)
    state = State.of(recipe, network, 1, reading())

    def seen(points):
        return state.original.departure(images)(network(points).features).square().sum()

    points = perturbed_views(
        network, recipe, state, images, torch.zeros(4).long(), generator()
    ).points
    noise = images + EPS * torch.randn(images.shape, generator=generator()).sign()
    assert seen(points) > 2 * seen(noise.clamp(0, 1))


def test_the_published_denoiser_is_attacked_on_the_network_alone():
    images, classes = images_of_a_batch(), torch.zeros(4).long()
    behind = ready("denoiser")
    points = {}
    for name in ("denoiser", "denoiser_adv"):
        recipe = recipe_named(name, steps=4)
        state = State.of(recipe, behind, 1)
        points[name] = perturbed_views(behind, recipe, state, images, classes, generator()).points
    fare = recipe_named("fare", steps=4)
    alone = tiny_extractor()
    expected = perturbed_views(
        alone, fare, State.of(fare, alone, 1), images, classes, generator()
    ).points
    assert torch.equal(points["denoiser"], expected)
    assert not torch.equal(points["denoiser_adv"], expected)


def test_the_loss_of_a_denoiser_is_a_sum_of_absolute_differences():
    extractor, images = ready("denoiser"), images_of_a_batch()
    recipe = recipe_named("denoiser")
    state = State.of(recipe, extractor, 1)
    views = perturbed_views(extractor, recipe, state, images, torch.zeros(4).long(), generator())
    cleaned = extractor.preprocess(views.points)
    network = tiny_extractor()
    apart = network(cleaned).features - network(images).features
    torch.testing.assert_close(recipe.loss(views), apart.abs().sum() / 4)


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_a_rate_of_0_and_a_budget_of_0_leave_everything_as_it_is(name, tmp_path):
    extractor, schedule = ready(name), Schedule(2, 8, 0.0, "adamw", augmentation=UNCHANGED)
    before = copy.deepcopy(extractor.network.state_dict())
    log = train(
        extractor,
        photos(),
        recipe_named(name, eps=0.0),
        schedule,
        tmp_path / "s",
        reading=reading(),
    )
    for key, value in extractor.network.state_dict().items():
        assert torch.equal(value, before[key]), key
    if not name.startswith("denoiser"):
        assert [row["loss"] for row in log] == [0, 0]
        assert [row["benign_departure"] for row in log] == [0, 0]


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_a_stopped_training_ends_with_the_same_weights(name, stopped_after_an_epoch, tmp_path):
    schedule = Schedule(3, 8, 1e-3, "adamw", augmentation=UNCHANGED, seed=3)
    rest = (photos(), recipe_named(name), schedule)
    whole = ready(name)
    train(whole, *rest, tmp_path / "whole", reading=reading())
    more = (*rest, tmp_path / "state", "fp32", reading())
    stopped_after_an_epoch(train, ready(name), *more)
    resumed = ready(name)
    train(resumed, *more)
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key
    changed = not torch.equal(whole.network[5].weight, tiny_extractor().network[5].weight)
    assert changed == (not name.startswith("denoiser"))
    if name.startswith("denoiser"):
        untouched = tiny_extractor().network.state_dict()
        assert all(torch.equal(v, untouched[k]) for k, v in whole.network.state_dict().items())
        assert not torch.equal(
            whole.preprocess.denoiser.last.weight, ready(name).preprocess.denoiser.last.weight
        )


def test_training_brings_perturbed_features_nearer(tmp_path):
    extractor, schedule = tiny_extractor(), Schedule(60, 8, 3e-3, "adamw", augmentation=UNCHANGED)
    log = train(extractor, photos(), recipe_named("fare", steps=4), schedule, tmp_path / "state")
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]


def test_the_matrix_of_a_recommender_is_the_mean_over_its_users():
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((7, 3), np.float32) @ rng.standard_normal((3, 5), np.float32)
    matrix = change_of_scores(slopes + 1)
    change = rng.standard_normal(5)
    by_user = [float(user @ change) ** 2 for user in slopes + 1]
    assert np.square(change @ matrix).sum() == pytest.approx(np.mean(by_user), rel=1e-5)
    # All slopes lie in the space of 3 factors and the shared part.
    assert matrix.shape == (5, 4)
    assert matrix.dtype == np.float32
    together = change_of_scores(np.ones((7, 5), np.float32))
    assert np.square(np.ones(5) @ together).sum() == pytest.approx(25)


def test_an_original_is_frozen_and_without_a_denoiser():
    extractor = ready("denoiser")
    original = Original.of(extractor)
    assert original.extractor.preprocess is None
    assert not any(weight.requires_grad for weight in original.extractor.parameters())
    assert extractor.preprocess is not None


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """Folder with photos of items, without labels, and a trained network."""
    from src.extractors.architectures import build_extractor

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for item in range(8):
        pixels = rng.integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{item}.png")
    torch.manual_seed(0)
    save_extractor(tmp_path / "plain.pt", build_extractor("lenet", ("left", "right")))
    return tmp_path


def call(capsys, options: str) -> tuple[int, str, str]:
    return run_script("train_extractor", *options.split()), *capsys.readouterr()


FARE = "--recipe fare --pretrained plain.pt --images photos --out fare.pt --epochs 1 --batch 4 --gpu -1"


def test_the_script_needs_no_labels(catalogue, capsys):
    code, printed, err = call(capsys, FARE)
    assert code == 0, err
    assert "8 pictures" in printed
    tuned, plain = (
        load_extractor(None, catalogue / "fare.pt"),
        load_extractor(None, catalogue / "plain.pt"),
    )
    assert (tuned.arch, tuned.labels) == ("lenet", ("left", "right"))
    assert torch.equal(tuned.network.fc2.weight, plain.network.fc2.weight)
    assert not torch.equal(tuned.network.fc1.weight, plain.network.fc1.weight)
    assert "up to date" in call(capsys, FARE)[1]


FREE = FARE.replace("fare", "free")


def test_free_keeps_the_classes_that_the_network_sees(catalogue, capsys):
    code, printed, err = call(capsys, FREE + " --lr 0.001")
    assert code == 0, err
    assert "8 pictures to train on, in the classes that the network sees in them" in printed
    tuned, plain = (load_extractor(None, catalogue / f"{n}.pt") for n in ("free", "plain"))
    assert (tuned.arch, tuned.labels) == ("lenet", ("left", "right"))
    assert not torch.equal(tuned.network.conv1.weight, plain.network.conv1.weight)
    assert "up to date" in call(capsys, FREE + " --lr 0.001")[1]


def test_seen_classes_are_those_of_the_largest_logits(catalogue):
    pictures, plain = (
        open_catalogue(catalogue / "photos"),
        load_extractor(None, catalogue / "plain.pt"),
    )
    seen = with_seen_classes(pictures, plain)
    images = torch.from_numpy(pictures.batch(np.arange(8))).permute(0, 3, 1, 2).float() / 255
    assert seen.classes.tolist() == plain(images).logits.argmax(dim=1).tolist()
    assert seen.labels == ("left", "right") and len(set(seen.classes)) == 2


def test_a_training_that_diverges_leaves_no_checkpoint(catalogue, capsys):
    code, _, err = call(capsys, FREE + " --lr 1e30 --epochs 8")
    assert code == 2
    assert re.search(
        r"error: the training diverged in epoch \d: .* smaller --lr than 1e\+30\n$", err
    )
    assert not (catalogue / "free.pt").exists()


def test_the_script_writes_a_denoiser(catalogue, capsys):
    options = FARE.replace("fare", "denoiser_adv") + " --width 2 --steps 1 --max_pictures 4"
    code, printed, err = call(capsys, options)
    assert code == 0, err
    assert "4 pictures" in printed
    denoiser = load_denoiser(catalogue / "denoiser_adv.pt")
    assert denoiser.width == 2
    images = torch.rand(1, 3, 28, 28)
    assert denoiser(images).shape == images.shape


def sell(n_features: int) -> None:
    """Write a data set ``shop`` of the 8 photos and a VBPR that reads ``n_features``."""
    layout, rng = Layout("shop"), np.random.default_rng(0)
    shutil.copytree("photos", layout.images)
    pairs = np.stack([np.arange(6), np.arange(6)], axis=1)
    features = rng.random((8, n_features), dtype=np.float32)
    write_data(layout, pairs, pairs + np.array([0, 1]), features={"original": features})
    shapes, options = ((6, 2), (8, 2), (n_features, 2)), Hyperparameters(factors=2)
    path = layout.weights(Run(Experiment(), "VBPR", 1))
    path.parent.mkdir(parents=True)
    write_weights(path, initial_weights(shapes, options, 1.0, 0))


def test_the_script_reads_a_recommender(catalogue, capsys):
    sell(500)
    fare_rec = FARE.replace("fare", "fare_rec") + " --dataset shop --score_model VBPR"
    fare_rec += " --score_epoch 1"
    code, _, err = call(capsys, fare_rec)
    assert code == 0, err
    tuned, plain = (load_extractor(None, catalogue / f"{n}.pt") for n in ("fare_rec", "plain"))
    assert not torch.equal(tuned.network.fc1.weight, plain.network.fc1.weight)
    record = json.loads((catalogue / "fare_rec.pt.manifest.json").read_text())
    assert "shop/original_step1_VBPR.npz" in record["inputs"]


def test_a_recommender_of_other_features_is_one_line(catalogue, capsys):
    sell(7)
    options = FARE.replace("fare ", "fare_rec ") + " --dataset shop"
    weights = Layout("shop").weights(Run(Experiment(), "VBPR", 1))
    code, _, err = call(capsys, f"{options} --weights {weights}")
    assert code == 2
    assert "reads 7 features, but the network has 500" in err
    assert err.count("\n") == 1
    assert not (catalogue / "fare.pt").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (FARE.replace("--pretrained plain.pt ", ""), "--pretrained FILE"),
        (FARE.replace("plain.pt", "other.pt"), "missing file: other.pt"),
        (FARE + " --arch c2f2", "plain.pt is a lenet, but --arch says c2f2"),
        (FARE.replace("photos", "nowhere"), "nowhere"),
        (FARE.replace("--images photos", ""), "say what to train on"),
        (FREE.replace("--images photos", ""), "say what to train on"),
        (FREE.replace("--pretrained plain.pt", ""), "say what to train on"),
        (FREE.replace("photos", "nowhere"), "nowhere"),
        (FREE.replace("free", "hm"), "recipe hm trains an embedder"),
        (FREE.replace("--recipe free", "-C fashion:rc2f2:ptripletN"), "say what to train on"),
        (FARE + " --adversary pgd", "--adversary does not go with recipe fare"),
        (FARE + " --batch_norm train", "--batch_norm does not go with recipe fare"),
        (FARE + " --clean_weight -1", "--clean_weight must not be negative"),
        (FARE + " --clean_weight inf", "--clean_weight must be a finite number"),
        (FARE + " --width 8", "--width belongs to"),
        (FARE + " --score_model VBPR", "belong to --recipe fare_rec"),
        (FARE.replace("fare ", "fare_rec "), "needs a recommender"),
        (FARE.replace("fare ", "fare_rec ") + " --score_model VBPR", "--dataset"),
        (
            FARE.replace("fare ", "fare_rec ") + " --score_model VBPR --dataset none",
            "none",
        ),
        (FARE.replace("fare ", "denoiser ") + " --clean_weight 1", "belongs to fare and fare_rec"),
    ],
)
def test_bad_input_is_one_line(catalogue, capsys, options, problem):
    before = sorted(catalogue.rglob("*"))
    code, _, err = call(capsys, options)
    assert code == 2
    assert problem in err
    assert err.count("\n") == 1
    assert sorted(catalogue.rglob("*")) == before
