"""Distances of images by networks against torchmetrics, SciPy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from src.artifacts.errors import UserError
from src.extractors.architectures import build_network
from src.extractors.perceptual import (
    FEATURE_METRICS,
    TRUNKS,
    Lpips,
    _learnt_weights,
    distance,
    frechet_distance,
    load_lpips,
    lpips,
    lpips_metric,
    semsim_metric,
)
from src.extractors.semsim import build_semsim
from src.metrics.attack import feature_loss
from tests.real_data import REAL_DATA

SQUEEZENET = REAL_DATA / "weights" / "squeezenet1_1.pth"


def images(n: int = 3, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def any_trunk() -> Lpips:
    torch.manual_seed(0)
    slices = [nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Conv2d(8, 4, 3, stride=2)]
    return Lpips(slices)


def test_any_network_can_be_the_trunk_of_lpips(any_trunk):
    a, b = images(seed=0), images(seed=1)
    values = lpips(any_trunk, a, b)
    assert values.shape == (3,) and (values > 0).all()
    torch.testing.assert_close(values, lpips(any_trunk, b, a))
    assert (lpips(any_trunk, a, a) == 0).all()
    torch.testing.assert_close(values[1:2], lpips(any_trunk, a[1:2], b[1:2]))
    smaller = Lpips(list(any_trunk.slices), size=16)
    assert smaller(a)[0].shape == (3, 8, 14, 14)


def test_lpips_is_differentiable_and_leaves_its_network_alone(any_trunk):
    a = images(1).requires_grad_()
    lpips(any_trunk, a, images(1, seed=1)).sum().backward()
    assert a.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in any_trunk.parameters())


def test_lpips_is_that_of_torchmetrics(tmp_path):
    """The trunk has random weights, and the channels have their learnt weights."""
    reference = pytest.importorskip("torchmetrics.functional.image.lpips")
    torch.manual_seed(0)
    network = build_network("squeezenet1_1", 1000)
    torch.save(network.state_dict(), tmp_path / "trunk.pth")
    ours = load_lpips("squeeze", tmp_path / "trunk.pth")
    theirs = reference._LPIPS(net="squeeze", pnet_rand=True)
    for part, same in zip(theirs.net.slices, ours.slices, strict=True):
        part.load_state_dict(dict(zip(part.state_dict(), same.state_dict().values(), strict=True)))
    a, b = images(seed=0), (images(seed=0) + 0.1 * images(seed=1)).clamp(0, 1)
    expected = theirs(a, b, normalize=True).flatten()
    torch.testing.assert_close(lpips(ours, a, b), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_the_other_trunks_are_cut_where_torchmetrics_cuts_them(trunk):
    reference = pytest.importorskip("torchmetrics.functional.image.lpips")
    with torch.device("meta"):
        theirs = {"alex": reference.Alexnet, "vgg": reference.Vgg16}[trunk](pretrained=False)
    ends = [max(map(int, getattr(theirs, f"slice{k + 1}")._modules)) + 1 for k in range(5)]
    assert TRUNKS[trunk].ends == tuple(ends)
    assert [len(weights) for weights in _learnt_weights(trunk, "cpu")] == [
        [layer.out_channels for layer in part if isinstance(layer, nn.Conv2d)][-1]
        for part in (getattr(theirs, f"slice{k + 1}") for k in range(5))
    ]


def test_real_lpips_grows_with_the_disturbance():
    if not SQUEEZENET.is_file():
        pytest.skip("no weights of SqueezeNet here")
    metric = lpips_metric(load_lpips("squeeze", SQUEEZENET))
    smooth = np.full((3, 64, 64, 3), 0.5) + np.linspace(-0.3, 0.3, 64)[:, None]
    grain = np.random.default_rng(0).normal(size=smooth.shape)
    strength = np.array([0, 0.02, 0.2]).reshape(3, 1, 1, 1)
    none, little, much = metric(smooth, (smooth + strength * grain).clip(0, 1))
    assert none == 0 and 0 < little < much < 2


def test_missing_weights_are_named_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no weights of LPIPS at .*absent\.pth: --lpips_weights"):
        load_lpips("squeeze", tmp_path / "absent.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=rf"put it at {tmp_path}.*squeezenet.*--lpips_weights"):
        load_lpips("squeeze")


def test_images_a_network_cannot_read_are_an_error_of_the_user(any_trunk):
    with pytest.raises(UserError, match="lpips cannot read images of 2x2 pixels"):
        lpips_metric(any_trunk).describe(np.zeros((1, 2, 2, 3)))


@pytest.fixture(scope="module")
def features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 7, generator=generator).double().unbind()


@pytest.mark.parametrize("p", [1, 2, float("inf")])
def test_a_distance_of_features_is_the_norm_of_their_difference(features, p):
    a, b = features
    expected = [np.linalg.norm((x - y).numpy(), p) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(distance(a, b, p=p), expected)


def test_normalised_distances_do_not_depend_on_length_and_end_at_two(features):
    a, b = features
    near = distance(a, b, normalised=True)
    torch.testing.assert_close(near, distance(3 * a, b / 5, normalised=True))
    assert (near <= 2).all()
    torch.testing.assert_close(distance(a, -a, normalised=True), torch.full((5,), 2.0).double())


def test_the_perceptual_loss_is_the_mean_squared_error_of_features(features):
    a, b = features
    expected, root = feature_loss(a.numpy(), b.numpy())
    np.testing.assert_allclose(distance(a, b, squared=True), expected)
    np.testing.assert_allclose(distance(a, b), root * a.shape[1] ** 0.5)


def test_metrics_of_features_are_those_of_loops(features):
    a, b = (of.float().numpy() for of in features)
    values = {name: metric(a, b) for name, metric in FEATURE_METRICS.items()}
    for row, (x, y) in enumerate(zip(a.astype(float), b.astype(float), strict=True)):
        expected = {
            "feature_l2": np.sqrt(((x - y) ** 2).sum()),
            "feature_mse": ((x - y) ** 2).mean(),
            "feature_cosine": 1 - x @ y / np.sqrt((x @ x) * (y @ y)),
            "s_fid": (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2,
        }
        for name, value in expected.items():
            assert values[name][row] == pytest.approx(value)


@pytest.mark.parametrize("n", [6, 40])
def test_the_frechet_distance_is_that_of_matrix_roots(n):
    """This includes fewer images than features, for which covariances have no inverse."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, 9)), rng.normal(0.3, 2, (n + 3, 9))
    first, second = (np.cov(of, rowvar=False) for of in (a, b))
    root = sqrtm(sqrtm(first) @ second @ sqrtm(first))
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(first + second - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(9 * 4)
    assert np.isnan(frechet_distance(a[:1], b))


def test_semsim_is_scored_from_one_forward_of_each_image():
    torch.manual_seed(0)
    model = build_semsim("cifar_resnet8")
    a, b = images(side=40, seed=0), images(side=40, seed=1)
    arrays = [batch.permute(0, 2, 3, 1).numpy() for batch in (a, b)]
    for normalised in (True, False):
        values = semsim_metric(model, normalised=normalised)(*arrays)
        np.testing.assert_allclose(values, model.score(a, b, normalised=normalised), rtol=1e-4)
