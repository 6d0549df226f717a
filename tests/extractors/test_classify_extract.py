"""Stage 1 from the command line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.features import read_features
from src.datasets.catalogue import open_catalogue
from src.extractors.checkpoints import load_extractor
from src.extractors.inference import predict
from src.extractors.recorded import RecordedExtractor
from tests.scripts import run_script

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(draw_images, tmp_path, tiny_checkpoint):
    draw_images(tmp_path / "data" / "tiny" / "original" / "images", 9)
    model = tmp_path / "models" / "free_adv" / "model_best.pth.tar"
    model.parent.mkdir(parents=True)
    shutil.copy(tiny_checkpoint, model)
    return tmp_path


@pytest.fixture
def stage(tree, capsys):
    """Return ``stage(*options)``, which runs the script and returns (exit code, stdout, stderr)."""

    def call(*options: object) -> tuple[int, str, str]:
        common = ("--root", tree, "--dataset", "tiny", "--gpu", -1, "--workers", 0)
        return run_script("classify_extract", *common, *options), *capsys.readouterr()

    return call


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_defended_extractor_writes_classes_features_and_record(stage, tree):
    code, out, err = stage("--defense", 1)
    assert code == 0, err
    folder = tree / "data" / "tiny" / "free_adv_original"
    assert files(folder) == {
        "classes.csv",
        "classes.csv.manifest.json",
        "features.npy",
        "image_notes.tsv",
    }
    extractor = load_extractor(None, tree / "models" / "free_adv" / "model_best.pth.tar")
    catalogue = open_catalogue(tree / "data" / "tiny" / "original" / "images")
    expected = predict(extractor, catalogue, batch_size=8, progress=None)
    np.testing.assert_array_equal(read_features(folder / "features.npy", 9), expected.features)
    classes = read_classes(folder / "classes.csv")
    np.testing.assert_array_equal(classes.image_ids, np.arange(9))
    np.testing.assert_array_equal(classes.classes, expected.classes)
    assert list(classes.labels) == expected.labels
    np.testing.assert_allclose(classes.probabilities, expected.probabilities)
    assert "9 images of 48x48 pixels, not resized" in out
    assert str(folder / "features.npy") in out
    recorded = RecordedExtractor.read(folder / "classes.csv")
    assert recorded == RecordedExtractor.of(extractor, 0, "fp32")


def test_a_second_run_skips_unless_forced_or_changed(stage, tree):
    stage("--defense", 1)
    features = tree / "data" / "tiny" / "free_adv_original" / "features.npy"
    written = features.stat().st_mtime_ns
    code, out, _ = stage("--defense", 1)
    assert code == 0
    assert "up to date" in out
    assert features.stat().st_mtime_ns == written
    assert "up to date" not in stage("--defense", 1, "--force")[1]
    assert features.stat().st_mtime_ns > written
    assert "resized to 40x40" in stage("--defense", 1, "--resize", 40)[1]
    assert RecordedExtractor.read(features.with_name("classes.csv")).resize == 40


def test_undefended_model_file_replaces_the_imagenet_weights(stage, tree, tiny_checkpoint):
    code, _, err = stage("--defense", 0, "--model_file", tiny_checkpoint)
    assert code == 0, err
    assert files(tree / "data" / "tiny" / "original") >= {"images", "classes.csv", "features.npy"}


def test_unusual_images_are_listed(stage, tree):
    image = tree / "data" / "tiny" / "original" / "images" / "4.jpg"
    image.write_bytes(image.read_bytes()[:-100])
    _, out, _ = stage("--defense", 1)
    assert "image 4: truncated" in out
    notes = (tree / "data" / "tiny" / "free_adv_original" / "image_notes.tsv").read_text()
    assert notes == "item\tnote\n4\ttruncated\n"


def test_bad_input_is_one_line_and_writes_nothing(stage, tree, tiny_checkpoint):
    images = tree / "data" / "tiny" / "original" / "images"
    model = ["--model_file", tiny_checkpoint]

    def problem(*options: object) -> str:
        code, _, err = stage(*options)
        assert code == 2
        line = err.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert files(images.parent) == {"images"}
        return line

    assert "no checkpoint at nowhere.pt" in problem("--model_file", "nowhere.pt")
    assert "no classifier 'alexnot'" in problem(*model, "--arch", "alexnot")
    assert "no data set" in problem("--dataset", "other")
    (images / "5.jpg").rename(images / "50.jpg")
    assert "no image of item 5" in problem(*model)
    (images / "50.jpg").rename(images / "5.jpg")
    whole = (images / "3.jpg").read_bytes()
    (images / "3.jpg").write_bytes(whole[:30])
    assert "3.jpg is not a readable image" in problem(*model)
    for path in images.iterdir():
        path.unlink()
    assert "no images in" in problem(*model)
    images.rmdir()
    code, _, err = stage(*model)
    assert code == 2
    assert "no image folder" in err


def test_another_extractor_is_not_taken_for_the_recorded_one(stage, tree, tiny_checkpoint):
    stage("--model_file", tiny_checkpoint)
    classes = tree / "data" / "tiny" / "original" / "classes.csv"
    clean = RecordedExtractor.read(classes)
    extractor = load_extractor(None, tiny_checkpoint)
    RecordedExtractor.of(extractor, 0, "bf16").require_same(clean, classes)
    with pytest.raises(UserError, match="made with resize 0, this run has 224"):
        RecordedExtractor.of(extractor, 224, "fp32").require_same(clean, classes)
    (classes.parent / "classes.csv.manifest.json").unlink()
    with pytest.raises(UserError, match=r"run classify_extract\.py first"):
        RecordedExtractor.read(classes)


def test_a_killed_run_continues_to_the_same_bytes(draw_images, tmp_path, tiny_checkpoint, python):
    roots = [tmp_path / "whole", tmp_path / "killed"]
    for root in roots:
        draw_images(root / "data" / "tiny" / "original" / "images", 40)

    def command(python: str, root: Path) -> list[str]:
        options = ["--root", root, "--dataset", "tiny", "--gpu", "-1", "--workers", "0"]
        options += ["--image_batch", "2", "--model_file", tiny_checkpoint]
        return [python, "classify_extract.py", *map(str, options)]

    subprocess.run(command(python.program, roots[0]), cwd=ROOT, check=True, capture_output=True)
    folder = roots[1] / "data" / "tiny" / "original"
    killed = subprocess.Popen(
        command(sys.executable, roots[1]),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob(".partial-*/part_1.npz")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (folder / "features.npy").exists()
    subprocess.run(command(python.program, roots[1]), cwd=ROOT, check=True, capture_output=True)
    for name in ("classes.csv", "features.npy", "image_notes.tsv"):
        whole = roots[0] / "data" / "tiny" / "original" / name
        assert (folder / name).read_bytes() == whole.read_bytes()
    assert not list(folder.glob(".partial-*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_decoder_of_a_gpu_that_is_not_there_is_one_line_and_leaves_nothing(stage, tree):
    code, _, err = stage("--defense", 1, "--gpu", 0, "--decoder", "gpu")
    assert code == 2
    assert err.splitlines() == ["error: --decoder gpu needs a CUDA device: use --decoder pillow"]
    assert not (tree / "data" / "tiny" / "free_adv_original").exists()


def test_the_decoder_of_a_gpu_refuses_a_folder_without_jpeg_files(stage, tree):
    folder = tree / "data" / "tiny" / "original" / "images"
    for path in list(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    code, _, err = stage("--defense", 1, "--gpu", 0, "--decoder", "gpu")
    assert (code, err.count("is a JPEG file: use --decoder pillow")) == (2, 1)
