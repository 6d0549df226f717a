"""Stage 3 from the command line: its files, its continuation after a kill, and bad input."""

import errno
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.artifacts.classes import read_attacked_classes, read_classes
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import fingerprint
from src.attacks import campaign
from src.attacks.storage import to_pixels
from src.datasets.catalogue import open_catalogue
from src.extractors.checkpoints import load_extractor
from tests.pictures import draw_pictures, save_classifier
from tests.scripts import run_script

N_IMAGES = 9


def script(name, root, *arguments):
    common = ("--root", root, "--dataset", "shop", "--gpu", -1, "--workers", 0)
    return run_script(name, *common, *arguments)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Data set with two extractors after stage 1."""
    root = tmp_path_factory.mktemp("shop")
    draw_pictures(Layout("shop", root).images, N_IMAGES, side=40)
    save_classifier(root / "plain.pt", 0)
    save_classifier(root / "models" / "robust" / "model.pt", 1)
    for options in extractor_options(root).values():
        assert script("classify_extract", root, *options) == 0
    return root


def extractor_options(root):
    return {
        None: ["--model_file", root / "plain.pt"],
        "robust": ["--defense", 1, "--model_dir", "robust", "--model_file", "model.pt"],
    }


@pytest.fixture
def root(shop, tmp_path):
    shutil.copytree(shop, tmp_path / "root")
    return tmp_path / "root"


def pair(root, experiment="original"):
    """Return the most frequent class, and the class with which it is most easily confused."""
    classes = read_classes(root / "data" / "shop" / experiment / "classes.csv")
    counts = np.bincount(classes.classes, minlength=4)
    origin = int(counts.argmax())
    return origin, (origin + 1) % 4


def attack(root, *arguments, defended=None, classes_of="original"):
    origin, target = pair(root, classes_of)
    classes = ["--origin_class", origin, "--target_class", target, "--image_batch", 2]
    return script(
        "classify_extract_attack",
        root,
        *extractor_options(root)[defended],
        *classes,
        *arguments,
    )


def attacked_folder(root, start="pgd"):
    (folder,) = (p for p in (root / "data" / "shop").iterdir() if p.name.startswith(start))
    return folder


def test_the_artifacts_of_an_attack(root, capsys):
    origin, target = pair(root)
    assert attack(root) == 0
    folder = attacked_folder(root)
    assert folder.name == f"pgd_{origin}_{target}_eps8.0_eps_it8.0_nb_it10_linf"
    assert not list((root / "data" / "shop").glob(".partial-*"))

    clean = read_classes(root / "data" / "shop" / "original" / "classes.csv")
    ids = clean.of(origin)
    assert len(ids) >= 2
    assert sorted(int(p.stem) for p in (folder / "images").iterdir()) == ids.tolist()
    attacked, start = read_attacked_classes(folder / "classes.csv")
    assert attacked.image_ids.tolist() == ids.tolist()
    assert start.classes.tolist() == [origin] * len(ids)
    np.testing.assert_allclose(start.probabilities, clean.rows(ids).probabilities)

    # The tables have the network's predictions for the files.
    stored = open_catalogue(folder / "images", resize=0)
    before = open_catalogue(root / "data" / "shop" / "original" / "images")
    levels = stored.pixels()
    extractor = load_extractor(None, root / "plain.pt")
    with torch.no_grad():
        prediction = extractor(to_pixels(levels))
    assert prediction.logits.argmax(dim=1).tolist() == attacked.classes.tolist()
    features = read_features(folder / "features.npy", N_IMAGES)
    original = read_features(root / "data" / "shop" / "original" / "features.npy")
    np.testing.assert_allclose(features[ids], prediction.features, rtol=1e-4, atol=1e-5)
    others = np.setdiff1d(np.arange(N_IMAGES), ids)
    assert np.array_equal(features[others], original[others])

    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    assert report.columns.tolist() == [
        "image", "success_before_rounding", "success", "linf", "l2", "passes",
        "no_gradient", "best_step", "last_step",
    ]  # fmt: skip
    change = levels.astype(int) - before.batch(before.positions(ids))
    assert np.abs(change).max() <= 8
    assert report["linf"].tolist() == np.abs(change).reshape(len(ids), -1).max(axis=1).tolist()
    l2 = np.linalg.norm(change.reshape(len(ids), -1), axis=1) / 255
    np.testing.assert_allclose(report["l2"], l2, rtol=1e-5)
    assert report["success"].tolist() == (attacked.classes == target).astype(int).tolist()
    assert report["passes"].tolist() == [10] * len(ids)
    assert (report["no_gradient"] == 0).all() and report["best_step"].isna().all()
    assert f"{100 * report['success'].mean():.2f} % of the stored images" in capsys.readouterr().out

    before_skip = fingerprint(folder)
    assert attack(root) == 0
    assert "up to date" in capsys.readouterr().out
    assert fingerprint(folder) == before_skip


def test_a_killed_attack_continues_to_the_same_bytes(root, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    shutil.copytree(root, whole)
    options = ["--attack_type", "pgd", "--nb_iter", 3, "--seed", 5]
    assert attack(whole, *options) == 0

    write_images, stored = campaign.write_images, []

    def killed_in_second(folder, image_ids, *content):
        write_images(folder, image_ids, *content)
        stored.append(list(image_ids))
        if len(stored) == 2:  # its files are written, but no record of them
            raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "write_images", killed_in_second)
    assert attack(root, *options) == 130
    assert len(stored) == 2
    assert not list((root / "data" / "shop").glob("pgd*"))

    again = []

    def recorded(folder, image_ids, *content):
        again.append(list(image_ids))
        write_images(folder, image_ids, *content)

    monkeypatch.setattr(campaign, "write_images", recorded)
    assert attack(root, *options) == 0
    assert again[0] == stored[1]
    assert fingerprint(attacked_folder(root)) == fingerprint(attacked_folder(whole))
    assert not list((root / "data" / "shop").glob(".partial-*"))


def test_an_attack_with_other_options_starts_afresh(root, monkeypatch):
    write_images, sizes = campaign.write_images, []

    def killed(folder, image_ids, *content):
        sizes.append(len(image_ids))
        if len(sizes) % 2 == 0:
            raise KeyboardInterrupt
        write_images(folder, image_ids, *content)

    monkeypatch.setattr(campaign, "write_images", killed)
    assert attack(root, "--attack_type", "fgsm") == 130
    # The runs have one name and different batches.
    assert attack(root, "--attack_type", "fgsm", "--image_batch", 1) == 130
    assert sizes[2:] == [1, 1] != sizes[:2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_that_holds_two_images_attacks_them_all(root, gpu_holds, capsys, workers):
    options = ["--attack_type", "pgd", "--nb_iter", "2", "--image_batch", 5, "--workers", workers]
    sizes = gpu_holds(2)
    assert attack(root, *options) == 0
    assert max(sizes) == 2
    report = pd.read_csv(attacked_folder(root) / "attack.tsv", sep="\t")
    assert len(report) == len(list((attacked_folder(root) / "images").iterdir()))
    assert report["linf"].between(1, 8).all() and (report["passes"] == 2).all()
    # once for the attack, once for the images that are read back
    assert capsys.readouterr().out.count("at once: halving batches") <= 2


def test_redoing_replaces_the_folder_as_a_whole(root):
    assert attack(root, "--attack_type", "noise") == 0
    folder = attacked_folder(root, "noise")
    (folder / "success_results.txt").write_text("of another attack")
    assert attack(root, "--attack_type", "noise", "--force") == 0
    assert not (folder / "success_results.txt").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--attack_type", "fgsm", "--eps", "4"],
        ["--attack_type", "fgsm", "--l", "2", "--eps", "200"],
        ["--attack_type", "pgd", "--l", "2", "--eps", "200", "--nb_iter", "3"],
        ["--attack_type", "pgd", "--eps", "2.5", "--nb_iter", "3", "--restarts", "2"],
        ["--attack_type", "cw", "--max_it", "15", "--c", "1", "--confidence", "0.2"],
        ["--attack_type", "cw", "--max_it", "3", "--binary_steps", "2", "--engine", "cleverhans"],
        ["--attack_type", "spsa", "--nb_iter", "2", "--batch_size", "4"],
        ["--attack_type", "ddn", "--steps", "15"],
        ["--attack_type", "noise"],
        ["--attack_type", "noise", "--l", "2", "--eps", "200"],
        ["--attack_type", "autoattack", "--autoattack", "fast", "--eps", "4", "--untargeted"],
        ["--attack_type", "iterll", "--eps", "4", "--untargeted"],
        ["--attack_type", "margin", "--nb_iter", "3", "--eps", "4"],
        ["--attack_type", "pgd", "--untargeted", "--nb_iter", "3"],
        ["--attack_type", "cw", "--max_it", "10", "--c", "1", "--precision", "bf16"],
    ],
)
def test_every_attack_runs_and_keeps_its_budget(root, options):
    assert attack(root, *options) == 0
    folder = attacked_folder(root, options[1])
    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    attacked, _ = read_attacked_classes(folder / "classes.csv")
    origin, target = pair(root)
    hit = attacked.classes != origin if "--untargeted" in options else attacked.classes == target
    assert report["success"].tolist() == hit.astype(int).tolist()
    if "--eps" in options:
        eps = float(options[options.index("--eps") + 1])
        size = report["l2"].max() * 255 if "2" in options[:4] else report["linf"].max()
        assert 0 < size <= eps * (1 + 1e-5)
    if options[1] in ("ddn", "noise"):
        assert (report["success"] == report["success_before_rounding"]).all()


def test_pgd_and_noise_in_an_l1_ball_are_held_to_it(root):
    for options in (["pgd", "--nb_iter", "3"], ["noise"]):
        assert attack(root, "--attack_type", *options, "--l", "1", "--eps", "900") == 0
        stored = open_catalogue(attacked_folder(root, options[0]) / "images", resize=0)
        clean = open_catalogue(root / "data" / "shop" / "original" / "images")
        for row, position in enumerate(clean.positions(stored.ids)):
            assert 0 < np.abs(stored.image(row).astype(int) - clean.image(position)).sum() <= 900


def test_noise_resembles_an_attack_image_by_image(root, capsys):
    origin, target = pair(root)
    named = f"ddn_{origin}_{target}_steps15"
    like = ["--attack_type", "noise", "--like", named]
    assert attack(root, *like) == 2
    assert "run classify_extract_attack.py for it first" in capsys.readouterr().err
    assert attack(root, "--attack_type", "ddn", "--steps", 15) == 0
    assert attack(root, *like) == 0
    sizes, found = (
        pd.read_csv(attacked_folder(root, start) / "attack.tsv", sep="\t", index_col="image")["l2"]
        for start in ("ddn", f"noise_{origin}_{target}_like_ddn_steps15")
    )
    assert (sizes > 0).any() and sizes.index.equals(found.index)
    # A whole level more or less in one pixel is the finest difference.
    assert (found <= sizes * (1 + 1e-5)).all()
    np.testing.assert_allclose((255 * found) ** 2, (255 * sizes) ** 2, rtol=0.02, atol=4)
    for name, message in (
        ("original", "no attack has changed"),
        (f"robust_{named}", "another extractor"),
        (f"ddn_{origin}_any_steps15", "its classes are not"),
        ("nonsense", "not an experiment name"),
    ):
        assert attack(root, "--attack_type", "noise", "--like", name) == 2
        assert message in capsys.readouterr().err


def test_the_papers_mode_takes_the_undefended_extractors_classes_and_features(root):
    options = ["--fidelity", "paper", "--attack_type", "fgsm", "--eps", "16"]
    assert attack(root, *options, defended="robust") == 0
    folder = attacked_folder(root, "robust_fgsm")
    assert folder.name.endswith("_eps16.0_it1_linf_XX_paper")
    data = root / "data" / "shop"
    ids = read_classes(data / "original" / "classes.csv").of(pair(root)[0])
    attacked, start = read_attacked_classes(folder / "classes.csv")
    assert attacked.image_ids.tolist() == ids.tolist()
    assert set(start.classes) == {pair(root)[0]}
    features = read_features(folder / "features.npy")
    others = np.setdiff1d(np.arange(N_IMAGES), ids)
    undefended = read_features(data / "original" / "features.npy")
    assert np.array_equal(features[others], undefended[others])
    # 16/255 of the normalised space are 3 or 4 grey levels (truncation lowers).
    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    assert set(report["linf"]) == {4}

    # The corrected mode takes all of it from the attacked extractor.
    options = [*options[2:], "--origin_class", pair(root, "robust_original")[0]]
    target = pair(root, "robust_original")[1]
    assert attack(root, *options, "--target_class", target, defended="robust") == 0
    (corrected,) = (p for p in data.glob("robust_fgsm*") if not p.name.endswith("_paper"))
    attacked, _ = read_attacked_classes(corrected / "classes.csv")
    own = read_classes(data / "robust_original" / "classes.csv")
    assert attacked.image_ids.tolist() == own.of(pair(root, "robust_original")[0]).tolist()
    others = np.setdiff1d(np.arange(N_IMAGES), attacked.image_ids)
    features = read_features(corrected / "features.npy")
    clean = read_features(data / "robust_original" / "features.npy")
    assert np.array_equal(features[others], clean[others])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--origin_class", 2, "--target_class", 2], "same class"),
        (["--target_class", 4], "classes 0 to 3"),
        (["--num_classes", 1000], "--num_classes is 1000"),
        (["--attack_type", "jsma"], "not offered"),
        (["--attack_type", "spsa", "--l", "1"], "--l inf or 2"),
        (["--eps", "0"], "--eps"),
        (["--resize", 32], "was made with resize 0"),
        (["--dataset", "nowhere"], "no data set"),
    ],
)
def test_bad_options_are_one_line(root, capsys, options, message):
    assert attack(root, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list((root / "data" / "shop").glob("*pgd*"))


@pytest.mark.parametrize("name", ["classes.csv", "features.npy"])
def test_a_file_of_stage_1_that_was_cut_attacks_no_fewer_images(root, capsys, name):
    path = root / "data" / "shop" / "original" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert attack(root) == 2
    error = capsys.readouterr().err
    assert f"{name} was changed after it was written by" in error and error.count("\n") == 1
    assert not list((root / "data" / "shop").glob("*pgd*"))


def test_a_class_without_images(root, capsys):
    seen = set(read_classes(root / "data" / "shop" / "original" / "classes.csv").classes.tolist())
    absent = next(number for number in range(4) if number not in seen)
    target = (absent + 1) % 4
    assert attack(root, "--origin_class", absent, "--target_class", target) == 2
    assert f"no image is classified as class {absent}" in capsys.readouterr().err


def test_stage_1_must_have_run_with_the_same_extractor(root, capsys):
    save_classifier(root / "plain.pt", 7)
    assert attack(root) == 2
    assert "was made with weights" in capsys.readouterr().err
    shutil.rmtree(root / "data" / "shop" / "robust_original")
    assert attack(root, defended="robust") == 2
    expected = "classify_extract.py --dataset shop --defence 1 --model_dir robust"
    assert expected in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(root, capsys, monkeypatch):
    def no_space(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "images/3.tiff")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", no_space)
        assert attack(root) == 2
    assert "no space" in capsys.readouterr().err
    assert not list((root / "data" / "shop").glob("pgd*"))
    assert attack(root) == 0


def test_images_of_another_extractors_attack_are_judged_as_they_are(root, capsys):
    origin, target = pair(root)
    assert attack(root, "--eps", 4) == 0
    source = attacked_folder(root)
    from_it = ["--attack_type", "given", "--images_from", source.name, "--eps", 4]
    assert attack(root, *from_it, defended="robust") == 0
    folder = attacked_folder(root, "robust_given")
    made_by = source.name.replace(f"_{origin}_{target}_", "_")
    assert folder.name == f"robust_given_{origin}_{target}_eps4.0_linf_of_original_{made_by}"
    stored, before = (open_catalogue(of / "images", resize=0) for of in (folder, source))
    assert stored.ids.tolist() == before.ids.tolist()
    assert np.array_equal(stored.pixels(), before.pixels())
    judged, _ = read_attacked_classes(folder / "classes.csv")
    with torch.no_grad():
        robust = load_extractor(None, root / "models" / "robust" / "model.pt")
        prediction = robust(to_pixels(before.pixels()))
    assert judged.classes.tolist() == prediction.logits.argmax(dim=1).tolist()
    features = read_features(folder / "features.npy")
    np.testing.assert_allclose(features[stored.ids], prediction.features, rtol=1e-4, atol=1e-5)
    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    assert report["success"].tolist() == (judged.classes == target).astype(int).tolist()
    own = pd.read_csv(source / "attack.tsv", sep="\t")
    assert report["linf"].tolist() == own["linf"].tolist() and (report["passes"] == 0).all()

    capsys.readouterr()
    for options, message in (
        ([*from_it, "--eps", 1], "over its budget 1"),
        ([*from_it[:3], "original"], "it has not attacked any image"),
        ([*from_it[:3], "pgd_1_2_eps4.0_linf"], "no image folder at"),
        ([*from_it, "--items", "class:1"], "all images of --images_from are judged"),
        ([*from_it, "--objective", "rank"], "aims at a class"),
    ):
        assert attack(root, *options, defended="robust") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert attack(root, *from_it) == 2
    assert "an attack on this extractor" in capsys.readouterr().err
    assert len(list((root / "data" / "shop").glob("*given*"))) == 1


def test_images_that_aim_at_lists_have_no_success_without_a_recommender(root):
    origin, _ = pair(root)
    assert attack(root, "--eps", 4) == 0
    name = f"apgd_{origin}_rank_eps4.0_nb_iter9_linf_VBPR-ep3"
    attacked_folder(root).rename(root / "data" / "shop" / name)
    options = ["--attack_type", "given", "--images_from", name, "--eps", 4]
    assert attack(root, *options, defended="robust") == 0
    report = pd.read_csv(attacked_folder(root, "robust_given") / "attack.tsv", sep="\t")
    assert report[["success", "success_before_rounding"]].isna().all().all()
    assert report["linf"].max() == 4


def test_a_folder_of_attacked_images_is_checked_image_by_image(root, tmp_path, capsys):
    own = tmp_path / "mine"
    own.mkdir()
    clean = open_catalogue(root / "data" / "shop" / "original" / "images")
    for item in (2, 5):
        changed = np.clip(clean.image(item).astype(int) + 3, 0, 255).astype(np.uint8)
        Image.fromarray(changed).save(own / f"{item}.png")
    options = ["--attack_type", "given", "--images_from", own, "--eps", 3]
    assert attack(root, *options) == 0
    folder = attacked_folder(root, "given_ids-mine")
    assert sorted(int(of.stem) for of in (folder / "images").iterdir()) == [2, 5]
    assert pd.read_csv(folder / "attack.tsv", sep="\t")["linf"].tolist() == [3, 3]

    for name, image, message in (
        ("7", clean.image(7)[:39], "40x39 pixels, but the extractor reads its item at 40x40"),
        ("99", clean.image(7), "99.png: no item of the catalogue has this name"),
        ("cover", clean.image(7), "cover.png: no item of the catalogue has this name"),
        ("7", clean.image(6), "over its budget 3"),
    ):
        Image.fromarray(image).save(own / f"{name}.png")
        capsys.readouterr()
        assert attack(root, *options) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        (own / f"{name}.png").unlink()
