"""Bounds of scores: a case by hand, and no score above its bound on random networks or under attack."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.defences.bounds import Bounded
from src.defences.registry import Blur
from src.extractors.architectures import build_extractor
from src.extractors.checkpoints import load_extractor
from src.extractors.extractor import Extractor
from src.extractors.heads import NoHead
from tests.real_data import REAL_DATA

SIDE, N_FEATURES = 6, 5


class Residual(nn.Module):
    """Two convolutions with batch norm beside a shortcut with a stride, as ``CifarResNet`` has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        residual = functional.relu(self.norm(self.first(maps)))
        shortcut = functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        return functional.relu(self.second(residual) + shortcut)


def extractor_of(*layers: nn.Module, **normalisation: tuple[float, ...]) -> Extractor:
    network = nn.Sequential(*layers)
    return Extractor(network, (), NoHead(), **normalisation).eval().requires_grad_(False)


def random_extractor(seed: int) -> Extractor:
    torch.manual_seed(seed)
    pooling = nn.AdaptiveAvgPool2d(1) if seed % 2 else nn.AvgPool2d(3)
    maximum = nn.MaxPool2d(3, 1, 1) if seed % 3 else nn.Identity()
    extractor = extractor_of(
        *(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            maximum,
            Residual(),
            pooling,
        ),
        *(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, N_FEATURES), nn.ReLU()),
    )
    for module in extractor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.2, 2)
            module.weight.normal_()  # of both signs
            module.bias.normal_(std=0.3)
    return extractor


def by_hand() -> Extractor:
    """Features relu(2x - 1) and relu(1 - x) of a single red pixel x."""
    convolution = nn.Conv2d(3, 2, 1)
    convolution.weight.data.zero_()[:, 0, 0, 0] = torch.tensor([2.0, -1.0])
    convolution.bias.data = torch.tensor([-1.0, 1.0])
    return extractor_of(convolution, nn.ReLU(), nn.Flatten(), mean=(0, 0, 0), std=(1, 1, 1))


def test_a_case_by_hand():
    slopes = torch.tensor([[1.0, 0.5], [-1.0, 0.5]])
    pixel = torch.full((3, 1, 1), 0.5)
    for method, bounds in (("crown", [0.4, 0.3]), ("ibp", [0.5, 0.3])):
        found = Bounded(by_hand()).upper_bounds(pixel, 0.1, slopes, method)
        assert found.tolist() == pytest.approx(bounds, abs=1e-6)


def test_a_maximum_by_hand():
    """Pixels in [.4, .6], [.1, .3] and [.5, .7]: the first is always above the second."""
    red = nn.Conv2d(3, 1, 1, bias=False)
    red.weight.data.zero_()[0, 0] = 1
    layers = (red, nn.MaxPool2d((1, 2), 1), nn.Flatten())
    extractor = extractor_of(*layers, mean=(0, 0, 0), std=(1, 1, 1))
    image = torch.tensor([0.5, 0.2, 0.6]).expand(3, 1, 3)
    slopes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, -1.0]])
    bounds = Bounded(extractor).upper_bounds(image, 0.1, slopes)
    assert bounds.tolist() == pytest.approx([0.6, -0.4, 0.7, -0.5, 0.1], abs=1e-6)
    image = torch.tensor([0.5, 0.4, 0.6]).expand(3, 1, 3)  # [.4, .6], [.3, .5], [.5, .7]
    bounds = Bounded(extractor).upper_bounds(image, 0.1, slopes)
    assert bounds.tolist() == pytest.approx([0.6, -0.4, 0.7, -0.5, 0.1], abs=1e-6)


@pytest.mark.parametrize(
    "pooling",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d((2, 3), (2, 1), (1, 0)),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    ],
    ids=str,
)
def test_no_maximum_of_windows_exceeds_its_bound(pooling):
    torch.manual_seed(0)
    extractor = extractor_of(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), pooling, nn.Flatten())
    for eps in (0, 0.02, 0.2):
        image = torch.rand(3, SIDE, SIDE)
        n_features = extractor(image[None]).features.shape[1]
        slopes = torch.randn(5, n_features)
        bounds = Bounded(extractor).upper_bounds(image, eps, slopes)
        assert (highest_scores(extractor, image, eps, slopes) <= bounds + 1e-4).all()
        if eps == 0:
            scores = extractor(image[None]).features[0] @ slopes.T
            torch.testing.assert_close(bounds.float(), scores, rtol=0, atol=1e-4)


def test_the_ball_ends_where_pixels_do():
    white = torch.ones(3, 1, 1)
    bounds = Bounded(by_hand()).upper_bounds(white, 0.1, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert bounds.tolist() == pytest.approx([1.0, 0.1], abs=1e-6)


def sampled_scores(extractor: Extractor, image: Tensor, eps: float, slopes: Tensor) -> Tensor:
    """Return the highest scores (rows,) at random corners of the ball."""
    corners = torch.randint(0, 2, (20, *image.shape)) * 2.0 - 1
    scores = extractor((image + eps * corners).clamp(0, 1)).features @ slopes.T
    return scores.max(dim=0).values


def highest_scores(extractor: Extractor, image: Tensor, eps: float, slopes: Tensor) -> Tensor:
    """Return the highest scores (rows,) at random corners and after an ascent of each row's score."""
    found = sampled_scores(extractor, image, eps, slopes)
    points = image.repeat(len(slopes), 1, 1, 1)
    low, high = (image - eps).clamp(0, 1), (image + eps).clamp(0, 1)
    for _ in range(5):
        points.requires_grad_()
        scores = (extractor(points).features * slopes).sum(dim=1)
        (gradient,) = torch.autograd.grad(scores.sum(), points)
        points = (points.detach() + eps / 2 * gradient.sign()).clamp(low, high)
    scores = (extractor(points).features * slopes).sum(dim=1)
    return torch.maximum(found, scores)


def test_no_score_of_a_thousand_cases_exceeds_its_bound():
    """One case in ten is attacked, and CROWN is compared with IBP there."""
    is_tighter = []
    for case in range(1000):
        if case % 100 == 0:
            extractor = random_extractor(case // 100)
            bounded = Bounded(extractor)
        image, slopes = torch.rand(3, SIDE, SIDE), torch.randn(3, N_FEATURES)
        eps = float(10 ** (-3 * torch.rand(())))
        bounds = bounded.upper_bounds(image, eps, slopes)
        assert (sampled_scores(extractor, image, eps, slopes) <= bounds + 1e-4).all()
        if case % 10 == 0:
            highest = highest_scores(extractor, image, eps, slopes)
            by_interval = bounded.upper_bounds(image, eps, slopes, "ibp")
            assert (highest <= bounds + 1e-4).all() and (bounds <= by_interval).all()
            is_tighter.append(bool((bounds - highest).sum() < (by_interval - highest).sum() / 2))
    assert np.mean(is_tighter) > 0.5, "CROWN halves the slack of IBP in most cases"


def test_without_a_budget_the_bound_is_the_score():
    extractor = random_extractor(1)
    image, slopes = torch.rand(3, SIDE, SIDE), torch.randn(20, N_FEATURES)
    scores = extractor(image[None]).features[0] @ slopes.T
    for method in ("crown", "ibp"):
        bounds = Bounded(extractor).upper_bounds(image, 0, slopes, method)
        torch.testing.assert_close(bounds.float(), scores.float(), rtol=0, atol=1e-5)


def test_a_picture_has_the_bounds_of_its_pixels():
    """Pictures are (H, W, 3), whose maps lie in another order in memory."""
    bounded = Bounded(random_extractor(1))
    rng = np.random.default_rng(0)
    picture, slopes = (
        rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
        rng.normal(size=(4, N_FEATURES)),
    )
    image = torch.tensor(picture.transpose(2, 0, 1).copy()) / 255
    of_pixels = bounded.upper_bounds(image, 8 / 255, torch.from_numpy(slopes)).numpy()
    np.testing.assert_allclose(bounded.highest(picture, 8, slopes), of_pixels, rtol=1e-5)


def test_bounds_grow_with_the_budget():
    bounded = Bounded(random_extractor(2))
    image, slopes = torch.rand(3, SIDE, SIDE), torch.randn(20, N_FEATURES)
    for method in ("crown", "ibp"):
        bounds = [bounded.upper_bounds(image, eps, slopes, method) for eps in (0, 0.01, 0.03, 0.1)]
        assert all((smaller <= larger).all() for smaller, larger in pairwise(bounds))


def test_features_of_the_table_s_networks():
    """Features in front of a linear head, behind residual blocks, and maps that are averaged."""
    torch.manual_seed(0)
    maps = extractor_of(nn.Conv2d(3, N_FEATURES, 3), nn.ReLU())
    for extractor, side, method in (
        (build_extractor("wong_small", "ab"), 28, "crown"),
        (build_extractor("cifar_resnet8", "ab"), 8, "crown"),
        (build_extractor("c2f2", "ab"), 28, "ibp"),
        (build_extractor("cifar_resnet20", "ab"), 32, "ibp"),
        (maps, SIDE, "crown"),
    ):
        extractor.eval().requires_grad_(False)
        image, eps = torch.rand(3, side, side), 0.5 / 255
        n_features = extractor(image[None]).features.shape[1]
        slopes = torch.randn(2, n_features)
        bounds = Bounded(extractor).upper_bounds(image, eps, slopes, method)
        highest = highest_scores(extractor, image, eps, slopes)
        assert (highest <= bounds + 1e-4 * highest.abs().max()).all(), extractor.arch


@pytest.mark.parametrize(
    ("extractor", "complaint"),
    [
        (
            extractor_of(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, dilation=2)),
            r"layer _1 \(MaxPool2d\)",
        ),
        (extractor_of(nn.Flatten(), nn.Linear(9, 2), nn.GELU()), r"layer _2 \(GELU\)"),
        (build_extractor("mobilenet_v2", "ab"), r"layer features_0_2 \(ReLU6\)"),
        (Blur().in_front_of(by_hand()), "blur:sigma=1 in front of the network"),
    ],
)
def test_a_part_without_bounds_is_named(extractor, complaint):
    with pytest.raises(UserError, match=complaint):
        Bounded(extractor)


@pytest.mark.skipif(
    not (REAL_DATA / "weights").is_dir(), reason="real weights and images are not here"
)
def test_the_provably_robust_network_is_proven():
    """CROWN's slack above an attack is small within 8/255: the network was trained for such proofs."""
    extractor = load_extractor("wong_small", REAL_DATA / "weights" / "fashion_mnist_robust.pth")
    with np.load(REAL_DATA / "fashion_mnist_catalogue" / "images.npz") as arrays:
        pixels = torch.from_numpy(arrays["x"][:3, None]).float() / 255
    slopes = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 100))).float()
    for image in pixels.expand(-1, 3, -1, -1):
        clean = extractor(image[None]).features[0] @ slopes.T
        highest = highest_scores(extractor, image, 8 / 255, slopes)
        bounds = Bounded(extractor).upper_bounds(image, 8 / 255, slopes)
        assert (highest <= bounds + 1e-4 * clean.abs().max()).all()
        assert (bounds - clean).mean() < 2 * (highest - clean).mean()
