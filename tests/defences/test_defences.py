"""Rows of ``DEFENCES``, chains, and the example of docs/extending.md keep the contract's promises."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle
from torch.nn import functional

from src.artifacts.errors import UserError
from src.artifacts.experiments import check_name
from src.attacks.storage import to_pixels
from src.defences.defence import Chain, Defence, NoDefence
from src.defences.jpeg import soft_jpeg, stored_as_jpeg
from src.defences.registry import (
    DEFENCES,
    JPEG,
    Bits,
    Blur,
    MedianFilter,
    Resize,
    TotalVariation,
    parse_defence,
)
from src.defences.smoothing import noisy_features
from src.defences.unet import UNet, save_denoiser
from src.extractors.attention import Watched
from src.extractors.extractor import fast_copy
from tests.page_examples import example_of_the_page

CHAIN = "resize:side=100+jpeg:quality=75+bits:n=3"


def pictures(n: int = 2, height: int = 128, width: int = 121) -> np.ndarray:
    """Return smooth pictures (n, height, width, 3) uint8 with some noise, black and white corners."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        drawn.append((smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255))
    images = np.stack(drawn).astype(np.uint8)
    images[:, :9, :9], images[:, -9:, -9:] = 0, 255
    return images


IMAGES = to_pixels(pictures())


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    """Checkpoint of a small denoiser that has learnt nothing."""
    path = tmp_path_factory.mktemp("denoisers") / "aid.pt"
    torch.manual_seed(0)
    save_denoiser(path, UNet(2), {})
    return path


@pytest.fixture(
    params=[
        *(kind for kind, row in DEFENCES.items() if row.changes_images),
        "a chain",
        "the example",
    ]
)
def defence(request, denoiser):
    if request.param == "the example":
        return example_of_the_page("defences")()
    return parse_defence(
        {"a chain": CHAIN, "denoiser": f"denoiser:{denoiser}"}.get(request.param, request.param)
    )


def drawn_alike(function, images):
    """Return ``function(images)`` where random choices are equal in all calls."""
    torch.manual_seed(0)
    return function(images)


class TestContract:
    def test_images_keep_shape_type_and_range(self, defence):
        defended = defence(IMAGES)
        assert defended.shape == IMAGES.shape and defended.dtype == IMAGES.dtype
        assert defended.min() >= 0 and defended.max() <= 1

    def test_images_are_not_changed_in_place(self, defence):
        images = IMAGES.clone()
        defence(images)
        assert torch.equal(images, IMAGES)

    def test_an_image_does_not_depend_on_its_batch(self, defence):
        if defence.is_random:
            pytest.skip("draws differ")
        one_by_one = torch.cat([defence(image[None]) for image in IMAGES])
        torch.testing.assert_close(one_by_one, defence(IMAGES), rtol=0, atol=1e-6)

    def test_it_draws_only_where_it_says_so(self, defence):
        assert torch.equal(defence(IMAGES), defence(IMAGES)) != defence.is_random

    def test_gradients_pass(self, defence):
        images = IMAGES.clone().requires_grad_()
        defended = defence(images)
        direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad((defended * direction).sum(), images)
        assert gradient.isfinite().all()
        assert (gradient.flatten(1).norm(dim=1) > 0).all()
        # An attack sees the result of the defence for a file.
        if not defence.is_random:
            with torch.no_grad():
                assert torch.equal(defended, defence(images))

    def test_a_step_along_the_gradient_brings_the_result_nearer_to_a_picture(self, defence):
        images = IMAGES.clone().requires_grad_()
        wanted = drawn_alike(defence, IMAGES.flip(0))
        before = (drawn_alike(defence, images) - wanted).square().sum()
        (gradient,) = torch.autograd.grad(before, images)
        moved = (IMAGES - 0.2 * gradient.sign()).clamp(0, 1)
        assert (drawn_alike(defence, moved) - wanted).square().sum() < before

    def test_its_text_and_its_folder(self, defence):
        check_name(defence.folder, "folder")
        assert defence.backward
        if not isinstance(defence, (*DEFENCES.values(), Chain)):
            assert re.fullmatch(rf"{defence.kind}(:.+)?", defence.text)
        else:
            assert parse_defence(defence.text) == defence

    def test_the_extractor_behind_it_sees_what_it_makes_of_images(self, defence, tiny_extractor):
        defended = defence.in_front_of(tiny_extractor)
        assert tiny_extractor.preprocess is None
        with torch.no_grad():
            expected = tiny_extractor(drawn_alike(defence, IMAGES)).logits
            torch.testing.assert_close(drawn_alike(defended, IMAGES).logits, expected)
            tuned = drawn_alike(fast_copy(defended), IMAGES).logits
            torch.testing.assert_close(tuned, expected, rtol=1e-3, atol=1e-3)


def test_none_is_the_identity(tiny_extractor):
    images = IMAGES.clone()
    assert NoDefence()(images) is images
    assert parse_defence("none").in_front_of(tiny_extractor) is tiny_extractor


def energy(images: torch.Tensor, of: torch.Tensor, weight: float) -> float:
    """Return |y - x|^2 / 2 + weight TV(y)."""
    down, right = (functional.pad(images.diff(dim=d), (0, d - 2, 0, 3 - d)) for d in (2, 3))
    variation = (down.square() + right.square()).sqrt().sum()
    return float((images - of).square().sum() / 2 + weight * variation)


@pytest.mark.parametrize("weight", [0.02, 0.1])
def test_total_variation_reaches_the_minimum_that_scikit_image_reaches(weight):
    defended = TotalVariation(weight)(IMAGES)
    reference = torch.stack(
        [
            torch.stack(
                [
                    torch.from_numpy(
                        denoise_tv_chambolle(channel.numpy(), weight, eps=0, max_num_iter=300)
                    )
                    for channel in image
                ]
            )
            for image in IMAGES
        ]
    )
    least = energy(reference, IMAGES, weight)
    assert energy(defended, IMAGES, weight) < 1.02 * least < energy(IMAGES, IMAGES, weight)


def test_the_gradient_of_total_variation_is_that_of_finite_differences():
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    defence = TotalVariation(0.1)
    assert torch.autograd.gradcheck(defence, (0.2 + 0.6 * images).requires_grad_())


def test_a_denoiser_is_named_by_its_file_and_recorded_by_its_content(denoiser, tmp_path):
    elsewhere = tmp_path / "other.pt"
    elsewhere.write_bytes(denoiser.read_bytes())
    first, second = (parse_defence(f"denoiser:{path}") for path in (denoiser, elsewhere))
    assert (first.folder, second.folder) == ("denoiser-aid", "denoiser-other")
    assert first.recorded == second.recorded
    torch.manual_seed(1)
    save_denoiser(elsewhere, UNet(2), {})
    assert second.recorded != first.recorded
    assert not torch.equal(first(IMAGES), second(IMAGES))


class TestSmoothing:
    def test_features_are_medians_and_logits_means_of_noisy_copies(self, tiny_extractor):
        smooth = parse_defence("smooth:sigma=0.1,n=5").in_front_of(tiny_extractor)
        with torch.no_grad():
            features = noisy_features(tiny_extractor, IMAGES, 0.1, 5)
            found = smooth(IMAGES)
            assert features.shape == (5, *found.features.shape)
            middle = features.sort(dim=0).values[2]
            torch.testing.assert_close(found.features, middle)
            torch.testing.assert_close(smooth(IMAGES[1:]).features, middle[1:])
            assert not torch.equal(features[0], features[1])

    def test_without_noise_it_is_the_network(self, tiny_extractor):
        smooth = parse_defence("smooth:sigma=0.001,n=3").in_front_of(tiny_extractor)
        with torch.no_grad():
            found, plain = smooth(IMAGES), tiny_extractor(IMAGES)
        torch.testing.assert_close(found.features, plain.features, rtol=0.05, atol=0.05)
        torch.testing.assert_close(found.logits, plain.logits, rtol=0.05, atol=0.05)

    def test_a_step_along_the_gradient_raises_the_exact_features(self, tiny_extractor):
        smooth = parse_defence("smooth:sigma=0.1,n=5").in_front_of(tiny_extractor)
        images = IMAGES.clone().requires_grad_()
        before = smooth(images).features.sum()
        (gradient,) = torch.autograd.grad(before, images)
        with torch.no_grad():
            after = smooth(IMAGES + 0.01 * gradient.sign()).features.sum()
        assert after > before

    def test_a_chain_smooths_what_the_first_defence_leaves(self, tiny_extractor):
        chain = parse_defence("bits:n=2+smooth:sigma=0.1,n=3")
        alone = parse_defence("smooth:sigma=0.1,n=3").in_front_of(tiny_extractor)
        with torch.no_grad():
            found = chain.in_front_of(tiny_extractor)(IMAGES).features
            torch.testing.assert_close(found, alone(Bits(2)(IMAGES)).features)
        assert chain.folder == "bits-n2.smooth-sigma0.1-n3"

    def test_no_map_is_its_attention(self, tiny_extractor):
        smooth = parse_defence("smooth:n=3").in_front_of(tiny_extractor)
        with pytest.raises(
            UserError, match=r"smooth:sigma=0\.1,n=3 asks the network more than once"
        ):
            Watched(smooth)


def test_one_bit_is_a_threshold():
    levels = torch.tensor([0.0, 0.2, 0.49, 0.51, 0.8, 1.0]).expand(1, 3, 1, 6)
    assert Bits(1)(levels)[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_two_bits_are_thirds():
    levels = torch.tensor([0.1, 0.2, 0.45, 0.55, 0.8, 0.9]).expand(1, 3, 1, 6)
    assert (3 * Bits(2)(levels)[0, 0, 0]).round().tolist() == [0, 1, 1, 2, 2, 3]


def test_eight_bits_are_those_of_a_file():
    torch.testing.assert_close(Bits(8)(IMAGES), IMAGES, rtol=0, atol=1e-7)


@pytest.mark.parametrize("quality", [20, 75, 100])
def test_jpeg_equals_the_file_that_pillow_writes(quality):
    files = []
    for image in pictures():
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        files.append(np.asarray(Image.open(stream)))
    assert torch.equal(JPEG(quality)(IMAGES), to_pixels(np.stack(files)))


def test_jpeg_rounds_to_the_levels_that_would_be_stored():
    between = (IMAGES + 0.4 / 255 * torch.rand(IMAGES.shape)).clamp(0, 1)
    assert torch.equal(JPEG(50)(between), JPEG(50)(IMAGES))


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_the_stand_in_is_close_to_the_encoder(quality):
    exact = stored_as_jpeg(IMAGES, quality)
    error = (soft_jpeg(IMAGES, quality) - exact).abs().mean()
    assert error < (IMAGES - exact).abs().mean() / 2


@pytest.mark.parametrize("defence", [JPEG(30), MedianFilter(5)], ids=lambda defence: defence.text)
def test_a_stand_in_raises_what_is_left_of_a_fine_pattern_more_than_the_identity_does(defence):
    """The identity follows a pattern that the defence removes; the stand-in considers the removal."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(IMAGES.shape, generator=generator)

    def gain(gradient: torch.Tensor) -> float:
        moved = (IMAGES + 8 / 255 * gradient.sign()).clamp(0, 1)
        return float(((defence(moved) - defence(IMAGES)) * direction).sum())

    images = IMAGES.clone().requires_grad_()
    (through,) = torch.autograd.grad((defence(images) * direction).sum(), images)
    assert gain(through) > 1.5 * gain(direction) > 0


def test_blur_spreads_a_point_symmetrically_and_keeps_its_sum():
    image = torch.zeros(1, 3, 31, 31)
    image[..., 15, 15] = 1
    blurred = Blur(1.5)(image)
    torch.testing.assert_close(blurred.sum(dim=(2, 3)), torch.ones(1, 3))
    torch.testing.assert_close(blurred, blurred.flip(3).transpose(2, 3))
    ratio = blurred[0, 0, 15, 17] / blurred[0, 0, 15, 15]
    torch.testing.assert_close(ratio, torch.tensor(-4 / (2 * 1.5**2)).exp())


def test_the_median_removes_a_point_and_keeps_an_edge():
    image = torch.zeros(1, 3, 9, 9)
    image[..., 5:] = 0.5
    edge = image.clone()
    image[..., 4, 2] = 1
    assert torch.equal(MedianFilter(3)(image), edge)


def test_resizing_averages_what_is_smaller_than_a_pixel_of_the_square():
    columns = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert (Resize(16)(columns) - 0.5).abs().max() < 0.1


def test_resizing_refuses_images_that_it_would_not_shrink():
    with pytest.raises(UserError, match="would not shrink images of 121x128 pixels"):
        Resize(121)(IMAGES)


def test_a_chain_applies_the_first_defence_first():
    chain = parse_defence("bits:n=2+blur:sigma=2")
    assert torch.equal(chain(IMAGES), Blur(2.0)(Bits(2)(IMAGES)))
    assert not torch.equal(chain(IMAGES), Bits(2)(Blur(2.0)(IMAGES)))
    assert chain.text == "bits:n=2+blur:sigma=2"
    assert chain.folder == "bits-n2.blur-sigma2"


def test_a_defence_that_changes_the_size_is_refused(tiny_extractor):
    class Cropped(Defence):
        kind = "cropped"

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return images[..., 1:]

    with pytest.raises(UserError, match=r"cropped turns images of 3x128x121 to 3x128x120"):
        Cropped().in_front_of(tiny_extractor)(IMAGES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpg", "no defence 'jpg': choose from none, jpeg"),
        ("", "no defence ''"),
        ("jpeg:quality=0", r"quality \(of the encoder\) is a whole number from 1 to 100, not 0"),
        (
            "jpeg:quality=50.5",
            r"quality \(of the encoder\) is a whole number from 1 to 100, not 50.5",
        ),
        ("jpeg:q=50", "write jpeg:quality=NUMBER"),
        ("jpeg:50", "write jpeg:quality=NUMBER"),
        ("jpeg:quality=50,quality=60", "write jpeg:quality=NUMBER"),
        ("none:n=1", "none:n=1: write none"),
        ("blur:sigma=nan", r"sigma \(pixels\) is a number from 0.1 to 20, not nan"),
        ("median_filter:side=4", "side is odd, not 4"),
        ("none+jpeg", "none stands alone"),
        ("denoiser", "write denoiser:FILE"),
        ("denoiser:none.pt", "missing file: none.pt"),
        ("smooth:n=0", r"n \(noisy copies of an image\) is a whole number from 1 to 10000, not 0"),
    ],
)
def test_texts_that_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_defence(text)


def test_parameters_that_are_not_given_have_their_usual_values():
    assert parse_defence("jpeg") == JPEG(75)
    assert parse_defence("jpeg").text == "jpeg:quality=75"
