"""Decoding by torchvision reads what Pillow reads, on the CPU with the code of a GPU."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from src.artifacts.errors import UserError
from src.datasets.catalogue import open_catalogue
from src.datasets.image_files import colour_jpeg
from src.extractors import decoding
from src.extractors.decoding import BY_PILLOW, JpegDecoder, decode_jpeg, resized
from src.extractors.inference import predict
from src.extractors.recorded import RecordedExtractor

CPU = torch.device("cpu")
LEVELS = 2
"""Largest difference of a decoded and resized level from Pillow's."""


@pytest.fixture
def photos(tmp_path):
    """Return a folder of smooth JPEG photos of unequal sizes, with chroma at half the resolution."""
    rng = np.random.default_rng(0)
    for item, size in enumerate([(70, 50), (48, 64), (33, 47), (64, 64), (120, 90)]):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        whole = coarse.resize(size, Image.Resampling.BICUBIC)
        whole.save(tmp_path / f"{item}.jpg", quality=90, progressive=item == 2)
    return tmp_path


def by_pillow(images, positions):
    return np.stack([images.read(position)[0] for position in positions]).astype(int)


@pytest.mark.parametrize("side", [24, 64, 100])
def test_levels_are_pillows_at_the_side_that_is_named(photos, side):
    images, positions = open_catalogue(photos, resize=side), np.array([4, 0, 2, 3, 1])
    notes, levels = JpegDecoder(CPU).read(images, positions)
    assert notes == {}
    assert levels.shape == (5, side, side, 3) and levels.dtype == torch.uint8
    assert abs(levels.numpy() - by_pillow(images, positions)).max() <= LEVELS


@pytest.mark.parametrize(
    "size", [(9, 31), (31, 9), (30, 30), (14, 25), (25, 14), (14, 20), (20, 14), (8, 80), (24, 30)]
)
def test_noise_is_resized_as_pillow_resizes_it(size):
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = Image.fromarray(noise).resize((24, 24), Image.Resampling.BICUBIC)
    got = resized(torch.from_numpy(noise).permute(2, 0, 1), 24).permute(1, 2, 0)
    assert abs(got.numpy() - np.asarray(expected, int)).max() <= LEVELS


def test_native_sizes_are_kept(photos):
    images = open_catalogue(photos, resize=0)
    for position in range(len(images)):
        _, levels = JpegDecoder(CPU).read(images, np.array([position]))
        expected = by_pillow(images, [position])
        assert levels.shape == expected.shape
        assert abs(levels.numpy() - expected).max() <= LEVELS


def test_other_files_are_read_by_pillow_and_noted(photos):
    Image.open(photos / "0.jpg").convert("L").save(photos / "0.jpg")
    whole = (photos / "1.jpg").read_bytes()
    (photos / "1.jpg").write_bytes(whole[: len(whole) // 2])
    Image.open(photos / "3.jpg").save(photos / "3.png")
    (photos / "3.jpg").unlink()
    Image.open(photos / "4.jpg").convert("CMYK").save(photos / "4.jpg")
    images, positions = open_catalogue(photos, resize=32), np.arange(5)
    notes, levels = JpegDecoder(CPU).read(images, positions)
    assert notes == {
        0: f"converted from L, {BY_PILLOW}",
        1: f"truncated, {BY_PILLOW}",
        3: BY_PILLOW,
        4: f"converted from CMYK, {BY_PILLOW}",
    }
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(levels[others].numpy(), by_pillow(images, others))


def test_a_jpeg_that_stores_rgb_is_left_to_pillow(photos):
    assert colour_jpeg(photos / "0.jpg") == (photos / "0.jpg").read_bytes()
    stream = io.BytesIO()
    Image.open(photos / "0.jpg").save(stream, "JPEG", keep_rgb=True)
    (photos / "0.jpg").write_bytes(stream.getvalue())
    assert Image.open(photos / "0.jpg").mode == "RGB"
    assert colour_jpeg(photos / "0.jpg") is None


def test_a_file_that_is_no_image_is_one_line(photos):
    images = open_catalogue(photos, resize=32)
    (photos / "2.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.jpg is not a readable image"):
        JpegDecoder(CPU).read(images, np.arange(5))


def test_a_file_that_the_device_refuses_is_read_by_pillow_alone(photos, monkeypatch):
    refused = len((photos / "1.jpg").read_bytes())

    def picky(encoded, *arguments):
        if any(len(content) == refused for content in encoded):
            raise RuntimeError("Error while decoding JPEG images: unsupported")
        return decode_jpeg(encoded, *arguments)

    monkeypatch.setattr(decoding, "decode_jpeg", picky)
    images, positions = open_catalogue(photos, resize=32), np.arange(5)
    notes, levels = JpegDecoder(CPU).read(images, positions)
    assert notes == {1: BY_PILLOW}
    np.testing.assert_array_equal(levels[1].numpy(), images.image(1))
    assert abs(levels.numpy() - by_pillow(images, positions)).max() <= LEVELS


def test_memory_that_is_too_small_halves_the_batch_and_leaves_nothing_to_pillow(
    photos, monkeypatch
):
    images, positions = open_catalogue(photos, resize=32), np.arange(5)
    _, expected = JpegDecoder(CPU).read(images, positions)

    def small(encoded, *arguments):
        if len(encoded) > 2:
            raise RuntimeError("Error while decoding JPEG images: CUDA out of memory. Tried to ...")
        return decode_jpeg(encoded, *arguments)

    monkeypatch.setattr(decoding, "decode_jpeg", small)
    notes, levels = JpegDecoder(CPU).read(images, positions)
    assert notes == {}
    assert torch.equal(levels, expected)


def test_a_torchvision_that_cannot_decode_on_the_device_is_one_line(monkeypatch):
    with pytest.raises(UserError, match="--decoder gpu needs a CUDA device"):
        JpegDecoder.on(CPU)

    def without_nvjpeg(*arguments):
        raise RuntimeError("torchvision not compiled with nvJPEG support\nstack")

    monkeypatch.setattr(decoding, "decode_jpeg", without_nvjpeg)
    with pytest.raises(
        UserError, match=r"not compiled with nvJPEG support\): use --decoder pillow"
    ):
        JpegDecoder.on(torch.device("meta"))


@pytest.mark.parametrize("workers", [0, 3])
def test_predictions_are_close_to_those_of_pillow(tiny_extractor, photos, workers):
    images = open_catalogue(photos, resize=48)
    options = {"batch_size": 2, "progress": None}
    expected = predict(tiny_extractor, images, **options)
    decoder = JpegDecoder(CPU)
    got = predict(tiny_extractor, images, workers=workers, decoder=decoder, **options)
    moved = np.linalg.norm(got.features - expected.features, axis=1)
    assert (moved < 0.02 * np.linalg.norm(expected.features, axis=1)).all()


def test_features_of_another_decoder_are_refused(tmp_path):
    pillow = RecordedExtractor("resnet50", "w", 224, "fp32")
    gpu = RecordedExtractor("resnet50", "w", 224, "bf16", decoder="gpu")
    assert "decoder" not in pillow.options() and gpu.options()["decoder"] == "gpu"
    with pytest.raises(UserError, match="made with decoder gpu, this run has pillow"):
        pillow.require_same(gpu, tmp_path / "classes.csv")
