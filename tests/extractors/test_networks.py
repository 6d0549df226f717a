"""The small networks agree with their papers and their published weights."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.resnet import BasicBlock

from src.artifacts.errors import UserError
from src.attacks.pgd import pgd
from src.datasets.catalogue import open_catalogue
from src.extractors.architectures import build_extractor, build_network, input_size
from src.extractors.checkpoints import load_extractor
from src.extractors.extractor import Extractor, fast_copy
from src.extractors.inference import predict
from src.extractors.zoo import SMALL_NETWORKS
from tests.real_data import REAL_DATA


def test_c2f2_and_lenet_are_the_layers_of_the_paper():
    """A sequence of torch's own layers with equal parameters is the reference."""
    torch.manual_seed(0)
    grey = torch.rand(2, 1, 28, 28)
    c2f2, lenet = build_network("c2f2", 10), build_network("lenet", 10)
    row = nn.Sequential(
        c2f2.conv1, nn.ReLU(), nn.MaxPool2d(2), c2f2.conv2, nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), c2f2.fc1, nn.ReLU(), c2f2.fc2,
    )  # fmt: skip
    torch.testing.assert_close(c2f2(grey), row(grey))
    row = nn.Sequential(
        lenet.conv1, nn.MaxPool2d(2), lenet.conv2, nn.MaxPool2d(2),
        nn.Flatten(), lenet.fc1, nn.ReLU(), lenet.fc2,
    )  # fmt: skip
    torch.testing.assert_close(lenet(grey), row(grey))
    n_parameters = [sum(p.numel() for p in network.parameters()) for network in (c2f2, lenet)]
    assert n_parameters == [
        26 * 32 + (25 * 32 + 1) * 64 + 3137 * 1024 + 1025 * 10,
        26 * 20 + (25 * 20 + 1) * 50 + 801 * 500 + 501 * 10,
    ]


@pytest.mark.parametrize("arch", ["c2f2", "lenet"])
def test_grey_and_rgb_give_the_same(arch):
    torch.manual_seed(0)
    extractor = build_extractor(arch, "abc").eval()
    grey, colours = torch.rand(3, 1, 28, 28), torch.rand(3, 3, 28, 28)
    one, three = extractor(grey), extractor(grey.expand(-1, 3, -1, -1))
    assert torch.equal(one.logits, three.logits)
    assert torch.equal(one.features, three.features)
    averaged = extractor(colours.mean(dim=1, keepdim=True)).logits
    torch.testing.assert_close(extractor(colours).logits, averaged)


@pytest.mark.parametrize("arch", SMALL_NETWORKS)
def test_the_fast_copy_folds_and_differs_by_rounding(arch):
    torch.manual_seed(0)
    extractor = build_extractor(arch, "abcd").eval()
    for module in extractor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, input_size(arch), input_size(arch))
    fast = fast_copy(extractor)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    expected, got = extractor(images), fast(images)
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.features, expected.features, rtol=1e-4, atol=1e-5)


N_PARAMETERS = {
    "convnet8": 74_644,
    "convnet64": 3_112_420,
    "lenet_zhu": 85_036,
    "cifar_resnet20x4": 4_350_884,
    "cifar_resnet20x10": 27_066_500,
    "cifar_resnet18": 11_220_132,
}


@pytest.mark.parametrize("arch", N_PARAMETERS)
def test_networks_to_invert_have_the_published_numbers_of_parameters(arch):
    """The networks have 100 classes."""
    with torch.device("meta"):
        network = build_network(arch, 100)
    assert sum(parameter.numel() for parameter in network.parameters()) == N_PARAMETERS[arch]


def convolution_by_hand(network: nn.Sequential, place: int, maps: Tensor) -> Tensor:
    """Apply convolution, batch norm with initial statistics, and rectifier, from ``place`` on."""
    convolution, norm = network[place], network[place + 1]
    maps = functional.conv2d(maps, convolution.weight, convolution.bias, padding=1)
    return (maps / (1 + norm.eps) ** 0.5).clamp(min=0)


def test_a_convnet_is_eight_normalised_convolutions_and_two_poolings():
    network, maps = build_network("convnet8", 10).eval(), torch.rand(2, 3, 32, 32)
    expected = maps
    for place in range(0, 18, 3):
        expected = convolution_by_hand(network, place, expected)
    assert expected.shape == (2, 32, 32, 32)
    expected = functional.max_pool2d(expected, 3)
    for place in (19, 22):
        expected = convolution_by_hand(network, place, expected)
    pooled = functional.max_pool2d(expected, 3).flatten(1)
    torch.testing.assert_close(network(maps), network[-1](pooled))
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == [8, 16, 16] + 5 * [32]


def test_the_lenet_of_deep_leakage_is_smooth_and_drawn_from_half_to_half():
    torch.manual_seed(0)
    network = build_network("lenet_zhu", 10)
    strides = [m.stride for m in network if isinstance(m, nn.Conv2d)]
    assert strides == [(2, 2), (2, 2), (1, 1)]
    assert not any(isinstance(m, nn.ReLU | nn.BatchNorm2d) for m in network)
    values = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert -0.5 <= values.min() < -0.49 and 0.49 < values.max() <= 0.5
    assert values.std() == pytest.approx(1 / 12**0.5, abs=0.01)


def test_wide_residual_networks_are_of_torchvisions_blocks():
    """The reference has equal parameters in torchvision's blocks, whose shortcuts are projections."""
    torch.manual_seed(0)
    network = build_network("cifar_resnet20x4", 10).eval()
    maps = functional.relu(network.bn1(network.conv1(torch.rand(2, 3, 32, 32))))
    images = maps
    for stage in range(3):
        ours = getattr(network, f"layer{stage + 1}")
        for block in ours:
            planes = 64 * 2**stage
            theirs = BasicBlock(images.shape[1], planes, block.stride, block.downsample).eval()
            theirs.load_state_dict(block.state_dict())
            images = theirs(images)
        maps = ours(maps)
        torch.testing.assert_close(maps, images)
    assert maps.shape == (2, 256, 8, 8)


def test_the_deep_residual_network_is_torchvisions_but_for_its_stem():
    torch.manual_seed(0)
    network, reference = build_network("cifar_resnet18", 10), models.resnet18(num_classes=10)
    reference.conv1, reference.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    state = {name.replace("linear.", "fc."): v for name, v in network.state_dict().items()}
    reference.load_state_dict(state)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images))


def test_an_image_of_another_size_is_refused_with_the_right_one(draw_images, tmp_path):
    catalogue = open_catalogue(draw_images(tmp_path / "images", 2))
    with pytest.raises(UserError, match=r"c2f2 cannot read images of 48x48 .*--resize 28"):
        predict(build_extractor("c2f2", "ab").eval(), catalogue, progress=None)


def cifar(name: str, first: int) -> tuple[Tensor, Tensor]:
    with np.load(REAL_DATA / f"{name}.npz") as arrays:
        pixels, labels = arrays["x"][:first], arrays["y"][:first]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, torch.from_numpy(labels).long()


def accuracy(extractor: Extractor, images: Tensor, labels: Tensor) -> float:
    return float((extractor(images).logits.argmax(dim=1) == labels).float().mean())


def under_attack(extractor: Extractor, images: Tensor, labels: Tensor) -> float:
    """Return the accuracy under untargeted PGD-20 at 2/255 with steps of 0.5/255."""
    fast = fast_copy(extractor)
    attacked = [
        pgd(
            part,
            lambda x, y=y: -functional.cross_entropy(fast(x).logits, y),
            2 / 255,
            0.5 / 255,
            20,
        )
        for part, y in zip(images.split(50), labels.split(50), strict=True)
    ]
    return accuracy(extractor, torch.cat(attacked), labels)


@pytest.mark.skipif(
    not (REAL_DATA / "weights").is_dir(), reason="real weights and images are not here"
)
def test_the_standard_cifar_network_has_its_accuracy_and_no_robustness():
    extractor = load_extractor("cifar_resnet20", REAL_DATA / "weights" / "cifar_resnet20_std.pth")
    images, labels = cifar("cifar10_lossless_200", 200)
    assert accuracy(extractor, images, labels) == pytest.approx(0.925, abs=0.006)  # one image
    assert under_attack(extractor, images[:50], labels[:50]) <= 0.02


@pytest.mark.skipif(
    not (REAL_DATA / "weights").is_dir(), reason="real weights and images are not here"
)
def test_the_robust_cifar_network_has_its_published_accuracies():
    """Published on 10,000 images: 69.25 % clean, 54.82 % under PGD. The test has the first 1,000."""
    extractor = load_extractor("cifar_resnet2b", REAL_DATA / "weights" / "cifar_resnet2b_adv.pth")
    images, labels = cifar("cifar10_jpeg_1000", 1000)
    assert accuracy(extractor, images, labels) == pytest.approx(0.6925, abs=0.02)
    assert under_attack(extractor, images, labels) == pytest.approx(0.5482, abs=0.04)


@pytest.mark.skipif(
    not (REAL_DATA / "weights").is_dir(), reason="real weights and images are not here"
)
def test_the_provably_robust_network_has_its_accuracy():
    """Published on 10,000 images: 78.27 %. The test has the first 1,000."""
    extractor = load_extractor("wong_small", REAL_DATA / "weights" / "fashion_mnist_robust.pth")
    with np.load(REAL_DATA / "fashion_mnist.npz") as arrays:
        pixels, labels = arrays["x_test"][:1000], arrays["y_test"][:1000]
    images = torch.from_numpy(pixels)[:, None] / 255
    assert accuracy(extractor, images, torch.from_numpy(labels).long()) == pytest.approx(
        0.7827, abs=0.03
    )


def test_networks_of_this_project_load_no_torchvision():
    code = (
        "import sys, src.attacks.campaign, src.extractors.checkpoints; "
        "from src.extractors.architectures import build_extractor; build_extractor('c2f2', 'ab'); "
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
