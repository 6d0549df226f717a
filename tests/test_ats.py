"""Policies of transformations: their parser, Pillow's operations, and the scores they are searched by."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.extractors.extractor import Extractor
from src.training.ats import KINDS, SUB_POLICIES, Policy, parse_policy
from src.training.ats_search import (
    N_POINTS,
    PolicyScore,
    accuracy_score,
    privacy_scores,
    random_policies,
    ranked,
    score_policies,
)

HYBRID = "3-1-7+43-18-18"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_pixels(n: int, side: int = 24) -> Tensor:
    """(n, 3, side, side) uint8 with edges and gradients, as photos have them."""
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
    """The operation by Pillow; what comes in from outside is black, or grey where it turned."""

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
    """To one grey level, for it rounds elsewhere; black mixes into the outermost pixel of a shear."""
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
    """The draws of the whole batch, each image alone through its chain."""
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


def classifier() -> Extractor:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.AdaptiveAvgPool2d(2))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))
    return Extractor(network, ["a", "b", "c"], "5").eval()


def gradients(extractor: Extractor, image: Tensor, label: Tensor) -> list[np.ndarray]:
    loss = functional.cross_entropy(extractor(image[None]).logits, label[None])
    return [g.numpy() for g in torch.autograd.grad(loss, list(extractor.parameters()))]


def area_by_hand(extractor: Extractor, image: Tensor, noise: Tensor, label: Tensor) -> float:
    """Upright: each point by its own backward pass, trapezoid by trapezoid."""
    wanted = gradients(extractor, image, label)
    curve = []
    for step in range(N_POINTS):
        t = step / (N_POINTS - 1)
        found = gradients(extractor, (1 - t) * noise + t * image, label)
        curve.append(
            np.mean(
                [
                    (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
                    for a, b in zip(found, wanted, strict=True)
                ]
            )
        )
    return sum((a + b) / 2 for a, b in pairwise(curve)) / (N_POINTS - 1)


def test_the_privacy_score_is_the_area_under_the_similarity():
    extractor, pixels, labels = classifier(), smooth_pixels(5, 12), torch.tensor([0, 1, 2, 0, 1])
    noise = torch.rand(5, 3, 12, 12, generator=seeded(7))
    expected = [
        area_by_hand(extractor, pixels[i] / 255, noise[i], labels[i]) for i in range(len(pixels))
    ]
    scores = privacy_scores(extractor, pixels, labels, seeded(7))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert all(p.requires_grad and p.grad is None for p in extractor.parameters())


def test_the_accuracy_score_is_that_of_the_correlation_of_jacobians():
    extractor, pixels = classifier(), smooth_pixels(9, 12)
    scores = []
    for batch in (pixels[:4], pixels[4:8]):
        rows = []
        for image in batch / 255:
            image = image.requires_grad_()
            rows.append(
                torch.autograd.grad(extractor(image[None]).logits.sum(), image)[0].flatten()
            )
        values = np.linalg.eigvals(np.corrcoef(torch.stack(rows).double().numpy())).real
        scores.append(-np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5)))
    score = accuracy_score(extractor, pixels, batch_size=4)
    assert score == pytest.approx(np.mean(scores), rel=1e-3)


def test_images_that_look_alike_promise_less_accuracy():
    extractor, pixels = classifier(), smooth_pixels(8, 12)
    alike = pixels[:1].expand(8, -1, -1, -1).clone()
    alike[:, 0, 0, 0] = torch.arange(8)
    assert accuracy_score(extractor, alike) < accuracy_score(extractor, pixels)


def test_the_ranking_by_hand():
    """Means .2 .6 .4 scaled to 0 1 .5, variances .0 .04 .01 to 0 1 .25; the fourth is too inaccurate."""
    policies = [Policy(((number,),)) for number in range(4)]
    privacy = ([0.2, 0.2], [0.4, 0.8], [0.3, 0.5], [0.0, 0.0])
    accuracies = (-60.0, -85.0, -70.0, -85.1)
    scores = [
        PolicyScore(policy, np.array(values), accuracy)
        for policy, values, accuracy in zip(policies, privacy, accuracies, strict=True)
    ]
    assert [s.policy for s in ranked(scores)] == [policies[0], policies[2], policies[1]]
    assert ranked(scores, least_accuracy=0) == []
    # The mean alone would put the first of these two ahead, the variance alone the second.
    wavering = PolicyScore(policies[0], np.array([0.0, 0.8]), 0)
    steady = PolicyScore(policies[1], np.array([0.41, 0.41]), 0)
    poor = PolicyScore(policies[2], np.array([1.0, 1.0]), 0)
    assert ranked([wavering, steady, poor])[0] is steady


def test_policies_are_drawn_and_scored_alike_for_a_seed():
    policies = random_policies(30, seeded(2))
    assert policies == random_policies(30, seeded(2)) and len(set(policies)) > 25
    lengths = {len(policy.chains[0]) for policy in random_policies(500, seeded(0))}
    assert lengths <= {1, 2, 3} and lengths >= {2, 3}
    extractor, pixels, labels = classifier(), smooth_pixels(4, 12), torch.tensor([0, 1, 2, 0])
    scores = [score_policies(policies[:2], extractor, extractor, pixels, labels) for _ in range(2)]
    for first, second in zip(*scores, strict=True):
        assert first.policy == second.policy and first.accuracy == second.accuracy
        np.testing.assert_array_equal(first.privacy, second.privacy)
