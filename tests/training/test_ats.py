"""Policies of transformations: parser, and comparison with Pillow's operations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.training.ats import KINDS, SUB_POLICIES, Policy, parse_policy

HYBRID = "3-1-7+43-18-18"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_pixels(n: int, side: int = 24) -> Tensor:
    """Draw (n, 3, side, side) uint8 with edges and gradients, like photos."""
    coarse = torch.rand(n, 3, 5, 5, generator=seeded(1)) * 255
    return functional.interpolate(coarse, side, mode="bilinear").to(torch.uint8)


def test_the_published_policy_is_two_chains_of_three():
    policy = parse_policy(HYBRID)
    assert policy == Policy(((3, 1, 7), (43, 18, 18))) and str(policy) == HYBRID
    steps = [
        [(SUB_POLICIES[i].operation, round(SUB_POLICIES[i].magnitude, 3)) for i in chain]
        for chain in policy.chains
    ]
    assert steps == [
        [("translateX", 0.453), ("contrast", 0.333), ("translateY", 0.101)],
        [("translateY", 0.151), ("contrast", 0.389), ("contrast", 0.389)],
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=4), min_size=1, max_size=3))
def test_what_is_printed_is_parsed_again(chains):
    policy = Policy(tuple(map(tuple, chains)))
    assert parse_policy(str(policy)) == policy


@pytest.mark.parametrize("text", ["", "50", "-1", "3-", "3--1", "3+", "a", "3 1", "3-1.0", "²"])
def test_other_texts_are_refused(text):
    with pytest.raises(UserError, match="is no policy"):
        parse_policy(text)


RANGES = {
    "shearY": (0, 0.3), "translateX": (0, 150 / 331), "translateY": (0, 150 / 331),
    "rotate": (0, 30), "color": (0, 0.5), "contrast": (0, 0.5), "sharpness": (0, 0.5),
    "brightness": (0, 0.5), "posterize": (8, 4), "solarize": (256, 0),
    "autocontrast": (0, 0), "equalize": (0, 0), "invert": (0, 0),
}  # fmt: skip


def test_magnitudes_are_linear_in_their_index():
    assert len(SUB_POLICIES) == 50 and RANGES.keys() == KINDS.keys()
    for sub_policy in SUB_POLICIES:
        scale = np.linspace(*RANGES[sub_policy.operation], 10)
        assert sub_policy.magnitude == pytest.approx(scale[sub_policy.index])


def pillow(operation: str, image: Image.Image, m: float) -> Image.Image:
    """Apply the operation by Pillow; pixels from outside are black, or grey in a rotation."""

    def moved(a: float, b: float, c: float, d: float, e: float, f: float, resample: int = 0):
        return image.transform(image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), resample)

    match operation:
        case "shearY":
            return moved(1, 0, 0, m, 1, 0, Image.Resampling.BILINEAR)
        case "translateX":
            return moved(1, 0, m * image.width, 0, 1, 0)
        case "translateY":
            return moved(1, 0, 0, 0, 1, m * image.height)
        case "rotate":
            turned = image.convert("RGBA").rotate(m)
            grey = Image.new("RGBA", turned.size, (128,) * 4)
            return Image.composite(turned, grey, turned).convert("RGB")
        case "posterize":
            return ImageOps.posterize(image, round(m))
        case "solarize":
            return ImageOps.solarize(image, m)
        case "autocontrast" | "equalize" | "invert":
            return getattr(ImageOps, operation)(image)
        case _:
            return getattr(ImageEnhance, operation.capitalize())(image).enhance(1 + m)


@pytest.mark.parametrize("number", sorted({s: i for i, s in enumerate(SUB_POLICIES)}.values()))
def test_operations_are_pillows(number):
    """They differ by one grey level, from rounding; black mixes into the outermost pixel of a shear."""
    operation, magnitude = SUB_POLICIES[number].operation, SUB_POLICIES[number].magnitude
    pixels = smooth_pixels(4)
    ours = {
        sign: KINDS[operation].apply(pixels, sign * magnitude)
        for sign in ((1, -1) if KINDS[operation].signed else (1,))
    }
    # Pillow is told where a pixel comes from, ours where it goes: signs are drawn anyway.
    turned = operation in ("translateX", "translateY")
    for sign, result in ours.items():
        m = -sign * magnitude if turned else sign * magnitude
        for image, got in zip(pixels, result, strict=True):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            expected = np.asarray(pillow(operation, picture, m), dtype=int)
            difference = np.abs(got.permute(1, 2, 0).numpy().astype(int) - expected)
            share = 0.05 if operation == "shearY" else 0
            assert (difference > 1).mean() <= share, (sign, difference.max())


def test_images_in_groups_are_images_one_by_one():
    """Each image alone, with the random numbers of the whole batch, is the reference."""
    pixels, policy = smooth_pixels(40), parse_policy("3-1-7+43-18-18-2+6+30-28-37-11")
    together = policy(pixels, seeded(5))
    generator = seeded(5)
    drawn = torch.randint(3 + 1, (40,), generator=generator)
    negative = torch.rand(40, 4, generator=generator) < 0.5
    assert set(drawn.tolist()) == {0, 1, 2, 3}
    for row in range(40):
        image = pixels[row : row + 1]
        for place, number in enumerate(policy.chains[drawn[row]]):
            kind, magnitude = SUB_POLICIES[number].kind, SUB_POLICIES[number].magnitude
            image = kind.apply(
                image, -magnitude if kind.signed and negative[row, place] else magnitude
            )
        assert torch.equal(image[0], together[row])


def test_a_seed_says_everything_and_the_pictures_stay_as_they_were():
    pixels = smooth_pixels(16)
    before = pixels.clone()
    first, second = (parse_policy(HYBRID)(pixels, seeded(3)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(pixels, before)
    assert not torch.equal(first, parse_policy(HYBRID)(pixels, seeded(4)))
    assert first.dtype == torch.uint8 and first.shape == pixels.shape


@pytest.mark.parametrize("number", range(50))
def test_grey_and_tiny_pictures_pass_too(number):
    grey = smooth_pixels(3)[:, :1, :9, :7]
    assert Policy(((number,),))(grey, seeded()).shape == grey.shape
    assert Policy(((number,),))(grey[:0], seeded()).shape == (0, 1, 9, 7)
