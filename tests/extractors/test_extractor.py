"""One forward equals two direct computations with torchvision."""

import pytest
import torch
from torch import nn

from src.artifacts.errors import UserError
from src.extractors.architectures import build_network, head_of, normalisation
from src.extractors.extractor import Extractor, fast_copy
from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD
from tests.real_data import REAL_DATA

LABELS = tuple("abcdef")


def extractor_of(arch: str) -> Extractor:
    torch.manual_seed(1)
    network = build_network(arch, len(LABELS))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return Extractor(network, LABELS, head_of(arch), arch=arch).eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        3, 1, 1
    )


def test_resnet_gives_logits_and_pooled_features_of_two_separate_forwards(images):
    extractor = extractor_of("resnet50")
    prediction = extractor(images)
    network = extractor.network
    body = nn.Sequential(*list(network.children())[:-1])
    torch.testing.assert_close(prediction.logits, network(normalised(images)), rtol=0, atol=0)
    torch.testing.assert_close(prediction.features, body(normalised(images)).flatten(1))
    assert prediction.features.shape == (2, extractor.n_features) == (2, 2048)


def test_squeezenet_features_are_averaged_over_positions(images):
    extractor = extractor_of("squeezenet1_1")
    features = extractor.network.features(normalised(images)).mean(dim=(2, 3))
    torch.testing.assert_close(extractor(images).features, features)
    assert extractor.n_features == 512


@pytest.mark.parametrize(
    ("arch", "n_features"),
    [("mobilenet_v2", 1280), ("densenet121", 1024), ("googlenet", 1024), ("efficientnet_b0", 1280)],
)
def test_the_head_of_any_classifier_is_found(arch, n_features, images):
    extractor = extractor_of(arch)
    prediction = extractor(images)
    assert prediction.features.shape == (2, n_features) == (2, extractor.n_features)
    head = extractor.network.get_submodule(extractor.head_name)
    torch.testing.assert_close(prediction.logits, head(prediction.features))


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "mobilenet_v2", "shufflenet_v2_x0_5"])
def test_the_fast_copy_differs_by_rounding_and_leaves_the_original_alone(arch, images):
    extractor = extractor_of(arch)
    before = {key: value.clone() for key, value in extractor.state_dict().items()}
    fast = fast_copy(extractor)
    expected, got = extractor(images), fast(images)
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.features, expected.features, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in extractor.state_dict().items())
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_batch_norms_after_convolutions_are_folded():
    fast = fast_copy(extractor_of("resnet18"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


def test_lower_precision_still_returns_float32(images):
    extractor = extractor_of("resnet18")
    prediction, exact = fast_copy(extractor, "bf16")(images), extractor(images)
    assert prediction.logits.dtype == prediction.features.dtype == torch.float32
    assert not torch.equal(prediction.features, exact.features)
    error = (prediction.features - exact.features).norm() / exact.features.norm()
    assert error < 0.02


def test_gradients_reach_white_and_black_pixels():
    extractor = extractor_of("resnet18")
    image = torch.cat([torch.zeros(1, 3, 32, 16), torch.ones(1, 3, 32, 16)], dim=3).requires_grad_()
    extractor(image).logits[0, 0].backward()
    assert (image.grad != 0).float().mean() > 0.99


def test_inceptions_normalise_as_their_imagenet_weights_expect(images):
    """torchvision rearranges ImageNet's normalisation inside the network (transform_input)."""
    torch.manual_seed(0)
    extractor = Extractor(
        build_network("googlenet", 6),
        LABELS,
        "fc",
        mean=normalisation("googlenet")[0],
        std=normalisation("googlenet")[1],
    ).eval()
    expected = extractor(images).logits
    extractor.network.transform_input = True
    torch.testing.assert_close(
        extractor.network(normalised(images)), expected, rtol=1e-4, atol=1e-5
    )


def test_a_network_without_a_head_for_the_labels_is_an_error():
    with pytest.raises(ValueError, match="the head has 6 outputs for 7 labels"):
        Extractor(build_network("resnet18", 6), "abcdefg", "fc")


WEIGHTS = REAL_DATA / "weights"
PHOTOS = WEIGHTS.parent / "imagenet_100"


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="real weights and photos are not here")
@pytest.mark.parametrize(("arch", "right"), [("squeezenet1_1", 63), ("mobilenet_v2", 67)])
def test_real_weights_reach_their_published_accuracy(arch, right):
    import numpy as np
    from PIL import Image

    from src.extractors.checkpoints import load_extractor

    files = sorted(PHOTOS.glob("*.jp*g"))
    size, squash = (224, 224), Image.Resampling.BILINEAR
    pixels = np.stack(
        [np.asarray(Image.open(f).convert("RGB").resize(size, squash)) for f in files]
    )
    extractor = fast_copy(load_extractor(arch, WEIGHTS / f"{arch}.pth"))
    numbers = torch.cat(
        [
            extractor(batch.permute(0, 3, 1, 2) / 255).logits.argmax(dim=1)
            for batch in torch.from_numpy(pixels).split(10)
        ]
    )
    assert (numbers == torch.tensor([int(f.name[:3]) for f in files])).sum() == right


def tf32_is_on() -> bool:
    switches = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert switches[0] == switches[1]
    return switches[0]


class Watchful(nn.Module):
    """Linear layer that notes whether TF32 is on in its forward and in its backward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 6)
        self.seen: list[tuple[str, bool]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(("forward", tf32_is_on()))
        output = self.fc(images.flatten(1))
        if output.requires_grad:
            output.register_hook(lambda _: self.seen.append(("backward", tf32_is_on())))
        return output


@pytest.mark.parametrize(("precision", "on"), [("tf32", True), ("fp32", False)])
@pytest.mark.parametrize("of", ["pixels", "weights", "nothing"])
def test_tf32_is_on_in_the_passes_of_its_networks_alone(precision, on, of):
    network = Watchful().requires_grad_(of == "weights")
    extractor = Extractor(network, LABELS, "fc")
    extractor.precision = precision
    images = torch.rand(2, 3, 2, 2, requires_grad=of == "pixels")
    prediction = extractor(images)
    assert not tf32_is_on()
    expected = [("forward", on)]
    if of != "nothing":
        (prediction.logits.sum() + prediction.features.sum()).backward()
        expected.append(("backward", on))
    assert network.seen == expected
    exact = Extractor(network, LABELS, "fc")
    exact(images)
    assert not tf32_is_on()
    assert network.seen[len(expected)] == ("forward", False)


def test_tf32_changes_no_value_and_no_gradient_on_the_way(images):
    extractor = extractor_of("resnet18")
    found = []
    for precision in ("fp32", "tf32"):
        extractor.precision = precision
        points = images.clone().requires_grad_()
        prediction = extractor(points)
        (gradient,) = torch.autograd.grad(prediction.logits.sum(), points)
        found.append((prediction.logits, prediction.features, gradient))
    for exact, switched in zip(*found, strict=True):
        assert torch.equal(exact, switched)  # on a CPU, which has no TF32


def test_tf32_without_a_gpu_is_one_line():
    with pytest.raises(UserError, match="tf32 needs a CUDA device"):
        fast_copy(extractor_of("resnet18"), "tf32")


@pytest.mark.parametrize(
    ("device", "precision", "last"),
    [
        ("cpu", "fp32", True),
        ("meta", "fp32", False),
        ("meta", "tf32", True),
        ("meta", "bf16", True),
    ],
)
def test_channels_are_last_where_convolutions_are_fast_so(device, precision, last):
    fast = fast_copy(extractor_of("resnet18").to(device), precision)
    weight = fast.network.conv1.weight
    layout = torch.channels_last if last else torch.contiguous_format
    assert weight.is_contiguous(memory_format=layout)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.network.modules())
