"""Runs of audits.leaks from a network and images to folders of reconstructions, tables and a grid."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from audits import leaks
from src.artifacts.reconstructions import originals_folder, read_pairs
from src.cli import Parser
from src.leaks import attack
from src.leaks.command import (
    TrainingRecord,
    add_inversion_options,
    check_inversion_options,
    condition_name,
    open_inverted_images,
    preset_of,
)
from src.leaks.observations import Observation
from src.measures.reconstruction_tables import conditions_in, title
from tests.scripts import run_script

N = 7
UNTRAINED = ("--arch", "lenet_zhu", "--random_weights")
PLAIN = "lenet_zhu_0_inversed_aug_auglist__rlabel_False"


@pytest.fixture
def data(tmp_path) -> Path:
    """Set of smooth pictures of 10 classes, with equally many training and test pictures."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (2 * N, 2, 2, 3), dtype=np.uint8)
    smooth = [Image.fromarray(c).resize((32, 32), Image.Resampling.BILINEAR) for c in corners]
    x, y = np.stack([np.asarray(picture) for picture in smooth]), np.arange(2 * N) % 10
    path = tmp_path / "pictures.npz"
    np.savez(path, x_train=x[:N], y_train=y[:N], x_test=x[N:], y_test=y[N:])
    return path


@pytest.fixture
def script(data, tmp_path):
    """Return ``script(*arguments)``, which runs five iterations on the CPU and returns the exit code."""

    usual = ("--data", data, "--iterations", 5, "--gpu", -1, "--out", tmp_path / "out")
    return lambda *arguments: run_script(leaks, *usual, *arguments)


def options_of(*arguments: str):
    parser = Parser("")
    add_inversion_options(parser)
    options = parser.parse_args(["--data", "x", *map(str, arguments)])
    check_inversion_options(options)
    return options


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float) / 255


# Folders and tables


def test_a_condition_is_three_folders_a_table_and_a_record(script, tmp_path, data):
    assert script(*UNTRAINED, "--n_images", 3, "--batch_targets", 2) == 0
    out = tmp_path / "out"
    folder = out / PLAIN
    pairs = read_pairs(folder)
    labels = np.load(data)["y_test"]
    assert [(pair.id, pair.label) for pair in pairs] == [(n, labels[n]) for n in (0, 2, 4)]
    table = pd.read_csv(folder / "metric.tsv", sep="\t", index_col="id")
    for pair in pairs:
        original = pixels_of(pair.original)
        assert (original == np.load(data)["x_test"][pair.id] / 255).all()
        mse = np.mean((pixels_of(pair.reconstruction) - original) ** 2)
        assert table["mse"][pair.id] == pytest.approx(mse, rel=1e-5)
        assert table["psnr"][pair.id] == pytest.approx(-10 * np.log10(mse), rel=1e-5)
    assert (table["psnr_untransformed"] == table["psnr"]).all()
    assert (table["label_found"] == -1).all() and table["cost"].between(0, 2).all()
    record = json.loads((out / f"{PLAIN}.json").read_text())
    assert record["n_images"] == 3 and record["labels_recovered"] is None
    assert record["preset"]["iterations"] == 5 and record["preset"]["tv"] == 1e-4
    assert record["mean_psnr"] == pytest.approx(table["psnr"].mean(), rel=1e-5)
    assert Image.open(out / "grid.png").width > 300
    assert not list(out.glob(".partial*"))


def test_what_is_up_to_date_is_not_attacked_again(script, tmp_path, monkeypatch, capsys):
    arguments = (*UNTRAINED, "--n_images", 2, "--defence", "none", "prune_70")
    assert script(*arguments) == 0
    # Whoever scores the images may leave a table beside them.
    (tmp_path / "out" / PLAIN / "image_quality.tsv").write_text("id\n")
    reconstruct, calls = attack.reconstruct, []
    monkeypatch.setattr(
        attack, "reconstruct", lambda *of, **how: calls.append(1) or reconstruct(*of, **how)
    )
    capsys.readouterr()
    assert script(*arguments) == 0 and not calls
    assert capsys.readouterr().out.count("is up to date") == 2
    assert script(*arguments, "--force") == 0 and len(calls) == 2
    assert script(*arguments, "--seed", 1) == 0 and len(calls) == 4
    (tmp_path / "out" / PLAIN / "0_7_rec.png").unlink()
    assert script(*arguments, "--seed", 1) == 0 and len(calls) == 5


def test_a_gpu_that_holds_one_target_inverts_the_whole_stack(script, tmp_path, gpu_holds, capsys):
    arguments = (*UNTRAINED, "--n_images", 5, "--batch_targets", 3)
    assert script(*arguments, "--out", tmp_path / "whole") == 0
    sizes = gpu_holds(1, Observation, "__call__")
    assert script(*arguments) == 0
    assert capsys.readouterr().out.count("cannot hold 3 targets at once: halving batches") == 1
    halved, whole = (
        pd.read_csv(tmp_path / out / PLAIN / "metric.tsv", sep="\t", index_col="id")
        for out in ("out", "whole")
    )
    assert len(halved) == 5 and len(sizes) >= 5 * 5
    pd.testing.assert_frame_equal(halved[["cost", "mse"]], whole[["cost", "mse"]], rtol=1e-3)


def test_a_kill_costs_one_stack_and_changes_nothing(script, tmp_path, monkeypatch):
    arguments = (*UNTRAINED, "--n_images", 6, "--batch_targets", 2, "--defence", "gaussian_1e-1")
    whole = tmp_path / "whole"
    assert script(*arguments, "--out", whole) == 0
    reconstruct, seen = attack.reconstruct, []

    def dying(*of, **how):
        seen.append(how["ids"])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return reconstruct(*of, **how)

    monkeypatch.setattr(attack, "reconstruct", dying)
    assert script(*arguments) == 130
    assert not conditions_in(tmp_path / "out")
    assert script(*arguments) == 0
    assert seen == [[0, 1], [2, 3], [2, 3], [4, 5]]
    folder = f"{PLAIN}_defense_gaussian_1e-1"
    for pair in read_pairs(whole / folder):
        continued = tmp_path / "out" / folder / pair.reconstruction.name
        assert continued.read_bytes() == pair.reconstruction.read_bytes()


def test_other_conditions_of_the_folder_join_the_grid(script, tmp_path):
    assert script(*UNTRAINED, "--n_images", 2) == 0
    height = Image.open(tmp_path / "out/grid.png").height
    zero = (*UNTRAINED, "--n_images", 2, "--optim", "inversed-zero")
    assert script(*zero, "--no_grid") == 0
    assert Image.open(tmp_path / "out/grid.png").height == height
    assert script(*zero) == 0
    taller = Image.open(tmp_path / "out/grid.png").height
    assert taller > height
    # These other images are not to be compared with the former.
    assert script(*UNTRAINED, "--n_images", 3, "--optim", "inversed-adam-L2") == 0
    assert Image.open(tmp_path / "out/grid.png").height == height


# What is shared, and by whom


@pytest.mark.parametrize("observation", ["local_steps", "features", "bpr"])
def test_every_observation_is_inverted(script, tmp_path, observation):
    assert script(*UNTRAINED, "--n_images", 5, "--observation", observation) == 0
    folder = tmp_path / "out" / f"{PLAIN}_observed_{observation}"
    table = pd.read_csv(folder / "metric.tsv", sep="\t")
    pairs_of_items = observation == "bpr"
    assert len(table) == (4 if pairs_of_items else 5)
    assert table["cost"].nunique() == (2 if pairs_of_items else 5)
    record = json.loads((tmp_path / "out" / f"{folder.name}.json").read_text())
    assert observation in title(record)


def test_batches_share_one_gradient(script, tmp_path):
    assert script(*UNTRAINED, "--n_images", 7, "--shared_batch", 3) == 0
    table = pd.read_csv(tmp_path / "out" / PLAIN / "metric.tsv", sep="\t")
    assert len(table) == 6 and table["cost"].nunique() == 2


def test_labels_are_read_off_the_gradient(script, tmp_path):
    assert script(*UNTRAINED, "--labels", "analytic", "--defence", "none", "sign") == 0
    records = [json.loads((tmp_path / "out" / f"{PLAIN}_labels_analytic{d}.json").read_text())
               for d in ("", "_defense_sign")]  # fmt: skip
    assert [record["labels_recovered"] for record in records] == [1, 1]


def test_labels_are_found_with_the_image(script, tmp_path):
    arguments = (*UNTRAINED, "--labels", "joint", "--optim", "dlg", "--n_images", 2)
    assert script(*arguments, "--iterations", 3) == 0
    name = PLAIN.replace("inversed", "dlg").replace("rlabel_False", "rlabel_True")
    table = pd.read_csv(tmp_path / "out" / name / "metric.tsv", sep="\t")
    assert table["label_found"].between(0, 9).all()


def test_ways_of_knowing_labels_have_folders_and_rows_of_their_own(script, tmp_path):
    arguments = (*UNTRAINED, "--n_images", 2, "--iterations", 1)
    assert script(*arguments) == 0
    height = Image.open(tmp_path / "out/grid.png").height
    for labels in ("joint", "analytic"):
        assert script(*arguments, "--labels", labels) == 0
    ends = ("False", "False_labels_analytic", "True")
    names = [PLAIN.replace("False", end) for end in ends]
    assert [folder.name for folder in conditions_in(tmp_path / "out")] == names
    assert Image.open(tmp_path / "out/grid.png").height > 1.5 * height


def test_what_diverged_has_no_part_in_the_means(script, tmp_path, monkeypatch, capsys):
    reconstruct = attack.reconstruct

    def diverging(*of, **how):
        found = reconstruct(*of, **how)
        lost = torch.tensor([number != 2 for number in how["ids"]])
        found.images[lost], found.restarts[lost], found.costs[lost] = 0.5, -1, torch.inf
        return found

    monkeypatch.setattr(attack, "reconstruct", diverging)
    assert script(*UNTRAINED, "--n_images", 3) == 0
    table = pd.read_csv(tmp_path / "out" / PLAIN / "metric.tsv", sep="\t", index_col="id")
    for name in ("mse", "psnr", "mse_untransformed", "psnr_untransformed"):
        assert table[name].isna().to_dict() == {0: True, 2: False, 4: True}
    record = json.loads((tmp_path / "out" / f"{PLAIN}.json").read_text())
    assert (record["n_images"], record["diverged"]) == (3, 2)
    for name in ("cost", "mse", "psnr"):
        assert record[f"mean_{name}"] == pytest.approx(table[name][2], rel=1e-5)
    assert re.search(r"images +diverged .*\n.* 3 +2 ", capsys.readouterr().out)
    assert script(*UNTRAINED, "--n_images", 1) == 0
    record = json.loads((tmp_path / "out" / f"{PLAIN}.json").read_text())
    assert record["diverged"] == 1 and record["mean_psnr"] is record["mean_cost"] is None


def test_a_defence_makes_reconstructions_worse(script, tmp_path):
    arguments = (*UNTRAINED, "--n_images", 4, "--iterations", 60, "--optim", "inversed-zero")
    assert script(*arguments, "--defence", "none", "gaussian_1e+2") == 0
    name = PLAIN.replace("inversed", "inversed-zero")
    means = [json.loads((tmp_path / "out" / f"{name}{defence}.json").read_text())["mean_psnr"]
             for defence in ("", "_defense_gaussian_1e+2")]  # fmt: skip
    assert means[0] > means[1] + 1


def test_the_record_of_a_training_names_and_transforms(script, tmp_path, data):
    checkpoint = tmp_path / "trained.pt"
    arguments = ["--data", data, "--dataset", "cifar10", "--arch", "lenet_zhu", "--epochs", 2,
                 "--schedule", "conservative", "--augmentation", "ats:3-1-7+43-18-18",
                 "--gradient_defence", "prune_70", "--gpu", -1, "--out", checkpoint]  # fmt: skip
    assert run_script("train_extractor", *arguments) == 0
    assert script("--checkpoint", checkpoint, "--part", "train", "--defence", "sign") == 0
    folder = (
        tmp_path
        / "out"
        / (
            "lenet_zhu_2_inversed_aug_auglist_3-1-7+43-18-18_rlabel_False_trained_prune_70_defense_sign"
        )
    )
    pairs, before = read_pairs(folder), read_pairs(folder, untransformed=True)
    assert len(pairs) == N
    for pair, clean in zip(pairs, before, strict=True):
        assert np.abs(pixels_of(pair.original) - pixels_of(clean.original)).mean() > 0.02
    table = pd.read_csv(folder / "metric.tsv", sep="\t")
    assert (table["psnr_untransformed"] != table["psnr"]).all()
    options = options_of("--checkpoint", checkpoint, "--augmentation", "crop", "--epochs", 200)
    assert TrainingRecord.of(options) == TrainingRecord(
        200, "crop", "prune_70", "ats:3-1-7+43-18-18"
    )


@pytest.mark.parametrize(
    ("recorded", "text"),
    [
        ({"kind": "padded_crop", "side": 0, "policy": None}, "crop"),
        ({"kind": "crop", "side": 28}, "none"),
        ({"kind": "shift"}, "shift"),
        ({"kind": "padded_crop", "policy": {"chains": [[3, 1, 7], [43]]}}, "ats:3-1-7+43"),
    ],
)
def test_recorded_augmentations_are_read_as_they_are_written(tmp_path, recorded, text):
    checkpoint = tmp_path / "a.pt"
    options = {"epochs": 5, "augmentation": recorded}
    record = {"stage": "train", "options": options, "inputs": {}, "outputs": {}, "versions": {}}
    checkpoint.with_name("a.pt.manifest.json").write_text(json.dumps(record))
    options = options_of("--checkpoint", checkpoint)
    assert TrainingRecord.of(options) == TrainingRecord(5, text, None, text)


@pytest.mark.parametrize(
    ("training", "attacked", "mode"),
    [
        ("crop", None, "crop_auglist_"),
        ("crop", "none", "normal_auglist_"),
        ("none", "none", "aug_auglist_"),
        ("none", "crop", "crop_auglist_"),
        (None, "none", "aug_auglist_"),
        ("ats:3-1-7", None, "aug_auglist_3-1-7"),
        ("ats:3-1-7", "none", "normal_auglist_3-1-7"),
    ],
)
def test_a_training_with_crops_attacked_without_is_the_mode_normal(training, attacked, mode):
    trained = TrainingRecord(5, training or "none", None, training)
    options = options_of(*UNTRAINED, *(("--augmentation", attacked) if attacked else ()))
    name = condition_name(options, "c", trained.with_options(options), None)
    assert name == f"c_5_inversed_{mode}_rlabel_False"


@pytest.mark.parametrize(
    ("arguments", "trained", "defence", "name"),
    [
        ((), TrainingRecord(200, "none", None), None, "c_200_inversed_aug_auglist__rlabel_False"),
        (
            ("--optim", "zhu"),
            TrainingRecord(200, "crop", None),
            "prune_70",
            "c_200_zhu_crop_auglist__rlabel_False_defense_prune_70",
        ),
        (
            ("--optim", "dlg", "--observation", "features"),
            TrainingRecord(0, "none", "prune_70"),
            "sign",
            "c_0_dlg_aug_auglist__rlabel_False_trained_prune_70_observed_features_defense_sign",
        ),
        (
            ("--optim", "zhu", "--labels", "joint"),
            TrainingRecord(9, "none", None, "shift"),
            None,
            "c_9_zhu_normal_auglist_shift_rlabel_True",
        ),
        (
            ("--optim", "zhu", "--labels", "analytic"),
            TrainingRecord(9, "none", "sign"),
            None,
            "c_9_zhu_aug_auglist__rlabel_False_labels_analytic_trained_sign",
        ),
    ],
)
def test_names_of_conditions_are_the_published_ones(arguments, trained, defence, name):
    options = options_of(*UNTRAINED, *arguments)
    assert condition_name(options, "c", trained, defence) == name


def test_reconstructions_are_images_like_others(script, tmp_path):
    assert script(*UNTRAINED, "--n_images", 3, "--epochs", 0) == 0
    originals = originals_folder(tmp_path / "out" / PLAIN)
    again = (*UNTRAINED, "--data", originals, "--dataset", "reconstructions")
    assert script(*again, "--out", tmp_path / "again") == 0
    first, second = (read_pairs(tmp_path / out / PLAIN) for out in ("out", "again"))
    assert [pair[:2] for pair in first] == [pair[:2] for pair in second]


def test_grey_images_are_read_in_colour(tmp_path):
    path = tmp_path / "grey.npz"
    x, y = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28), np.arange(4)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    options = options_of(*UNTRAINED, "--data", path, "--dataset", "fashion", "--part", "all")
    images = open_inverted_images(options)
    assert len(images) == 8 and images.ids.tolist() == list(range(8))
    assert images.pixels().shape == (8, 28, 28, 3)
    assert (images.pixels() == np.concatenate([x, x])[..., None]).all()


# Options


def test_options_change_the_preset():
    options = options_of(*UNTRAINED, "--optim", "zhu", "--lr", 1, "--tv", 0, "--restarts", 3)
    preset = preset_of(options)
    assert (preset.lr, preset.tv, preset.restarts, preset.iterations) == (1, 0, 3, 50)
    assert (preset.optimizer, preset.cost) == ("lbfgs", "l2")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "either --checkpoint, or --arch and --random_weights"),
        ((*UNTRAINED, "--checkpoint", "a.pt"), "either --checkpoint"),
        (("--random_weights",), "needs --arch"),
        ((*UNTRAINED, "--epochs", 3), "excludes --epochs 3"),
        ((*UNTRAINED, "--n_images", 0), "--max_images must be at least 1"),
        ((*UNTRAINED, "--optim", "inversed-LR"), "inversed-LR"),
        ((*UNTRAINED, "--cost", "l3"), "l3"),
        ((*UNTRAINED, "--defence", "prune_170"), "prune_170"),
        ((*UNTRAINED, "--lr", "nan"), "both finite"),
        ((*UNTRAINED, "--lr", "inf"), "both finite"),
        ((*UNTRAINED, "--tv", "nan"), "both finite"),
        ((*UNTRAINED, "--local_lr", "nan"), "--local_lr must be"),
        ((*UNTRAINED, "--augmentation", "ats:50"), "'50' is no policy"),
        ((*UNTRAINED, "--observation", "features", "--labels", "joint"), "no class labels"),
        ((*UNTRAINED, "--shared_batch", 8), "too few for a batch"),
        ((*UNTRAINED, "--data", "/no/where"), "no data at /no/where"),
        ((*UNTRAINED, "--data", "/no/where", "--dataset", "reconstructions"), "no folder of images"),
        ((*UNTRAINED, "--arch", "lenet_zhou"), "no classifier 'lenet_zhou'"),
        (("--checkpoint", "/no/model.pt"), "/no/model.pt"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_no_artifact(script, tmp_path, capsys, arguments, problem):
    assert script(*arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and problem in error
    assert not (tmp_path / "out").exists()


def test_images_of_a_size_that_the_network_cannot_read_are_an_error(script, tmp_path, capsys):
    x, y = np.zeros((4, 28, 28, 3), np.uint8), np.arange(4)
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert script(*UNTRAINED, "--data", tmp_path / "small.npz", "--dataset", "cifar10") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: lenet_zhu cannot read images of 28x28 pixels")
    assert "try 32" in error and not (tmp_path / "out").exists()


def test_labels_that_the_network_does_not_know_are_an_error(
    script, tmp_path, tiny_checkpoint, capsys
):
    assert script("--checkpoint", tiny_checkpoint) == 2
    assert "an image has class 9, but the network knows 5 classes" in capsys.readouterr().err
