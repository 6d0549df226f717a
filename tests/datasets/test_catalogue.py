"""Folders of product images with good and bad content."""

import numpy as np
import pytest
from PIL import Image

from src.artifacts.errors import UserError
from src.datasets.catalogue import SQUASHED, open_catalogue, open_whole_catalogue
from src.datasets.image_files import read_image


def save(path, size=(8, 6), mode="RGB", value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).convert(mode).save(path)
    return path


def test_images_are_ordered_by_number(tmp_path):
    for number in (10, 9, 100, 0):
        save(tmp_path / f"{number}.png", value=number)
    catalogue = open_catalogue(tmp_path)
    assert catalogue.ids.tolist() == [0, 9, 10, 100]
    assert [catalogue.image(position)[0, 0, 0] for position in range(4)] == [0, 9, 10, 100]
    assert catalogue.positions(np.array([100, 9])).tolist() == [3, 1]
    with pytest.raises(UserError, match="no image for item 11"):
        catalogue.positions(np.array([9, 11]))


def test_unlike_sizes_are_squashed_and_equal_sizes_kept(tmp_path):
    save(tmp_path / "same" / "0.png")
    save(tmp_path / "same" / "1.jpg")
    assert open_catalogue(tmp_path / "same").image(1).shape == (6, 8, 3)
    save(tmp_path / "unlike" / "0.png")
    save(tmp_path / "unlike" / "1.png", size=(30, 10))
    unlike = open_catalogue(tmp_path / "unlike")
    assert unlike.side == SQUASHED and unlike.image(1).shape == (SQUASHED, SQUASHED, 3)
    native = open_catalogue(tmp_path / "unlike", resize=0)
    assert native.image(1).shape == (10, 30, 3)


def test_batches_hold_images_of_one_size(tmp_path):
    for number in range(7):
        save(tmp_path / f"{number}.png", size=(8, 6) if number % 2 else (5, 5))
    catalogue = open_catalogue(tmp_path, resize=0)
    batches = list(catalogue.batches(np.arange(7), 2))
    assert sorted(np.concatenate(batches).tolist()) == list(range(7))
    for batch in batches:
        assert len(batch) <= 2 and len({catalogue.image(p).shape for p in batch}) == 1


def test_unusual_files_are_read_and_noted(tmp_path):
    for mode, suffix in (("L", "png"), ("P", "png"), ("CMYK", "jpg"), ("RGBA", "png")):
        pixels, note = read_image(save(tmp_path / f"1.{suffix}", mode=mode))
        assert pixels.shape == (6, 8, 3) and note == f"converted from {mode}"
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(random).save(tmp_path / "2.jpg")
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    pixels, note = read_image(tmp_path / "2.jpg")
    assert pixels.shape == (64, 64, 3) and note == "truncated"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images in"),
        (["shirt.png"], "image names must be item ids"),
        (["1.png", "1.jpg"], "two images of item 1"),
    ],
)
def test_wrong_folders(tmp_path, names, message):
    for name in names:
        save(tmp_path / name)
    with pytest.raises(UserError, match=message):
        open_catalogue(tmp_path)


def test_missing_folder_gap_and_corrupt_image(tmp_path):
    with pytest.raises(UserError, match="no image folder"):
        open_catalogue(tmp_path / "nowhere")
    save(tmp_path / "0.png")
    save(tmp_path / "2.png")
    with pytest.raises(UserError, match="no image of item 1"):
        open_whole_catalogue(tmp_path)
    (tmp_path / "1.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"1\.png is not a readable image"):
        open_catalogue(tmp_path)
    with pytest.raises(UserError, match=r"1\.png is not a readable image"):
        read_image(tmp_path / "1.png")
