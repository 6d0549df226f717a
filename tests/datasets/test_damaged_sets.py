"""Damaged files of published sets and of SemSim end in one line, or are read as what they say."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.artifacts.errors import UserError
from src.datasets.retrieval import open_retrieval_set
from src.datasets.triplet_folders import read_judged_images
from src.extractors.semsim import build_semsim, load_semsim, save_semsim
from tests.faults.damage import DAMAGES, apply

N = 10


def write_idx(path: Path, array: np.ndarray, shape: tuple[int, ...] | None = None) -> None:
    header = bytes([0, 0, 8, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in shape or array.shape)
    with gzip.open(path, "wb") as stream:
        stream.write(header + sizes + array.tobytes())


def write_set(name: str, root: Path) -> list[Path]:
    """Write a small set of the layout ``name``, and return the files that are damaged."""
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (N, 3072), dtype=np.uint8)
    classes = np.arange(N, dtype=np.uint8)[:, None]
    if name == "cifar10":
        files = [root / f"data_batch_{number}.bin" for number in range(1, 6)]
        for file in (*files, root / "test_batch.bin"):
            np.hstack([classes, planes]).tofile(file)
        return files[2:3]
    if name == "cifar100":
        for part in ("train", "test"):
            np.hstack([classes, classes, planes]).tofile(root / f"{part}.bin")
        names = root / "fine_label_names.txt"
        names.write_text("".join(f"thing_{number}\n" for number in range(100)))
        return [root / "train.bin", names]
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (N, 28, 28), dtype=np.uint8)
        write_idx(root / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(root / f"{part}-labels-idx1-ubyte.gz", classes[:, 0])
    return [root / "train-images-idx3-ubyte.gz", root / "t10k-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist"])
def test_a_damaged_set(name, tmp_path):
    n_refused = 0
    for damage in DAMAGES:
        for seed in range(2):
            for number in range(len(write_set(name, tmp_path))):
                path = write_set(name, tmp_path)[number]
                apply(damage, path, seed)
                try:
                    found = open_retrieval_set(name, tmp_path)
                except UserError as error:
                    assert str(tmp_path) in str(error) and "\n" not in str(error), (damage, error)
                    n_refused += 1
                else:
                    for part in (found.train, found.test):
                        assert 0 <= part.classes.min() <= part.classes.max() < len(part.labels)
                        assert part.pixels().shape[1:3] == (part.side, part.side)
    assert n_refused > len(DAMAGES)


def test_a_header_that_claims_more_than_its_file_takes_no_memory(tmp_path):
    write_set("mnist", tmp_path)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(images, np.zeros((1, 28, 28), np.uint8), (2**32 - 1, 2**16, 2**16))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is not an idx file"):
        open_retrieval_set("mnist", tmp_path)


def test_rows_of_another_version_of_cifar(tmp_path):
    write_set("cifar100", tmp_path)
    rows = np.fromfile(tmp_path / "test.bin", np.uint8).reshape(N, -1)
    rows[4, 0] = 20
    rows.tofile(tmp_path / "test.bin")
    with pytest.raises(UserError, match=r"test\.bin, row 5: coarse class 20 is not 0 to 19"):
        open_retrieval_set("cifar100", tmp_path)
    rows[4, :2] = 0, 100
    rows.tofile(tmp_path / "test.bin")
    with pytest.raises(UserError, match="classes must be 0 to 99"):
        open_retrieval_set("cifar100", tmp_path)


def test_names_of_classes_that_lack_one(tmp_path):
    names = write_set("cifar100", tmp_path)[1]
    lines = names.read_text().splitlines()
    for wrong in (lines[1:], [*lines, "one_more"], [*lines[:-1], lines[0]]):
        names.write_text("\n".join(wrong))
        with pytest.raises(UserError, match="must hold 100 different names"):
            open_retrieval_set("cifar100", tmp_path)


def test_a_damaged_semsim(tmp_path):
    torch.manual_seed(0)
    model, path = build_semsim("cifar_resnet8"), tmp_path / "semsim.pt"
    images, n_refused = torch.rand(2, 3, 8, 8), 0
    save_semsim(path, model)
    content = path.read_bytes()
    for damage in DAMAGES:
        path.write_bytes(content)
        apply(damage, path, seed=0)
        try:
            loaded = load_semsim(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error), (damage, error)
            n_refused += 1
        else:
            assert torch.isfinite(loaded(images)).all(), damage
    assert n_refused > len(DAMAGES) / 2


def test_damaged_judged_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    place = tmp_path / "train_with_ori" / "2"
    place.mkdir(parents=True)
    original, judged = place / "2_5_ori.png", place / "2_5_rec_0.png"
    for damage in DAMAGES:
        for path in (original, judged):
            Image.fromarray(pixels).save(path)
        apply(damage, judged, seed=0)
        try:
            images = read_judged_images(tmp_path, 8)
        except UserError as error:
            assert str(judged) in str(error) and "\n" not in str(error), (damage, error)
        else:
            assert images.pixels.shape == (2, 8, 8, 3)
