"""Scripts take the architecture that stage 1 recorded, unless ``--arch`` names one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from src.artifacts.item_classes import write_item_categories
from src.extractors.architectures import build_extractor
from tests.scripts import run_script

SIDE, N, LABELS = 32, 24, ("class 0", "class 1")
SHOP = ("--dataset", "shop", "--gpu", -1)
RANKINGS = ("audits.rankings", *SHOP, "--no_nmi", "--max_images", 2)
ES = ("--attack", "ES:eps=1/255:pgditer=1")
SQUEEZENET = "squeezenet1_1-b8a52dc0.pth"
"""File of torchvision's ImageNet weights."""


@pytest.fixture
def shop(tmp_path, draw_images, monkeypatch) -> Path:
    """Return the data set, in the working folder; published weights are random ones."""
    draw_images(tmp_path / "data/shop/original/images", N, SIDE)
    write_item_categories(tmp_path / "data/shop/items.csv", np.arange(N) % 2, LABELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "data/shop"


def bare_weights(path: Path, arch: str, labels: tuple[str, ...], seed: int = 0) -> Path:
    """Write weights alone, so that the file does not say of which network they are."""
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(build_extractor(arch, labels).network.state_dict(), path)
    return path


def published(folder: Path) -> Path:
    labels = tuple(map(str, range(1000)))
    return bare_weights(folder / "hub/checkpoints" / SQUEEZENET, "squeezenet1_1", labels)


def recorded_arch(table: Path) -> str:
    return json.loads(table.with_suffix(".json").read_text())["options"]["arch"]


def test_the_recorded_checkpoint_is_read_as_the_recorded_network(shop, tmp_path):
    weights = bare_weights(tmp_path / "net.pth", "cifar_resnet8", LABELS)
    model = (*SHOP, "--model_file", weights)
    assert run_script("classify_extract", *model, "--arch", "cifar_resnet8") == 0
    origin = int((shop / "original/classes.csv").read_text().splitlines()[1].split(",")[1])
    attack = ("--attack_type", "fgsm", "--origin_class", origin, "--target_class", 1 - origin)
    attack += ("--num_classes", 2)
    assert run_script("classify_extract_attack", *model, *attack) == 0
    assert run_script("audits.attention", *model, *attack) == 0
    assert run_script(*RANKINGS, *ES, "--model_file", weights, "--out", "model.tsv") == 0
    assert run_script(*RANKINGS, *ES, "--checkpoint", weights, "--out", "checkpoint.tsv") == 0
    assert recorded_arch(Path("model.tsv")) == recorded_arch(Path("checkpoint.tsv"))


def test_another_checkpoint_may_be_another_network(shop, tmp_path, capsys):
    weights = bare_weights(tmp_path / "net.pth", "cifar_resnet8", LABELS)
    model = ("--model_file", weights, "--arch", "cifar_resnet8")
    assert run_script("classify_extract", *SHOP, *model) == 0
    other = bare_weights(tmp_path / "other.pth", "cifar_resnet8", LABELS, seed=1)
    capsys.readouterr()
    assert run_script(*RANKINGS, *ES, "--checkpoint", other) == 2
    error = capsys.readouterr().err
    assert "resnet50" in error and error.count("\n") == 1


def test_published_weights_are_those_of_the_recorded_network(shop, tmp_path):
    published(tmp_path)
    assert run_script("classify_extract", *SHOP, "--arch", "squeezenet1_1") == 0
    assert run_script(*RANKINGS, *ES, "--out", "a.tsv") == 0
    assert recorded_arch(Path("a.tsv")) == "squeezenet1_1"


def test_published_weights_do_not_take_the_place_of_a_recorded_checkpoint(shop, tmp_path, capsys):
    published(tmp_path)
    weights = bare_weights(tmp_path / "net.pth", "squeezenet1_1", LABELS)
    model = ("--model_file", weights, "--arch", "squeezenet1_1")
    assert run_script("classify_extract", *SHOP, *model) == 0
    capsys.readouterr()
    assert run_script(*RANKINGS, *ES) == 2
    error = capsys.readouterr().err
    assert "original/classes.csv was made with weights" in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()
    assert run_script(*RANKINGS, *ES, "--arch", "squeezenet1_1") == 0
