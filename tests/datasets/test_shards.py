"""Images in tar archives are the images that files hold, and bad archives are one line."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets import shards
from src.datasets.catalogue import image_ids, open_whole_catalogue
from src.datasets.images import find_images
from tests.scripts import run_script

N_ITEMS = 5


def jpeg(item, **options):
    pixels = np.random.default_rng(item).integers(0, 256, (24, 16 + item, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", **options)
    return content.getvalue()


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def files(tmp_path):
    """Return a folder of files; item 3 has a header of 200 kB, and item 4 ends too early."""
    folder = tmp_path / "files"
    folder.mkdir()
    for item in range(N_ITEMS):
        long = {"icc_profile": os.urandom(200_000)} if item == 3 else {}
        content = jpeg(item, **long)
        (folder / f"{item}.jpg").write_bytes(content[:-80] if item == 4 else content)
    return folder


@pytest.fixture
def archives(files, tmp_path):
    """Return a folder of two archives with the same images, and what else webdataset has in them."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for number, items in enumerate(((4, 0), (3, 1, 2))):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as archive:
            for item in items:
                add(archive, f"part/{item}.jpg", (files / f"{item}.jpg").read_bytes())
                add(archive, f"part/{item}.json", b"{}")
    return folder


def test_a_catalogue_in_archives_is_that_in_files(files, archives):
    loose, packed = open_whole_catalogue(files), open_whole_catalogue(archives)
    np.testing.assert_array_equal(image_ids(archives), np.arange(N_ITEMS))
    np.testing.assert_array_equal(packed.store.sizes, loose.store.sizes)
    np.testing.assert_array_equal(packed.batch(np.arange(N_ITEMS)), loose.batch(np.arange(N_ITEMS)))
    assert [packed.read(item)[1] for item in range(N_ITEMS)] == [None] * 4 + ["truncated"]


def test_files_come_before_archives_beside_them(files, archives):
    (archives / "0.jpg").write_bytes((files / "0.jpg").read_bytes())
    assert list(find_images(archives)) == ["0"]


def test_two_images_of_an_item_are_one_line(archives):
    with tarfile.open(archives / "more.tar", "w") as archive:
        add(archive, "1.png", jpeg(1))
    with pytest.raises(UserError, match="two images of item 1"):
        open_whole_catalogue(archives)
    with pytest.raises(UserError, match="two images of item 1"):
        find_images(archives)


@pytest.mark.parametrize("how", ["no archive", "compressed", "cut"])
def test_a_damaged_archive_is_one_line(archives, how):
    path = archives / "shard-0.tar"
    if how == "no archive":
        path.write_bytes(b"x" * 2048)
    elif how == "compressed":
        with tarfile.open(path, "w:gz") as archive:
            add(archive, "0.jpg", jpeg(0))
    else:
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"shard-0\.tar"):
        open_whole_catalogue(archives)


def test_a_member_that_is_no_image_is_named(archives):
    with tarfile.open(archives / "shard-0.tar", "w") as archive:
        add(archive, "0.jpg", b"no image")
    with pytest.raises(UserError, match=r"shard-0\.tar:0\.jpg is not a readable image"):
        open_whole_catalogue(archives)


def test_a_data_set_of_archives_keeps_its_images_in_archives(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_IMAGES_PER_SHARD", 2)
    pairs = "user,item\n" + "".join(f"u{u},{i}\n" for u in range(3) for i in (0, 1, 2, 3))
    (tmp_path / "pairs.csv").write_text(pairs)
    options = ("--interactions", tmp_path / "pairs.csv", "--images", archives)
    common = ("--root", tmp_path, "--dataset", "shop")
    assert run_script("prepare_dataset", "folder", *common, *options) == 0
    layout = Layout("shop", tmp_path)
    assert sorted(path.name for path in layout.images.iterdir()) == [
        f"0000{n}.tar" for n in range(3)
    ]
    catalogue = open_whole_catalogue(layout.images)
    originals = layout.item_map.read_text().splitlines()[1:]
    before = open_whole_catalogue(archives)
    for row in originals:
        number, original = map(int, row.split("\t"))
        np.testing.assert_array_equal(catalogue.image(number), before.image(original))
