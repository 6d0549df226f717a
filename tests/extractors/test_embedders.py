"""Embedders: unit-length features, nearest class mean, and stages 1 and 3 on their checkpoints."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import WeightsEnum

from src.artifacts.classes import read_attacked_classes, read_classes
from src.artifacts.errors import UserError
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.datasets.catalogue import open_catalogue
from src.extractors import architectures
from src.extractors.architectures import (
    build_extractor,
    check_arch,
    input_size,
    last_layers,
    normalisation,
    split_arch,
)
from src.extractors.checkpoints import load_extractor, load_pretrained, save_extractor
from src.extractors.embedders import SHARPNESS, set_class_means
from src.extractors.extractor import IMAGENET_MEAN, IMAGENET_STD, fast_copy
from src.extractors.heads import class_means
from tests.scripts import run_script

LABELS = ("shirt", "shoe", "hat", "bag")
N_IMAGES = 12


def embedder_of(arch: str):
    """Build an untrained embedder with batch norm statistics and random class means near the sphere."""
    torch.manual_seed(3)
    extractor = build_extractor(arch, LABELS)
    for module in extractor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    set_class_means(extractor, torch.randn(len(LABELS), extractor.n_features) / 8)
    return extractor.eval().requires_grad_(False)


def nearest(features: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    return torch.cdist(features.double(), means.double()).argmin(dim=1)


@pytest.mark.parametrize(
    ("arch", "dim"),
    [
        ("resnet18+512", 512),
        ("c2f2+512", 512),
        ("lenet+128", 128),
        ("squeezenet1_1+32", 32),
        ("mobilenet_v2+16", 16),
        ("googlenet+8", 8),
        ("cifar_resnet20+4", 4),  # as many dimensions as classes
    ],
)
def test_features_have_length_one_and_logits_order_by_distance(arch, dim):
    extractor = embedder_of(arch)
    side = input_size(arch) if arch[0] in "cl" else 64
    images = torch.rand(3, 3, side, side)
    prediction = extractor(images)
    assert prediction.features.shape == (3, dim) == (3, extractor.n_features)
    torch.testing.assert_close(prediction.features.norm(dim=1), torch.ones(3))
    assert (prediction.features < 0).any()
    means = extractor.network.head.weight / (2 * SHARPNESS)
    distances = torch.cdist(prediction.features, means).square()
    torch.testing.assert_close(prediction.logits / SHARPNESS, 1 - distances, rtol=1e-4, atol=1e-5)

    fast = fast_copy(extractor)
    assert fast.network.get_submodule(fast.head_name).weight.shape == (len(LABELS), dim)
    got = fast(images)
    torch.testing.assert_close(got.logits, prediction.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.features, prediction.features, rtol=1e-4, atol=1e-5)
    low = fast_copy(extractor, "bf16")(images).features
    torch.testing.assert_close(low.norm(dim=1), torch.ones(3))


def test_batch_norms_of_an_embedder_are_folded():
    fast = fast_copy(embedder_of("resnet18+512"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


def test_an_embedding_with_a_last_layer_of_zeros_has_a_direction():
    features = build_extractor("vit_b_16+8", LABELS).eval()(torch.rand(1, 3, 224, 224)).features
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1))


def test_training_has_no_dropout_in_an_embedder():
    extractor = build_extractor("mobilenet_v2+16", LABELS)
    probabilities = [m.p for m in extractor.modules() if isinstance(m, nn.Dropout)]
    assert probabilities and set(probabilities) == {0.0}
    assert build_extractor("mobilenet_v2", LABELS).network.classifier[0].p == 0.2


def test_class_means_are_means():
    embeddings = torch.randn(20, 5)
    labels = torch.arange(20) % 3
    expected = torch.stack([embeddings[labels == k].mean(dim=0) for k in range(3)])
    torch.testing.assert_close(class_means(embeddings, labels, 3), expected)
    with pytest.raises(ValueError, match="class 3 has no embedding"):
        class_means(embeddings, labels, 4)


def test_class_means_must_fit():
    extractor = build_extractor("c2f2+8", LABELS)
    with pytest.raises(ValueError, match=r"\(3, 8\), not \(4, 8\)"):
        set_class_means(extractor, torch.zeros(3, 8))
    with pytest.raises(ValueError, match="NaN"):
        set_class_means(extractor, torch.full((4, 8), torch.nan))


def test_names_of_architectures():
    assert split_arch("resnet18+512") == ("resnet18", 512)
    assert split_arch("c2f2") == ("c2f2", None)
    for arch in ("resnet18", "resnet50+512", "c2f2", "lenet+128", "cifar_resnet2b", "swin_t+8"):
        assert check_arch(arch) == arch
    for arch in ("resnet18+", "resnet18+0", "resnet18+x", "resnet18+-5", "c2f2+5+6"):
        with pytest.raises(UserError, match=r"like resnet18\+512"):
            check_arch(arch)
    with pytest.raises(UserError, match=r"no classifier 'c3f3'.*c2f2, lenet"):
        check_arch("c3f3+512")


def test_normalisation_is_that_of_the_backbone():
    assert normalisation("resnet18+512") == (IMAGENET_MEAN, IMAGENET_STD)
    for arch in ("c2f2", "c2f2+512", "lenet+128"):
        assert normalisation(arch) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert normalisation("cifar_resnet2b")[0] == (0.4914, 0.4822, 0.4465)
    assert build_extractor("googlenet+8", LABELS).mean.flatten().tolist() == [0.5] * 3
    assert [input_size(a) for a in ("lenet+128", "cifar_resnet20", "resnet18")] == [28, 32, 224]


def test_a_checkpoint_keeps_everything(tmp_path):
    extractor = embedder_of("c2f2+16")
    save_extractor(tmp_path / "c2f2.pt", extractor)
    loaded = load_extractor(None, tmp_path / "c2f2.pt")
    images = torch.rand(2, 1, 28, 28)
    assert (loaded.arch, loaded.labels) == ("c2f2+16", LABELS)
    assert torch.equal(loaded.mean, extractor.mean)
    assert torch.equal(loaded(images).logits, extractor(images).logits)
    assert torch.equal(loaded(images).features, extractor(images).features)
    with pytest.raises(UserError, match=r"is a c2f2\+16, but --arch says c2f2"):
        load_extractor("c2f2", tmp_path / "c2f2.pt")
    with pytest.raises(UserError, match=r"no ImageNet weights of c2f2\+16.*--model_file"):
        load_extractor("c2f2+16")


def entries_without(extractor, *layers: str) -> dict[str, torch.Tensor]:
    entries = extractor.network.state_dict().items()
    return {k: v for k, v in entries if not k.startswith(tuple(f"{n}." for n in layers))}


def test_an_embedder_starts_from_a_classifier_and_from_an_embedder(tmp_path):
    classifier = build_extractor("resnet18", LABELS)
    torch.save(classifier.network.state_dict(), tmp_path / "raw.pth")
    extractor = build_extractor("resnet18+8", LABELS[:3])
    own = {k: v.clone() for k, v in extractor.network.state_dict().items()}
    load_pretrained(extractor, str(tmp_path / "raw.pth"))
    assert last_layers("resnet18+8") == ("head", "backbone.fc")
    for key, value in entries_without(classifier, "fc").items():
        assert torch.equal(extractor.network.state_dict()["backbone." + key], value), key
    for key in ("backbone.fc.weight", "head.weight"):
        assert torch.equal(extractor.network.state_dict()[key], own[key])

    # The embedding layer is loaded too if the dimension agrees.
    save_extractor(tmp_path / "embedder.pt", extractor)
    same, other = build_extractor("resnet18+8", LABELS), build_extractor("resnet18+9", LABELS)
    load_pretrained(same, str(tmp_path / "embedder.pt"))
    assert torch.equal(same.network.backbone.fc.weight, extractor.network.backbone.fc.weight)
    load_pretrained(other, str(tmp_path / "embedder.pt"))
    assert torch.equal(other.network.backbone.conv1.weight, classifier.network.conv1.weight)
    back = build_extractor("resnet18", LABELS)
    load_pretrained(back, str(tmp_path / "embedder.pt"))
    for key, value in entries_without(classifier, "fc").items():
        assert torch.equal(back.network.state_dict()[key], value), key


def test_a_start_takes_over_the_recorded_normalisation(tmp_path):
    classifier = build_extractor("c2f2", LABELS)
    classifier.mean += 0.25
    save_extractor(tmp_path / "c2f2.pt", classifier)
    extractor = build_extractor("c2f2+8", LABELS)
    load_pretrained(extractor, str(tmp_path / "c2f2.pt"))
    assert extractor.mean.flatten().tolist() == [0.25] * 3


def test_a_start_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    save_extractor(tmp_path / "lenet.pt", build_extractor("lenet", LABELS))
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "odd.pth")
    extractor = build_extractor("resnet18+8", LABELS)
    for source, problem in {
        "lenet.pt": r"lenet\.pt is a lenet, not the backbone of resnet18\+8",
        "odd.pth": r"odd\.pth is not a checkpoint of resnet18: it lacks",
        "none.pth": "missing file",
    }.items():
        with pytest.raises(UserError, match=problem):
            load_pretrained(extractor, str(tmp_path / source))
    with pytest.raises(UserError, match=r"no ImageNet weights of c2f2.*--pretrained"):
        load_pretrained(build_extractor("c2f2+8", LABELS), "imagenet")

    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth.*--pretrained"):
        load_pretrained(extractor, "imagenet")
    (tmp_path / "checkpoints").mkdir()
    published = architectures.build_network("resnet18", 1000)
    torch.save(published.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    load_pretrained(extractor, "imagenet")
    assert torch.equal(extractor.network.backbone.conv1.weight, published.conv1.weight)


def script(name, root, *arguments):
    common = ["--root", root, "--dataset", "shop", "--gpu", -1, "--workers", 0]
    common += ["--defense", 1, "--model_dir", "hm", "--model_file", "model.pt"]
    return run_script(name, *common, *arguments)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_stages_1_and_3_take_an_embedder(mode, tmp_path):
    """Stage 1 gives the nearest class means and unit-length features; PGD reaches its target."""
    images = Layout("shop", tmp_path).images
    images.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for item in range(N_IMAGES):
        coarse = generator.integers(0, 256, (4, 4, 3) if mode == "RGB" else (4, 4), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((28, 28), Image.Resampling.BICUBIC)
        picture.save(images / f"{item}.png")
    catalogue = open_catalogue(images)
    pixels = torch.from_numpy(catalogue.pixels())
    pixels = pixels.permute(0, 3, 1, 2) / 255

    extractor = embedder_of("c2f2+32")
    means = extractor(pixels[: len(LABELS)]).features
    set_class_means(extractor, means)
    save_extractor(Layout("shop", tmp_path).model_file("hm", "model.pt"), extractor)
    assert script("classify_extract", tmp_path) == 0
    stored = tmp_path / "data" / "shop" / "hm_original"
    features = read_features(stored / "features.npy")
    classes = read_classes(stored / "classes.csv")
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(features, extractor(pixels).features, rtol=1e-4, atol=1e-5)
    assert classes.classes.tolist() == nearest(torch.from_numpy(features), means).tolist()
    assert classes.classes[: len(LABELS)].tolist() == list(range(len(LABELS)))
    assert classes.labels[:4] == list(LABELS)

    attack = ["--origin_class", 0, "--target_class", 1, "--eps", 32, "--nb_iter", 20]
    assert script("classify_extract_attack", tmp_path, *attack) == 0
    (folder,) = (tmp_path / "data" / "shop").glob("hm_pgd_0_1_*")
    attacked, start = read_attacked_classes(folder / "classes.csv")
    assert set(start.classes) == {0}
    assert set(attacked.classes) == {1}
