"""Predictions for a catalogue do not depend on batches, reading and resumption."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageFiles, ImageSet
from src.extractors import inference
from src.extractors.device import Loading
from src.extractors.inference import join_parts, predict, predict_parts


@pytest.fixture
def catalogue(draw_images, tmp_path):
    return open_catalogue(draw_images(tmp_path / "images", 11))


def quietly(*arguments, **options):
    return predict(*arguments, **options, progress=None)


def test_values_are_those_of_one_image_at_a_time(tiny_extractor, catalogue):
    predictions = quietly(tiny_extractor, catalogue, batch_size=4)
    for position in range(len(catalogue)):
        image = torch.tensor(catalogue.image(position)).permute(2, 0, 1)[None].float() / 255
        expected = tiny_extractor(image)
        np.testing.assert_allclose(
            predictions.features[position], expected.features[0], rtol=1e-4, atol=1e-5
        )
        assert predictions.classes[position] == expected.logits.argmax()
        np.testing.assert_allclose(
            predictions.probabilities[position], expected.logits.softmax(1).max(), rtol=1e-4
        )
    assert predictions.labels == [tiny_extractor.labels[number] for number in predictions.classes]
    assert predictions.features.dtype == np.float32
    assert predictions.classes.dtype == np.int64
    assert predictions.notes == []


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 0), (11, 0), (4, 2)])
def test_batches_and_workers_do_not_change_values(tiny_extractor, catalogue, batch_size, workers):
    expected = quietly(tiny_extractor, catalogue, batch_size=5)
    got = quietly(tiny_extractor, catalogue, batch_size=batch_size, workers=workers)
    np.testing.assert_allclose(got.features, expected.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got.classes, expected.classes)


def test_rows_follow_the_positions_asked_for(tiny_extractor, catalogue):
    everything = quietly(tiny_extractor, catalogue)
    some = quietly(tiny_extractor, catalogue, np.array([7, 2, 9]), batch_size=2)
    np.testing.assert_allclose(some.features, everything.features[[7, 2, 9]], rtol=1e-5, atol=1e-6)


def test_images_of_unlike_native_sizes_keep_their_rows(tiny_extractor, draw_images, tmp_path):
    folder = draw_images(tmp_path / "images", 4)
    Image.open(folder / "1.jpg").resize((64, 40)).save(folder / "1.jpg")
    native = open_catalogue(folder, resize=0)
    predictions = quietly(tiny_extractor, native, batch_size=2)
    alone = quietly(tiny_extractor, native, np.array([1]))
    np.testing.assert_allclose(predictions.features[1], alone.features[0], rtol=1e-5, atol=1e-6)
    assert (predictions.features[0] != predictions.features[1]).any()


@pytest.mark.parametrize("workers", [0, 1])
def test_truncated_and_grey_images_are_noted(tiny_extractor, catalogue, workers):
    truncated, grey = catalogue.store.paths[3], catalogue.store.paths[5]
    truncated.write_bytes(truncated.read_bytes()[:-200])
    Image.open(grey).convert("L").save(grey)
    predictions = quietly(tiny_extractor, catalogue, batch_size=4, workers=workers)
    assert predictions.notes == [(3, "truncated"), (5, "converted from L")]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_one_line(tiny_extractor, catalogue, workers):
    catalogue.store.paths[6].write_bytes(b"no image")
    with pytest.raises(UserError, match=r"6\.jpg is not a readable image") as error:
        quietly(tiny_extractor, catalogue, workers=workers)
    assert "Traceback" not in str(error.value)


def test_a_size_that_the_network_cannot_read_is_one_line(draw_images, tmp_path):
    from src.extractors.architectures import build_extractor

    extractor = build_extractor("squeezenet1_1", "abc").eval()
    catalogue = open_catalogue(draw_images(tmp_path / "small", 1, size=8))
    with pytest.raises(UserError, match=r"squeezenet1_1 cannot read images of 8x8 .* --resize 224"):
        quietly(extractor, catalogue)


def test_finished_parts_are_taken_up_and_the_result_is_the_same(
    tiny_extractor, catalogue, tmp_path, monkeypatch
):
    monkeypatch.setattr(inference, "_PARTS", 3)
    Image.open(catalogue.store.paths[1]).convert("L").save(catalogue.store.paths[1])
    expected = quietly(tiny_extractor, catalogue, batch_size=2)
    parts = Parts.of(Manifest.of("stage", {}, []), tmp_path / "classes.csv")

    def work():
        predict_parts(tiny_extractor, catalogue, parts, batch_size=2, progress=None)

    forward, calls = inference._forward, []

    def killed_after_five(*arguments):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(inference, "_forward", killed_after_five)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert sorted(path.name for path in parts.folder.iterdir()) == ["part_0.npz", "part_1.npz"]
    assert parts.unfinished(3) == [2]
    with pytest.raises(UserError, match=r"part_2\.npz is missing: do all processes see"):
        join_parts(tiny_extractor, catalogue, parts, batch_size=2)

    calls.clear()  # 8 of 11 images are finished, so that two batches are left
    work()
    assert len(calls) == 2
    resumed = join_parts(tiny_extractor, catalogue, parts, batch_size=2)
    for name in ("classes", "probabilities", "features"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(expected, name))
    assert resumed.labels == expected.labels
    assert resumed.notes == expected.notes == [(1, "converted from L")]
    parts.discard()
    assert not parts.folder.exists()


@pytest.mark.parametrize(
    ("n", "batch_size", "n_parts", "largest"),
    [(11, 2, 6, 2), (2978, 8, 373, 8), (100_000, 8, 261, 384), (2_000_000, 8, 1954, 1024)],
)
def test_parts_are_many_and_small_enough_to_be_shared(n, batch_size, n_parts, largest):
    images = ImageSet.of(ImageFiles((None,) * n, resize=224))
    plan = inference._plan(images, batch_size)
    assert len(plan) == n_parts
    assert max(sum(map(len, part)) for part in plan) == largest
    np.testing.assert_array_equal(np.concatenate([b for part in plan for b in part]), np.arange(n))


def test_parts_of_other_options_are_not_taken_up_but_discarded(tmp_path):
    output = tmp_path / "classes.csv"
    mine, other = (Parts.of(Manifest.of("stage", {"batch": n}, []), output) for n in (1, 2))
    other.save(0, {"x": np.arange(3)})
    assert mine.load(0) is None
    np.testing.assert_array_equal(other.load(0)["x"], np.arange(3))
    mine.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_the_gpu_cannot_hold_is_halved(tiny_extractor, catalogue, gpu_holds):
    expected = quietly(tiny_extractor, catalogue, batch_size=8)
    gpu_holds(3)
    got = quietly(tiny_extractor, catalogue, batch_size=8)
    np.testing.assert_allclose(got.features, expected.features, rtol=1e-5, atol=1e-6)

    gpu_holds(0)
    with pytest.raises(UserError, match="cannot hold"):
        quietly(tiny_extractor, catalogue)


def test_progress_counts_images(tiny_extractor, catalogue, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    predict(tiny_extractor, catalogue, batch_size=4, progress="reading")
    assert "11/11" in capsys.readouterr().err
    parts = Parts(tmp_path / "parts")
    for _ in range(2):  # the second time everything is there already
        predict_parts(tiny_extractor, catalogue, parts, batch_size=4, progress="reading")
        assert "11/11" in capsys.readouterr().err


def test_what_is_left_open_about_loading_follows_the_device():
    assert Loading.on(torch.device("cpu"), None, None) == Loading(8, 0)
    assert Loading.on(torch.device("cuda"), None, 2) == Loading(128, 2)
    with pytest.raises(UserError, match="--batch"):
        Loading.on(torch.device("cpu"), 0, None)
