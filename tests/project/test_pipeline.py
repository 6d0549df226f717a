"""Run of all stages on a small demo set: the files of every stage fit the next stage."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.artifacts.tables import read_top_k
from src.measures.summary import COLUMNS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ATTACK = ["--attack_type", "pgd", "--eps", "8", "--origin_class", "0", "--target_class", "1"]
EXTRACTOR = ["--model_file", "models/plain/tiny.pt"]
CPU = ["--gpu", "-1"]
LISTS = ["--topk", "30", "--epoch", "20", "--model", "VBPR", "AMR"]
NAME = "pgd_0_1_eps8.0_eps_it8.0_nb_it10_linf"


class Tree:
    """Workspace below which the stages run."""

    def __init__(self, root: Path, python: str) -> None:
        self.root = root
        self.python = python
        self.data = root / "data" / "demo"

    def run(self, script: str, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess:
        dataset = [] if script == "train_extractor.py" else ["--dataset", "demo"]
        place = [] if script == "train_extractor.py" else ["--root", str(self.root)]
        if script == "prepare_dataset.py":
            arguments, dataset = ("demo", *arguments), []
        command = [self.python, str(ROOT / script), *arguments, *dataset, *place]
        result = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
        assert result.returncode == expect, result.stderr
        return result

    def attack(self, script: str, *more: str) -> subprocess.CompletedProcess:
        return self.run(script, *ATTACK, *EXTRACTOR, *CPU, *more)

    def summary(self) -> pd.DataFrame:
        return pd.read_csv(self.root / "results" / "demo" / "summary.tsv", sep="\t")


@pytest.fixture(scope="module")
def tree(tmp_path_factory, python) -> Tree:
    """Tree after one run of all stages."""
    tree = Tree(tmp_path_factory.mktemp("pipeline"), python.program)
    tree.run("prepare_dataset.py", "--items", "120", "--users", "80", "--size", "32")
    pictures = tree.data / "extractor"
    tree.run(
        "train_extractor.py",
        *("--images", str(pictures / "images"), "--labels", str(pictures / "labels.csv")),
        *("--recipe", "plain", "--arch", "resnet18", "--epochs", "4"),
        *("--out", str(tree.root / "models" / "plain" / "tiny.pt"), *CPU),
    )
    tree.run("classify_extract.py", *EXTRACTOR, *CPU)
    tree.run("rec_generator.py", *LISTS, "--seed", "0", "1", "2", "3")
    tree.attack("classify_extract_attack.py")
    tree.attack("evaluate_attack.py")
    tree.attack("feature_loss.py")
    tree.run("rec_generator.py", *LISTS, "--experiment_name", NAME, "--seed", "0", "1")
    test_time = ["--load_weights_from", "original", "--seed", "0", "1"]
    tree.run("rec_generator.py", *LISTS, "--experiment_name", NAME, *test_time)
    tree.run("evaluate_rec.py", "--metric", "all", "--topk", "30", "--origin", "0")
    tree.run("summarize.py", "--list_of_k", "10", "20")
    return tree


def test_summary_has_a_row_for_every_combination(tree):
    summary = tree.summary()
    assert tuple(summary) == COLUMNS
    assert set(summary.extractor) == {"original"} and set(summary.attack) == {NAME}
    combinations = summary.groupby(["recommender", "protocol"]).size()
    # chr, chr_normalised, ncdcg, hr and ndcg at two K each, and auc.
    assert combinations.tolist() == [11, 11, 11, 11]
    assert np.allclose(summary.change, summary.after - summary.before, atol=1e-4)
    assert summary.p_value.between(0, 1).all()
    assert (summary.seeds == 2).all()
    assert (summary.weakest_level == "no noise control").all()
    assert (summary.verdict == "undecided").all()
    runs = pd.read_csv(tree.root / "results" / "demo" / "runs.tsv", sep="\t")
    # Each recommender has four clean runs, and two under each protocol.
    assert len(runs) == 2 * (4 + 2 + 2) and (runs.extractor_seed == 0).all()


def test_summary_agrees_with_the_stages_before_it(tree):
    summary = tree.summary().set_index(["recommender", "protocol", "metric", "k"]).sort_index()
    classes = pd.read_csv(tree.data / "original" / "classes.csv")
    sandals = classes.ImageID[classes.ClassNum == 0]
    counts = []
    for seed in ("", "_seed1"):
        name = f"{NAME}_top30_ep20_VBPR_testtime{seed}.tsv"
        lists = read_top_k(tree.root / "rec_results" / "demo" / name)
        counts.append(np.isin(lists.items[:, :20], sandals).sum(axis=1).mean())
    assert summary.loc[("VBPR", "test_time", "chr", 20), "after"].item() == pytest.approx(
        np.mean(counts), rel=1e-4
    )
    attacked = pd.read_csv(tree.data / NAME / "classes.csv")
    assert summary.success_rate.iloc[0] == pytest.approx(
        100 * (attacked.ClassNum == 1).mean(), rel=1e-4
    )
    distances = pd.read_csv(tree.data / NAME / "features_dist_all_attack.csv")
    assert summary.feature_loss.iloc[0] == pytest.approx(distances.MSE.mean(), rel=1e-4)


def test_only_attacked_rows_of_the_features_change(tree):
    clean = np.load(tree.data / "original" / "features.npy")
    attacked = np.load(tree.data / NAME / "features.npy")
    changed = np.flatnonzero((clean != attacked).any(axis=1))
    assert set(changed) <= set(pd.read_csv(tree.data / NAME / "classes.csv").ImageID)
    assert len(changed) > 0


def test_every_stage_skips_what_is_up_to_date(tree):
    before = {path: path.stat().st_mtime_ns for path in tree.root.rglob("*") if path.is_file()}
    for result in (
        tree.run("prepare_dataset.py", "--items", "120", "--users", "80", "--size", "32"),
        tree.run("classify_extract.py", *EXTRACTOR, *CPU),
        tree.attack("classify_extract_attack.py"),
        tree.attack("evaluate_attack.py"),
        tree.attack("feature_loss.py"),
        tree.run("rec_generator.py", *LISTS, "--seed", "0", "1", "2", "3"),
        tree.run("summarize.py", "--list_of_k", "10", "20"),
    ):
        assert "up to date" in result.stdout
    after = {path: path.stat().st_mtime_ns for path in tree.root.rglob("*") if path.is_file()}
    assert before == after


def test_the_same_seed_gives_the_same_bytes(tree, tmp_path):
    """Attacks and recommendations in another folder give equal bytes of all artifacts."""
    again = Tree(tmp_path / "again", tree.python)
    shutil.copytree(tree.root, again.root)
    again.attack("classify_extract_attack.py", "--force")
    again.run("rec_generator.py", *LISTS, "--experiment_name", NAME, "--force")
    for path in ("classes.csv", "features.npy", "attack.tsv"):
        assert (again.data / NAME / path).read_bytes() == (tree.data / NAME / path).read_bytes()
    for model in ("VBPR", "AMR"):
        path = Path("rec_results") / "demo" / f"{NAME}_top30_ep20_{model}.tsv"
        assert (again.root / path).read_bytes() == (tree.root / path).read_bytes()


def test_results_of_another_data_set_are_refused(tree, tmp_path):
    other = Tree(tmp_path / "other", tree.python)
    shutil.copytree(tree.data, other.data)
    np.save(other.data / "original" / "features.npy", np.zeros((7, 512), np.float32))
    result = other.run("rec_generator.py", *LISTS, expect=2)
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert not (other.root / "rec_results").exists()


def kill_when(appears: str, tree: Tree, script: str, *arguments: str) -> None:
    """Start a stage and kill it as soon as a file that matches ``appears`` exists."""
    command = [sys.executable, str(ROOT / script), *arguments, "--root", str(tree.root)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--dataset", "demo"], cwd=tree.root, **quiet)
    while process.poll() is None and not any(tree.root.glob(appears)):
        os.sched_yield()
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the stage was over before it could be killed"


@pytest.fixture
def fresh(tree, tmp_path) -> Tree:
    """Copy of the tree after stage 1, without attacks and recommenders."""
    fresh = Tree(tmp_path / "fresh", tree.python)
    shutil.copytree(tree.root / "models", fresh.root / "models")
    shutil.copytree(tree.data, fresh.data, ignore=shutil.ignore_patterns(NAME))
    return fresh


def test_a_killed_attack_continues_to_the_same_bytes(tree, fresh):
    small_batches = [*ATTACK, *EXTRACTOR, *CPU, "--image_batch", "2"]
    kill_when(
        f"data/demo/.partial-{NAME}-*/part_0.npz",
        fresh,
        "classify_extract_attack.py",
        *small_batches,
    )
    assert not (fresh.data / NAME).exists()
    fresh.attack("classify_extract_attack.py", "--image_batch", "2")
    whole = Tree(fresh.root.parent / "whole", tree.python)
    shutil.copytree(tree.root, whole.root)
    whole.attack("classify_extract_attack.py", "--image_batch", "2", "--force")
    files = sorted(path.relative_to(whole.data) for path in (whole.data / NAME).rglob("*.tiff"))
    for path in (*files, *(Path(NAME) / name for name in ("classes.csv", "features.npy"))):
        assert (fresh.data / path).read_bytes() == (whole.data / path).read_bytes()


def test_a_killed_training_continues_to_the_same_bytes(tree, fresh):
    long = ["--topk", "30", "--epoch", "400", "--verbose", "20", *CPU]
    weights = "rec_model_weights/demo/original_step20_VBPR.npz.manifest.json"
    kill_when(weights, fresh, "rec_generator.py", *long)
    assert not (fresh.root / "rec_results").exists()
    fresh.run("rec_generator.py", *long)
    tree.run("rec_generator.py", *long)
    for path in (
        "rec_model_weights/demo/original_step400_VBPR.npz",
        "rec_results/demo/original_top30_ep400_VBPR.tsv",
    ):
        assert (fresh.root / path).read_bytes() == (tree.root / path).read_bytes()
