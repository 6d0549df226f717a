"""Folders of reconstructions: names, and the original of each reconstruction."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.reconstructions import (
    diverged_images,
    originals_folder,
    parse_image_name,
    read_images,
    read_images_by_name,
    read_pairs,
    write_reconstructions,
)

NAME = "cifar_resnet20_200_inversed_aug_auglist_3-1-7_rlabel_False"
IDS, LABELS = (2, 10, 7), (1, 0, 1)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Write three pairs out of order, each with a reconstruction 7 levels above its original."""
    originals = np.zeros((3, 4, 6, 3), np.uint8) + np.array(IDS, np.uint8)[:, None, None, None]
    folder = tmp_path / NAME
    write_reconstructions(folder, IDS, LABELS, originals + 7, originals, originals + 1)
    return folder


def save(path: Path, size: tuple[int, int] = (6, 4)) -> None:
    Image.new("RGB", size).save(path)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("12_3_rec.png", (12, 3)),
        ("0_0_ori.png", (0, 0)),
        ("7_99_rec_2_13.png", (7, 99)),
        ("007_04_gt.png", (7, 4)),
    ],
)
def test_image_names_say_position_and_class(name, place):
    assert parse_image_name(name) == place


@pytest.mark.parametrize(
    "name", ["12_rec.png", "rec.png", "a_3_rec.png", "12_-1_rec.png", "1_2_.png", "1_2_rec.tiff"]
)
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="expected <id>_<label>"):
        parse_image_name(name)


@pytest.mark.parametrize("untransformed", [False, True])
def test_pairs_are_matched_by_name_and_sorted_by_id(folder, monkeypatch, untransformed):
    listed = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *of: reversed(list(listed(*of))))
    pairs = read_pairs(folder, untransformed=untransformed)
    assert [(pair.id, pair.label) for pair in pairs] == [(2, 1), (7, 1), (10, 0)]
    for pair in pairs:
        original, reconstruction = (np.asarray(Image.open(path)).astype(int) for path in pair[2:])
        assert (original == pair.id + untransformed).all()
        assert (reconstruction == pair.id + 7).all()


def test_originals_that_nobody_reconstructed_are_left_out(folder):
    save(originals_folder(folder) / "3_3_ori.png")
    assert len(read_pairs(folder)) == 3


def test_files_that_are_being_written_are_no_images(folder):
    save(folder / ".partial-5_5_rec.png")
    (folder / "metric.tsv").write_text("id\n")
    assert len(read_pairs(folder)) == 3


def test_a_reconstruction_without_original_is_an_error(folder):
    (originals_folder(folder) / "7_1_ori.png").rename(originals_folder(folder) / "7_0_ori.png")
    with pytest.raises(UserError, match=r"7_1_rec.png has no original 7_1"):
        read_pairs(folder)


def test_sizes_that_differ_are_an_error(folder):
    save(folder / "10_0_rec.png", (4, 6))
    with pytest.raises(UserError, match=r"10_0_rec.png has 4x6 pixels, its original 6x4"):
        read_pairs(folder)


@pytest.mark.parametrize("place", ["", "_ori"])
def test_names_of_another_form_are_an_error(folder, place):
    save(folder.with_name(folder.name + place) / "cat.png")
    with pytest.raises(UserError, match=r"'cat.png' does not name an image"):
        read_pairs(folder)


def test_two_files_of_one_place_are_an_error(folder):
    save(folder / "010_0_rec.png")
    with pytest.raises(UserError, match="are the same image"):
        read_pairs(folder)


def test_no_originals_are_an_error_and_no_distance_of_zero(folder):
    originals = originals_folder(folder)
    for path in originals.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no images .* in .*_ori"):
        read_pairs(folder)
    originals.rmdir()
    with pytest.raises(UserError, match=r"no folder of images at .*_ori"):
        read_pairs(folder)


def test_a_damaged_image_is_named(folder):
    (folder / "2_1_rec.png").write_bytes(b"PNG")
    with pytest.raises(UserError, match=r"2_1_rec.png is not a readable image"):
        read_pairs(folder)


def test_a_set_is_read_in_order_of_ids(folder):
    ids, labels, pixels = read_images(folder)
    assert ids.tolist() == [2, 7, 10] and labels.tolist() == [1, 1, 0]
    assert pixels.shape == (3, 4, 6, 3) and pixels.dtype == np.uint8
    assert (pixels[:, 0, 0, 0] == ids + 7).all()
    save(folder / "11_0_rec.png", (4, 4))
    with pytest.raises(UserError, match=r"11_0_rec.png is not of the size"):
        read_images(folder)
    (folder / "11_0_rec.png").write_bytes(b"PNG")
    with pytest.raises(UserError, match=r"11_0_rec.png is not a readable"):
        read_images(folder)


def test_the_table_of_a_folder_tells_which_images_diverged(folder):
    assert diverged_images(folder) == set()
    table = folder / "metric.tsv"
    table.write_text("id\tlabel\trestart\n2\t1\t0\n7\t1\t-1\n10\t0\t-1\n")
    assert diverged_images(folder) == {(7, 1), (10, 0)}
    table.write_text("id\tmse\n2\t0.1\n")
    assert diverged_images(folder) == set()
    table.write_text("")
    with pytest.raises(UserError, match=r"metric.tsv is empty"):
        diverged_images(folder)


def test_writing_replaces_what_stood_there(folder):
    image = np.zeros((1, 4, 6, 3), np.uint8)
    written = write_reconstructions(folder, [5], [2], image, image, image)
    assert [path.name for path in written] == [NAME, f"{NAME}_ori", f"{NAME}_untransformed"]
    assert list(read_images_by_name(folder)) == [(5, 2)]
    assert sorted(folder.parent.iterdir()) == sorted(written)
