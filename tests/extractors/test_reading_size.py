"""Scripts read images at the size that the network was trained on, unless an option sets another."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.artifacts.item_classes import write_item_categories
from src.artifacts.manifest import record_path
from src.extractors.architectures import build_extractor
from src.extractors.checkpoints import load_extractor, save_extractor
from src.metrics.retrieval import retrieval
from tests.scripts import run_script

SIDE, TRAINED, N = 48, 32, 24
SIZES = [(None, SIDE, SIDE), (TRAINED, TRAINED, TRAINED), (0, SIDE, TRAINED), (40, 40, TRAINED)]
"""(--resize, side that is read, side that the checkpoint records); the images have ``SIDE`` pixels."""


@pytest.fixture
def shop(tmp_path, draw_images, monkeypatch) -> Path:
    """Catalogue of two categories in the working folder."""
    draw_images(tmp_path / "data/shop/original/images", N, SIDE)
    labels = ("class 0", "class 1")
    write_item_categories(tmp_path / "data/shop/items.csv", np.arange(N) % 2, labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys):
    def invoke(script: str, *options: object) -> str:
        code, printed = run_script(script, *options, "--gpu", -1), capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return invoke


def checkpoint(folder: Path, trained: int | None) -> Path:
    torch.manual_seed(0)
    extractor = build_extractor("cifar_resnet8", ("class 0", "class 1"))
    extractor.trained_size = trained
    path = folder / f"net{trained}.pt"
    save_extractor(path, extractor)
    return path


def truth(weights: Path, shop: Path, side: int) -> dict[str, np.ndarray]:
    """Return predictions for all images, read by this function at ``side`` pixels."""
    images = []
    for item in range(N):
        image = Image.open(shop / f"data/shop/original/images/{item}.jpg").convert("RGB")
        if side != SIDE:
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        images.append(np.asarray(image))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        prediction = load_extractor(None, weights)(pixels)
    return {
        "features": prediction.features.numpy(),
        "classes": prediction.logits.argmax(dim=1).numpy(),
        "labels": np.arange(N) % 2,
    }


def resize_options(resize: int | None, name: str = "--resize") -> tuple[object, ...]:
    return () if resize is None else (name, resize)


@pytest.mark.parametrize(("resize", "side", "trained"), SIZES)
def test_stages_1_and_3(shop, call, resize, side, trained):
    weights = checkpoint(shop, trained)
    model = ("--dataset", "shop", "--model_file", weights, *resize_options(resize))
    printed = call("classify_extract", *model)
    expected = truth(weights, shop, side)
    folder = shop / "data/shop"
    np.testing.assert_allclose(
        np.load(folder / "original/features.npy"), expected["features"], rtol=1e-3, atol=1e-4
    )
    assert f"{N} images of {SIDE}x{SIDE} pixels" in printed
    assert ("trained on" in printed) == (side != trained)
    origin = int(expected["classes"][0])
    attack = ("--attack_type", "noise", "--eps", 8, "--origin_class", origin, "--num_classes", 2)
    call("classify_extract_attack", *model, *attack, "--target_class", 1 - origin)
    (attacked,) = folder.glob("noise_*")
    assert {Image.open(file).size for file in (attacked / "images").iterdir()} == {(side, side)}


@pytest.mark.parametrize(("resize", "side", "trained"), SIZES)
def test_robust_accuracy(shop, call, resize, side, trained):
    weights = checkpoint(shop, trained)
    images = ("--dataset", "catalogue", "--data", shop / "data/shop", "--part", "all")
    printed = call(
        "audits.robustness",
        *images,
        *("--checkpoint", weights, "--attacks", "clean", "--out", shop / "table.tsv"),
        *resize_options(resize),
    )
    expected = truth(weights, shop, side)
    table = pd.read_csv(shop / "table.tsv", sep="\t")
    right = (expected["classes"] == expected["labels"]).mean()
    assert table["accuracy"].iloc[0] == pytest.approx(100 * right)
    assert json.loads(record_path(shop / "table.tsv").read_text())["options"]["resize"] == side
    assert f"images are read at {side}x{side} pixels" in printed
    assert ("trained on" in printed) == (side != trained)


@pytest.mark.parametrize("source", ["catalogue", "folder of images"])
@pytest.mark.parametrize(("resize", "side", "trained"), SIZES)
def test_rankings(shop, call, source, resize, side, trained):
    weights = checkpoint(shop, trained)
    images = (
        "--images",
        shop / "data/shop/original/images",
        "--labels",
        shop / "data/shop/items.csv",
    )
    if source == "catalogue":
        images = ("--dataset", "shop")
    out = shop / "table.tsv"
    attack = ("--attack", "ES:eps=1/255:pgditer=1", "--no_nmi", "--repeats", 1, "--max_images", 4)
    call(
        "audits.rankings",
        *images,
        "--checkpoint",
        weights,
        *attack,
        "--out",
        out,
        *resize_options(resize),
    )
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["options"]["resize"] == side
    if source == "folder of images":
        expected = truth(weights, shop, side)
        lengths = np.linalg.norm(expected["features"], axis=1, keepdims=True)
        r1 = retrieval(expected["features"] / lengths, expected["labels"]).means()["r1"]
        assert record["benign"]["r1"] == pytest.approx(r1)


@pytest.mark.parametrize(("resize", "side", "trained"), SIZES)
def test_inversion(shop, call, resize, side, trained):
    images = ("--dataset", "catalogue", "--data", shop / "data/shop", "--part", "all")
    network = ("--checkpoint", checkpoint(shop, trained), "--n_images", 2)
    steps = ("--optim", "inversed", "--iterations", 1, "--out", shop / "out", "--no_grid")
    call("audits.leaks", *images, *network, *steps, *resize_options(resize, "--size"))
    pictures = [Image.open(file) for file in (shop / "out").rglob("*.png")]
    assert pictures and {picture.size for picture in pictures} == {(side, side)}


def test_training_records_its_size(shop, call):
    pictures = (
        "--images",
        shop / "data/shop/original/images",
        "--labels",
        shop / "data/shop/items.csv",
    )
    network = ("--arch", "cifar_resnet8", "--epochs", 1, "--out", shop / "net.pt", "--size", 40)
    printed = call("train_extractor", *pictures, *network)
    assert "images are read at 40x40 pixels" in printed
    assert load_extractor(None, shop / "net.pt").trained_size == 40


def test_training_at_a_size_that_the_network_cannot_read_is_one_line(shop, capsys):
    options = (
        "--images data/shop/original/images --labels data/shop/items.csv --arch c2f2 --epochs 1"
    )
    assert run_script("train_extractor", *options.split(), "--out", "net.pt", "--gpu", -1) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot read images of 48x48 pixels" in error
    assert "--size 28" in error and not Path("net.pt").exists()
