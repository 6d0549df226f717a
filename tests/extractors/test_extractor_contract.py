"""Every cheap row of the zoo keeps the contract of extractors with every head, with random weights."""

import importlib.util

import pytest
import torch

from src.extractors.architectures import build_extractor, build_headless, cut_of, input_size
from src.extractors.checkpoints import load_extractor, save_extractor
from src.extractors.embedders import set_class_means
from src.extractors.extractor import Extractor, fast_copy
from src.extractors.heads import ClassMeans
from src.extractors.zoo import ARCHITECTURES, TORCHVISION

CHEAP = ("resnet18", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121")
"""Networks of torchvision that run in a moment. All other rows are tried but for ``WIDE`` ones."""
WIDE = ("cifar_resnet20x4", "cifar_resnet20x10")
EMBEDDERS = ("c2f2+16", "squeezenet1_1+16")
OF_TIMM = ("test_resnet.r160_in1k", "test_vit.r160_in1k", "test_efficientnet.r160_in1k")
WITHOUT_ONE_HEAD = (
    "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m",
    "eva02_tiny_patch14_224.mim_in22k",
    "convnextv2_atto.fcmae",
    "crossvit_9_240.in1k",
)
OF_OPEN_CLIP = "open_clip:ViT-S-32-alt"
ROWS = (
    *(arch for arch in ARCHITECTURES if arch in CHEAP or arch not in {*TORCHVISION, *WIDE}),
    *EMBEDDERS,
    *(f"timm:{name}" for name in OF_TIMM + WITHOUT_ONE_HEAD),
    OF_OPEN_CLIP,
)
LABELS = ("a", "b", "c")
LARGEST = 64


def linear_of(arch: str) -> Extractor | None:
    """Build a classifier, or return None for a row that is published without classes."""
    if arch.removeprefix("timm:") in WITHOUT_ONE_HEAD or arch == OF_OPEN_CLIP:
        return None
    if arch in ARCHITECTURES and ARCHITECTURES[arch].head is None:
        return None
    extractor = build_extractor(arch, LABELS)
    if "+" in arch:  # its means are 0 until it is trained
        set_class_means(extractor, torch.randn(len(LABELS), extractor.n_features))
    return extractor


def images_of(arch: str) -> torch.Tensor:
    side = input_size(arch)
    if arch.partition("+")[0] in TORCHVISION:
        side = min(side, LARGEST)
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=ROWS)
def row(request, tmp_path) -> dict[str, Extractor]:
    """Return the extractors of a row by their heads, with equal weights."""
    arch = request.param
    library, colon, _ = arch.partition(":")
    if colon and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is an optional library")
    torch.manual_seed(0)
    linear, path = linear_of(arch), tmp_path / "network.pt"
    if linear is None:
        source = build_headless(arch, cut_of(arch)).network
        torch.save(getattr(source, "network", source).state_dict(), path)
    else:
        save_extractor(path, linear)
    none = load_extractor(arch, path, head="none")
    found = {} if linear is None else {"linear": load_extractor(arch, path)}
    with torch.no_grad():
        means = none(images_of(arch)).features
    return {
        **found,
        "none": none,
        "class_means": none.replaced(head=ClassMeans(means), labels=LABELS),
    }


def test_a_row_keeps_the_contract_with_every_head(row):
    images = images_of(row["none"].arch)
    _, n_features = row["class_means"].head.means.shape
    expected = row["none"](images).features
    for head, extractor in row.items():
        points = images.clone().requires_grad_()
        prediction = extractor(points)
        assert prediction.features.shape == (3, n_features)
        assert prediction.features.dtype == torch.float32 and prediction.features.isfinite().all()
        torch.testing.assert_close(prediction.features, expected, rtol=1e-4, atol=1e-5)
        assert extractor.n_classes == (0 if head == "none" else len(LABELS))
        if head == "none":
            assert prediction.logits is None
            read_out = prediction.features
        else:
            assert prediction.logits.shape == (3, len(LABELS))
            assert extractor.n_features == n_features
            # Not one logit: its gradient is 0 at the class mean.
            read_out = prediction.logits[:, 0] - prediction.logits[:, 1]
        (gradient,) = torch.autograd.grad(read_out.square().sum(), points)
        assert gradient.isfinite().all()
        assert (gradient != 0).flatten(1).float().mean() > 0.5
        assert not any(parameter.requires_grad for parameter in extractor.parameters())
        fast = fast_copy(extractor)(images)
        torch.testing.assert_close(fast.features, prediction.features, rtol=1e-3, atol=1e-4)
        assert (fast.logits is None) == (head == "none")
    # Each image is the mean of its class.
    assert row["class_means"](images).logits.argmax(dim=1).tolist() == [0, 1, 2]
