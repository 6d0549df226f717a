"""A small data set with all artifacts that the stages without networks read, and these stages."""

import contextlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.classes import Classes, write_attacked_classes, write_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, read_record, record_path
from src.artifacts.tables import write_pairs, write_table
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.weights import feature_scale, initial_weights, table_shapes, write_weights
from tests.folders import contents
from tests.scripts import run_script

ATTACK = "pgd_0_1_eps8.0_eps_it8.0_nb_it10_linf"
N_USERS, N_ITEMS, N_FEATURES, K, EPOCHS = 12, 16, 4, 5, 3
_DATA = f"--dataset shop --topk {K}"
_ATTACKED = "--dataset shop --attack_type pgd --eps 8 --origin_class 0 --target_class 1"
_TRAINED = f"--epoch {EPOCHS} --emb1_K 2 --experiment_name"

STAGES: Mapping[str, str] = {
    "baselines": f"rec_generator {_DATA} --model Pop",
    "test time": f"rec_generator {_DATA} --model VBPR --load_weights_from original {_TRAINED} {ATTACK}",
    "lists": f"evaluate_rec {_DATA} --metric all --list_of_k 2 {K} --min_items 1",
    "success": f"evaluate_attack {_ATTACKED}",
    "feature loss": f"feature_loss {_ATTACKED}",
    "summary": f"summarize {_DATA} --list_of_k {K} --norm_restored",
}
"""Command lines of the stages, in their order. The first word is a module."""


@dataclass(frozen=True)
class Outcome:
    """End of a stage: its exit code, and what it printed on stderr."""

    code: int
    errors: tuple[str, ...]


def call(root: Path, command: str | Sequence[str]) -> Outcome:
    """Run a command line in this process with ``--root root`` in the folder ``root``."""
    module, *arguments = command.split() if isinstance(command, str) else command
    captured = io.StringIO()
    with (
        contextlib.chdir(root),
        contextlib.redirect_stderr(captured),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = run_script(module, *arguments)
    lines = captured.getvalue().splitlines()
    return Outcome(code, tuple(line for line in lines if line.startswith("error: ")))


def build(root: Path) -> None:
    """Write the artifacts of stages 1 and 3 and weights, with records, and run ``STAGES``."""
    rng = np.random.default_rng(0)
    layout, attacked = Layout("shop", root), Experiment.parse(ATTACK)
    layout.images.mkdir(parents=True)
    for item in range(N_ITEMS):
        (layout.images / f"{item}.png").write_bytes(b"no stage here opens it")
    has = rng.random((N_USERS, N_ITEMS)) < 0.3
    has[:, 0], has[:, 1] = True, False
    write_pairs(layout.training_set, np.argwhere(has))
    write_pairs(layout.test_set, np.stack([np.arange(N_USERS), np.ones(N_USERS, int)], 1))
    Manifest.of("prepare_dataset", {}, ()).write([layout.training_set, layout.test_set])

    numbers = np.arange(N_ITEMS) % 3
    labels = [f"kind {number}" for number in numbers]
    clean = Classes(np.arange(N_ITEMS), numbers, labels, rng.random(N_ITEMS))
    ids = clean.of(0)
    features = rng.random((N_ITEMS, N_FEATURES)).astype(np.float32)
    options = {"arch": "c2f2", "weights": "0", "resize": 0, "precision": "fp32"}
    (layout.data / ATTACK).mkdir()
    write_classes(layout.classes(Experiment()), clean)
    write_features(layout.features(Experiment()), features)
    outputs = [layout.classes(Experiment()), layout.features(Experiment())]
    Manifest.of("classify_extract", options, ()).write(outputs)
    target = Classes(ids, np.ones(len(ids), int), ["kind 1"] * len(ids), rng.random(len(ids)))
    write_attacked_classes(layout.classes(attacked), target, clean.rows(ids))
    moved = features.copy()
    moved[ids] += 1
    write_features(layout.features(attacked), moved)
    report = {"image": ids, "success_before_rounding": 1, "success": 1, "linf": 8, "l2": 1.5}
    write_table(layout.attack_report(attacked), pd.DataFrame(report))
    outputs = [
        layout.classes(attacked), layout.features(attacked), layout.attack_report(attacked)
    ]  # fmt: skip
    Manifest.of("classify_extract_attack", options, ()).write(outputs)

    trained = Hyperparameters(
        form="shared", factors=2, learning_rates=(0.05, 1e-4, 1e-3), penalties=(0, 0, 0)
    )
    weights = layout.weights(Run(Experiment(), "VBPR", EPOCHS, options="_K2"))
    weights.parent.mkdir(parents=True)
    shapes = table_shapes(N_USERS, N_ITEMS, N_FEATURES, trained)
    write_weights(weights, initial_weights(shapes, trained, feature_scale(features), 0))
    _write_clean_lists(layout)
    for name, command in STAGES.items():
        outcome = call(root, command)
        assert outcome.code == 0, (name, outcome)


def _write_clean_lists(layout: Layout) -> None:
    """Write the lists that the training of the weights would have left beside them.

    They are those of the weights at test time on the same features.
    """
    assert call(layout.root, f"{STAGES['test time']} original").code == 0
    trained = Run(Experiment(), "VBPR", EPOCHS, K, options="_K2")
    at_test_time = replace(trained, protocol="test_time")
    record = read_record(layout.recommendations(at_test_time))
    outputs = [place(trained) for place in (layout.recommendations, layout.test_ranks)]
    for place, output in zip((layout.recommendations, layout.test_ranks), outputs, strict=True):
        place(at_test_time).replace(output)
    record_path(layout.recommendations(at_test_time)).unlink()
    Manifest(record["stage"], record["options"], record["inputs"]).write(outputs)


def copy(tree: Path, place: Path) -> Path:
    """Copy a tree; files share their content, which stages never change in place."""
    return Path(shutil.copytree(tree, place, copy_function=os.link))


def remove_records(tree: Path) -> None:
    """Remove all manifests, as in a tree that other programs have written."""
    for record in tree.rglob("*manifest.json"):
        record.unlink()


def artifacts(tree: Path) -> Iterator[Path]:
    """Yield every file of the tree, relative to it: manifests too, images not."""
    for path in sorted(tree.rglob("*")):
        if path.is_file() and path.suffix != ".png":
            yield path.relative_to(tree)


def results(tree: Path) -> dict[str, bytes]:
    """Return the content of all files without manifests, whose commands and inputs may differ."""
    found = contents(tree, without=(".png", "manifest.json"))
    return {name: content for name, content in found.items() if not name.startswith("logs/")}
