"""The additions of docs/extending.md fit into a copy of the project, and its commands run."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import models

from src.artifacts.item_classes import write_item_categories
from src.artifacts.tables import read_top_k, write_pairs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LONGEST = 30
"""Lines of an example."""
N_ITEMS, N_USERS = 30, 12
BLOCK = re.compile(r"^```(python|diff|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    kind: str
    text: str

    @property
    def path(self) -> str:
        """Return the file that the first line names."""
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def content(self) -> str:
        return self.text.partition("\n")[2]


def examples() -> dict[str, list[Block]]:
    """Return the blocks of each section, by the last word of its title."""
    sections = (ROOT / "docs" / "extending.md").read_text().split("\n## ")[1:]
    found = {
        section.partition("\n")[0].split()[-1]: [Block(*match) for match in BLOCK.findall(section)]
        for section in sections
    }
    return {name: blocks for name, blocks in found.items() if blocks}


EXAMPLES = examples()


def add(block: Block, project: Path) -> None:
    """Write the new file, or insert the added lines between existing lines, which are unique."""
    path = project / block.path
    if block.kind == "python":
        assert not path.exists()
        path.write_text(block.content)
        return
    text = path.read_text()
    for hunk in block.content.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before, after = (
            "".join(line[1:] or "\n" for line in lines if line[0] in f" {sign}\n") for sign in "-+"
        )
        assert text.count(before) == 1, f"{block.path} does not hold once: {before}"
        text = text.replace(before, after)
    path.write_text(text)


@dataclass(frozen=True)
class Project:
    """Copy of the project with all additions of the page, and a small data set beside it."""

    folder: Path
    python: str

    def run(self, command: str) -> str:
        arguments = command.split()
        assert arguments[0] == "python"
        environment = {**os.environ, "PYTHONPATH": ""}
        result = subprocess.run(
            [self.python, *arguments[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run_example(self, name: str) -> list[str]:
        """Run the commands of an example; return their output."""
        commands = [block.text for block in EXAMPLES[name] if block.kind == "bash"]
        return [self.run(line) for line in "".join(commands).splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_checkpoint, python) -> Project:
    folder = tmp_path_factory.mktemp("extended") / "project"
    for package in ("audits", "src"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for script in ROOT.glob("*.py"):
        shutil.copy(script, folder)
    for block in (block for blocks in EXAMPLES.values() for block in blocks):
        if block.kind != "bash":
            add(block, folder)
    rng = np.random.default_rng(0)
    draw_pictures(folder / "data" / "tiny" / "original" / "images", rng)
    draw_pictures(folder / "pictures", rng)
    write_item_categories(folder / "pictures.csv", np.arange(N_ITEMS) % 2, ("left", "right"))
    chosen = rng.permuted(np.tile(np.arange(N_ITEMS), (N_USERS, 1)), axis=1)[:, :6]
    users = np.repeat(np.arange(N_USERS), 5)
    write_pairs(
        folder / "data/tiny/trainingset.tsv", np.stack([users, chosen[:, :5].ravel()], axis=1)
    )
    write_pairs(
        folder / "data/tiny/testset.tsv", np.stack([np.arange(N_USERS), chosen[:, 5]], axis=1)
    )
    write_digits(folder / "digits", rng)
    shutil.copy(tiny_checkpoint, folder / "tiny.pt")
    write_backbone(folder / "dino.pth")
    project = Project(folder, python.program)
    project.run("python classify_extract.py --dataset tiny --model_file tiny.pt --gpu -1")
    return project


def draw_pictures(folder: Path, rng: np.random.Generator) -> None:
    """Draw gradients of random colours."""
    folder.mkdir(parents=True)
    for item in range(N_ITEMS):
        corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        corners.resize((48, 48), Image.Resampling.BILINEAR).save(folder / f"{item}.png")


def write_digits(folder: Path, rng: np.random.Generator) -> None:
    """Write lines of 64 grey values and a class, which except for two lines is the brightest row."""
    folder.mkdir()
    for part, n in (("tra", 320), ("tes", 40)):
        classes = np.arange(n) % 10
        pixels = rng.integers(0, 5, (n, 8, 8))
        pixels[np.arange(n), classes % 8] += 8 + 4 * (classes[:, None] // 8)
        rows = np.column_stack([pixels.reshape(n, 64), classes])
        np.savetxt(folder / f"optdigits.{part}", rows, fmt="%d", delimiter=",")


def write_backbone(path: Path) -> None:
    """Write random weights of ResNet50 without its last layer, in the format of DINO."""
    torch.manual_seed(0)
    network = models.resnet50()
    network.fc = torch.nn.Identity()
    torch.save(network.state_dict(), path)


def test_there_is_an_example_of_everything():
    assert list(EXAMPLES) == [
        "backbone", "attack", "extractor", "training", "recommender", "metric", "set",
    ]  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_short(name):
    added = sum(
        len([line for line in block.content.splitlines() if line.strip("+ ")])
        if block.kind == "python"
        else len(re.findall(r"^\+.*\S", block.content.partition("\n")[2], re.MULTILINE))
        for block in EXAMPLES[name]
        if block.kind != "bash"
    )
    assert 0 < added <= LONGEST


def test_the_added_code_is_formatted_as_ours(project):
    for arguments in (["format", "--check"], ["check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--config", ROOT / "pyproject.toml", "src"],
            cwd=project.folder,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout


def test_the_backbone_is_attacked_by_classes_of_the_shop(project):
    stage_1, stage_3 = project.run_example("backbone")
    assert "nearest to the mean of their own class" in stage_1
    assert "success rate" in stage_3
    folder = project.folder / "data/tiny/means_original"
    assert np.load(folder / "features.npy").shape == (N_ITEMS, 2048)
    assert set(pd.read_csv(folder / "classes.csv")["ClassStr"]) <= {"left", "right"}


def test_the_attack_moves_images_within_its_budget(project):
    [printed] = project.run_example("attack")
    assert "success rate" in printed
    folder = project.folder / "data/tiny/nifgsm_1_0_eps8.0_steps10_linf_decay0.9"
    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    assert len(report) > 0 and (report["linf"] == 8).all()
    assert len(list((folder / "images").glob("*.tiff"))) == len(report)


def test_the_defence_stands_in_front_of_the_extractor(project):
    _, *attacked = project.run_example("extractor")
    assert ["success rate" in printed for printed in attacked] == [True, True]
    data = project.folder / "data/tiny"
    clean, defended = (
        np.load(data / name / "features.npy") for name in ("original", "crop-share0.8_original")
    )
    assert defended.shape == clean.shape and not np.allclose(defended, clean, rtol=0.01)
    folder = data / "crop-share0.8_fgsm_1_0_eps8.0_it1_linf_XX"
    aware, unaware = (
        np.load(of / "features.npy") for of in (folder, folder.with_name(f"{folder.name}_unaware"))
    )
    assert not np.array_equal(aware, unaware)


def test_the_recipe_trains_an_extractor_that_stage_1_reads(project):
    printed = project.run_example("training")
    assert "accuracy on held-out pictures" in printed[0]
    features = np.load(project.folder / "data/tiny/alp_original/features.npy")
    assert len(features) == N_ITEMS and np.isfinite(features).all()


def test_the_recommender_faces_the_attack_under_both_protocols(project):
    attacked = "nifgsm_1_0_eps8.0_steps10_linf_decay0.9"
    if not (project.folder / "data/tiny" / attacked).exists():
        project.run_example("attack")
    project.run_example("recommender")
    clean, moved = (
        np.load(project.folder / "data/tiny" / of / "features.npy").astype(np.float64)
        for of in ("original", attacked)
    )
    train = pd.read_csv(
        project.folder / "data/tiny/trainingset.tsv", sep="\t", names=["user", "item"]
    )
    chosen = np.zeros((N_ITEMS, N_USERS))
    chosen[train["item"], train["user"]] = 1
    shares = chosen.mean(axis=1, keepdims=True)

    def scores(learnt_from: np.ndarray, seen: np.ndarray) -> np.ndarray:
        dual = learnt_from @ learnt_from.T + N_ITEMS * np.eye(N_ITEMS)
        return shares + seen @ learnt_from.T @ np.linalg.solve(dual, chosen - shares)

    for name, expected in {
        "original_top5_ep0_Taste": scores(clean, clean),
        f"{attacked}_top5_ep0_Taste": scores(moved, moved),
        f"{attacked}_top5_ep0_Taste_testtime": scores(clean, moved),
    }.items():
        expected[chosen == 1] = -np.inf
        lists = read_top_k(project.folder / f"rec_results/tiny/{name}.tsv")
        best = -np.sort(-expected, axis=0)[:5].T
        listed = np.take_along_axis(expected.T, lists.items, axis=1)
        np.testing.assert_allclose(listed, best, atol=1e-3)
        assert (project.folder / f"chr/tiny/{name}.tsv").is_file()
    summary = pd.read_csv(project.folder / "results/tiny/summary.tsv", sep="\t")
    of_taste = summary[summary["recommender"] == "Taste"]
    assert set(of_taste["protocol"]) == {"retrained", "test_time"}
    assert (of_taste["seeds"] == 2).all()
    assert (project.folder / "results/tiny/attack_rec.tsv").is_file()


def test_the_metric_stands_in_the_results(project):
    project.run("python rec_generator.py --dataset tiny --model Pop --topk 5")
    project.run_example("metric")
    stem = "original_top5_ep0_Pop.tsv"
    table = pd.read_csv(project.folder / "accuracy/tiny" / stem, sep="\t").set_index("metric")
    ranks = pd.read_csv(
        project.folder / "rec_results/tiny/test_ranks" / stem, sep="\t", header=None
    )[2]
    expected = np.where(ranks < 5, 0.2 * 0.8**ranks, 0).mean()
    assert table.loc["rbp", "score"] == pytest.approx(expected, rel=1e-6)


def test_the_data_set_is_trained_on_and_attacked(project):
    trained, attacked = project.run_example("set")
    assert "320 pictures in 10 categories to train on, 40 held out" in trained
    assert "fgsm" in attacked
