"""Limits on what is read: sizes of archives and images, and numbers of users, before memory is taken."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.datasets import archive
from src.datasets.archive import unpack
from src.datasets.image_files import image_size, limit_pixels, read_image
from src.datasets.interactions import load_interactions
from tests.small_shops import write_data


def zip_bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros.bin", bytes(2**27))
    return path


def tar_bomb(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as bomb:
        info = tarfile.TarInfo("zeros.bin")
        info.size = 2**27
        bomb.addfile(info, io.BytesIO(bytes(2**27)))
    return path


@pytest.mark.parametrize("bomb", [zip_bomb, tar_bomb])
def test_an_archive_that_unpacks_to_a_hundred_times_its_size_is_refused(tmp_path, bomb):
    packed = bomb(tmp_path / "bomb")
    with pytest.raises(UserError, match=r"bomb is refused: its \d+ bytes unpack to 134217728"):
        unpack(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as many:
        for number in range(3):
            many.writestr(f"{number}.txt", "")
    with pytest.raises(UserError, match="it has 3 files, more than 2"):
        unpack(tmp_path / "many.zip", tmp_path / "out")


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, *extra: bytes) -> bytes:
    """Return a PNG whose header claims a size; its pixels are missing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content",
    [
        png(20_000, 20_000),
        png(12_000, 9_000),
        png(8, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
        png(0, 0),
        b"\x89PNG\r\n\x1a\n",
        b"",
    ],
)
def test_images_of_too_many_pixels_or_of_none_are_refused(tmp_path, content):
    path = tmp_path / "0.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"0\.png"):
        image_size(path)
    with pytest.raises(UserError, match=r"0\.png"):
        read_image(path)


def test_the_limit_of_pixels_can_be_moved(tmp_path):
    path = tmp_path / "0.png"
    Image.new("RGB", (10, 10)).save(path)
    before = Image.MAX_IMAGE_PIXELS
    try:
        limit_pixels(99)
        with pytest.raises(UserError, match="10 x 10 pixels, more than 99"):
            image_size(path)
        limit_pixels(100)
        assert image_size(path) == (10, 10)
    finally:
        limit_pixels(before)


@pytest.mark.parametrize("last", [9, 10**9])
def test_user_ids_with_large_gaps_are_refused_before_memory_is_taken(tmp_path, last):
    layout = write_data(Layout("shop", tmp_path), [[0, 0], [1, 1], [last, 2]], [[0, 1]])
    with pytest.raises(UserError, match=rf"trainingset.tsv: user {last} is the last, but only 3"):
        load_interactions(layout, 3)
