"""Faults that were seen once, each by the command that met it.

Values that no stage writes are in the tests of their readers, such as ``tests/artifacts/test_gates.py``.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.cli import EXIT_TERMINATED
from tests.faults import kills, tree
from tests.faults.cases import Fault, build_whole, damage_all

ATTACKED = Path("data/shop") / tree.ATTACK
WEIGHTS = Path("rec_model_weights/shop/original_step3_VBPR_K2.npz")
DIGITS = "9" * 20
SHOP = "--dataset shop"
TRAIN = "--images pictures --labels labels.csv --recipe plain --epochs 1 --gpu -1 --out out"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build_whole(tmp_path_factory.mktemp("seen") / "whole")


@pytest.fixture
def shop(whole, tmp_path):
    """Copy of the tree of the faults, with pictures of 32 x 32 pixels."""
    root = tree.copy(whole, tmp_path / "tree")
    (root / "pictures").mkdir()
    for item in range(4):
        grey = np.full((32, 32, 3), 40 * item, np.uint8)
        Image.fromarray(grey).save(root / "pictures" / f"{item}.png")
    rows = [f"{item},{item % 2},kind {item % 2}" for item in range(4)]
    (root / "labels.csv").write_text("\n".join(["item,category,label", *rows]))
    return root


def files(root: Path) -> list[Path]:
    """Return all files of a tree."""
    return sorted(path for path in root.rglob("*") if path.is_file())


REFUSED = {
    f"rec_generator {SHOP} --model Pop --load_weights_from original": "has no test time",
    f"rec_generator {SHOP} --model Pop --epoch 999999": "--epochs: Pop does not train",
    f"rec_generator {SHOP} --model Random --lr 5 5 5": "--lr: Random does not train",
    f"classify_extract {SHOP} --model_dir zzz": "is read with --defence 1 only",
    f"classify_extract {SHOP} --workers {DIGITS}": "--workers: must be 0 to",
    f"classify_extract_attack {SHOP} --eps 300": "beyond all 255 grey levels",
    f"audits.parameters {SHOP} --topk 5 --epoch 3 --attack fgsm --steps 9": "--steps",
    f"audits.leaks --random_weights --arch lenet_zhu --data . --seed {DIGITS}": "--seed: must be",
    f"train_extractor {TRAIN} --arch c2f2": "c2f2",
    f"report {SHOP} --topk 0": "--k must be at least 1",
    "summarize --robust_accuracy results/shop/summary.tsv": "lacks the columns accuracy",
    f"summarize --robust_accuracy {ATTACKED}/features.npy": "is not a table",
    "summarize --leaks results/shop/summary.tsv out": "lacks the columns model",
    "summarize --leaks data/shop/trainingset.tsv out": "lacks the columns model",
    "summarize --embedders results/shop/summary.tsv out": "lacks the columns recipe",
    "prepare_dataset interactions --dataset out --train labels.csv --test /": "/ is a folder",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_was_ignored_or_ended_in_a_trace_is_one_line(shop, command):
    before = files(shop)
    outcome = tree.call(shop, command)
    assert outcome.code == 2 and len(outcome.errors) == 1, outcome
    assert REFUSED[command] in outcome.errors[0]
    assert files(shop) == before


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("damage", ["halved", "line twice"])
def test_an_attack_report_that_was_cut_gives_no_other_success_rate(whole, damage, recorded):
    cut = Fault(ATTACKED / "attack.tsv", damage, recorded, seed=1)  # its line is not the header
    figures = damage_all(whole, [cut])
    assert figures.counts["stages that refused"] > 0 and not figures.wrong, str(figures)
    assert not figures.counts["trees without manifests with other results"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("P", value) for value in (np.nan, np.inf)),
        *(("E_accumulator", value) for value in (np.nan, np.inf, -1)),
        *(("scale", value) for value in (0, np.nan, -1)),
        ("epoch", -1),
    ],
)
def test_weights_that_no_training_writes_are_refused(shop, name, value):
    arrays = dict(np.load(shop / WEIGHTS))
    arrays[name] = np.full_like(arrays[name], value)
    (shop / WEIGHTS).unlink()
    np.savez(shop / WEIGHTS, **arrays)
    outcome = tree.call(shop, f"{tree.STAGES['test time']} --force")
    assert outcome.code == 2 and len(outcome.errors) == 1, outcome
    assert WEIGHTS.name in outcome.errors[0]


def test_weights_that_are_one_array_are_refused(shop):
    (shop / WEIGHTS).unlink()
    with (shop / WEIGHTS).open("wb") as file:
        np.save(file, np.ones((2, 2)))
    outcome = tree.call(shop, f"{tree.STAGES['test time']} --force")
    assert outcome.code == 2 and "is not an archive" in outcome.errors[0]


def test_a_report_that_is_terminated_leaves_no_unfinished_file(shop):
    """The signal comes as soon as the report opens a file to write it."""

    def interrupt(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and waiting and kills.PARTIAL_PREFIX in str(arguments[0]):
            waiting.clear()
            os.kill(os.getpid(), signal.SIGTERM)

    waiting = ["for the first unfinished file"]
    sys.addaudithook(interrupt)
    before = files(shop)
    assert tree.call(shop, f"report {SHOP} --topk 5").code == EXIT_TERMINATED
    assert not waiting and files(shop) == before and not kills.discarded(shop)
    assert tree.call(shop, f"report {SHOP} --topk 5").code == 0
