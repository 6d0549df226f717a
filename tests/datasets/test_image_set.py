"""Image sets of files and of an array behave alike, and reading ahead changes nothing but the time."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from src.artifacts.errors import UserError
from src.datasets.image_set import NO_CLASS, ImageArray, ImageFiles, ImageSet, joined
from src.datasets.read_ahead import read_ahead

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
CLASSES = np.array([2, 0, 2, 3, 0, 2])


@pytest.fixture(params=["files", "array"])
def images(request, tmp_path) -> ImageSet:
    """Six images with descending ids, of three of four classes."""
    store = ImageArray(PIXELS)
    if request.param == "files":
        paths = tuple(tmp_path / f"{number}.png" for number in range(6))
        for path, pixels in zip(paths, PIXELS, strict=True):
            Image.fromarray(pixels).save(path)
        store = ImageFiles(paths, resize=8)
    ids = np.arange(60, 0, -10)
    return ImageSet.of(store, CLASSES, ("a", "b", "c", "d"), ids=ids, inputs=[tmp_path])


def test_images_come_alone_in_batches_and_all_at_once(images):
    assert len(images) == 6 and images.side == 8
    np.testing.assert_array_equal(images.image(3), PIXELS[3])
    np.testing.assert_array_equal(images.batch(np.array([5, 0, 5])), PIXELS[[5, 0, 5]])
    assert images.batch(np.arange(0)).shape == (0, 8, 8, 3)
    np.testing.assert_array_equal(images.pixels(), PIXELS)
    assert isinstance(images.in_memory().store, ImageArray)
    np.testing.assert_array_equal(images.in_memory().pixels(), PIXELS)
    assert [batch.tolist() for batch in images.batches(np.array([4, 2, 3]), 2)] == [[4, 2], [3]]


@pytest.mark.parametrize("chosen", [[4, 0, 3], CLASSES != 2, slice(1, 3), np.arange(0)])
def test_a_part_has_the_chosen_images_with_all_that_is_known_of_them(images, chosen):
    part, rows = images.take(chosen), np.arange(6)[chosen]
    np.testing.assert_array_equal(part.pixels(), PIXELS[rows])
    assert part.ids.tolist() == images.ids[rows].tolist()
    assert part.classes.tolist() == CLASSES[rows].tolist()
    assert (part.labels, part.inputs) == (images.labels, images.inputs)


def test_classes_without_an_image_are_forgotten(images):
    part = images.renumbered()
    assert part.labels == ("a", "c", "d") and part.classes.tolist() == [1, 0, 1, 2, 0, 1]
    assert images.take(np.arange(0)).renumbered().labels == ()


def test_images_are_found_by_id_in_any_order(images):
    assert images.positions(np.array([10, 60, 20])).tolist() == [5, 0, 4]
    with pytest.raises(UserError, match=f"no image for item 15 in {images.inputs[0]}"):
        images.positions(np.array([10, 15]))


def test_joined_sets_are_numbered_anew(images):
    both = joined(images.take(slice(2)), images.take(slice(2, 6)))
    assert both.ids.tolist() == list(range(6)) and both.classes.tolist() == CLASSES.tolist()
    np.testing.assert_array_equal(both.pixels(), PIXELS)


def test_files_are_resized_and_cropped_in_their_middle(tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    whole = ImageSet.of(ImageFiles((tmp_path / "0.png",), sizes=np.array([[8, 8]])))
    assert whole.classes.tolist() == [NO_CLASS] and whole.labels == () and whole.side == 0
    large = np.asarray(Image.fromarray(PIXELS[0]).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(whole.resized(16).image(0), large)
    cropped = replace(whole, store=ImageFiles(whole.store.paths, resize=16, crop=10))
    assert cropped.side == 10
    np.testing.assert_array_equal(cropped.batch(np.array([0]))[0], large[3:13, 3:13])


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_is_read_ahead_comes_in_order(threads):
    numbers = list(range(20))
    assert list(read_ahead(lambda n: n * n, numbers, threads)) == [(n, n * n) for n in numbers]
    assert list(read_ahead(lambda n: n, [], threads)) == []


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_in_its_turn_and_ends_the_reading(threads):
    read = []

    def reading(number: int) -> int:
        read.append(number)
        if number == 3:
            raise UserError("3 is broken")
        return number

    found = read_ahead(reading, range(100), threads)
    assert [next(found) for _ in range(3)] == [(n, n) for n in range(3)]
    with pytest.raises(UserError, match="3 is broken"):
        next(found)
    assert len(read) < 20


def test_batches_are_read_while_the_caller_works():
    """The second batch is read before the caller asks for it."""
    second_was_read = threading.Event()

    def reading(number: int) -> int:
        if number == 1:
            second_was_read.set()
        return number

    found = read_ahead(reading, range(9), threads=1)
    assert next(found) == (0, 0)
    assert second_was_read.wait(timeout=60)
    assert [number for number, _ in found] == list(range(1, 9))
