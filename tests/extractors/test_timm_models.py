"""Networks of timm: errors without the library and, if it is installed, their weights."""

import importlib
import re
import sys

import pytest
import torch

from src.artifacts.errors import UserError
from src.extractors.architectures import (
    build_extractor,
    check_arch,
    imagenet_labels,
    input_size,
    normalisation,
)
from src.extractors.attention import Watched
from src.extractors.checkpoints import load_extractor, save_extractor
from src.extractors.timm_models import TimmModel
from src.extractors.zoo import check_classifier
from tests.scripts import run_script

ARCH = "timm:inception_v3.tf_adv_in1k"
SMALL = "timm:test_resnet.r160_in1k"
INSTALL = "pip install -r requirements-extras.txt"


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="an optional library")


@pytest.fixture
def without_timm(monkeypatch):
    for name in ("timm", "safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)


def test_without_timm_one_line_says_what_to_install(without_timm, tmp_path):
    for arch in (ARCH, f"{ARCH}+512"):
        with pytest.raises(UserError, match=INSTALL) as raised:
            check_arch(arch)
        assert "timm" in str(raised.value) and "\n" not in str(raised.value)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    with pytest.raises(UserError, match=f"safetensors.*{INSTALL}"):
        load_extractor("resnet18", weights)


def test_without_timm_scripts_end_with_code_2(without_timm, tmp_path, draw_images, capsys):
    draw_images(tmp_path / "data" / "shop" / "original" / "images", 1)
    options = ("--root", tmp_path, "--dataset", "shop", "--arch", ARCH, "--gpu", -1)
    assert run_script("classify_extract", *options) == 2
    assert INSTALL in capsys.readouterr().err.splitlines()[-1]


def test_what_timm_records(timm):
    assert input_size(ARCH) == 299
    assert normalisation(ARCH) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert input_size("timm:inception_resnet_v2.tf_ens_adv_in1k") == 299


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("timm:no_such_network", "no pretrained cfg"),
        ("timm:inception_v3.no_such_tag", "Invalid pretrained tag"),
        ("timm:crossvit_9_240", "no classifier with one last layer"),
    ],
)
def test_unknown_names(timm, arch, message):
    with pytest.raises(UserError, match=message):
        check_arch(arch)


def test_missing_weights(timm, tmp_path, monkeypatch):
    hub = importlib.import_module("huggingface_hub")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, file: None)
    with pytest.raises(UserError, match=r"hf download timm/inception_v3.tf_adv_in1k.*--model_file"):
        load_extractor(ARCH)


def write_state_dict(state_dict, path):
    if path.suffix == ".safetensors":
        importlib.import_module("safetensors.torch").save_file(state_dict, path)
    else:
        torch.save(state_dict, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights(timm, tmp_path, suffix):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=1000).eval()
    write_state_dict(network.state_dict(), tmp_path / f"weights{suffix}")
    extractor = load_extractor(SMALL, tmp_path / f"weights{suffix}")
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalisation(SMALL))
    expected = network((images - mean) / std)
    torch.testing.assert_close(extractor(images).logits, expected)
    assert extractor.labels == imagenet_labels()
    assert Watched(extractor).averaged

    save_extractor(tmp_path / "ours.pt", extractor)
    again = load_extractor(None, tmp_path / "ours.pt")
    assert again.arch == SMALL
    assert torch.equal(again(images).logits, extractor(images).logits)


def test_weights_of_the_hub_are_taken_from_its_cache(timm, tmp_path, monkeypatch):
    network = timm.create_model("test_resnet", num_classes=1000)
    path = tmp_path / "model.safetensors"
    write_state_dict(network.state_dict(), path)
    hub = importlib.import_module("huggingface_hub")
    cache = {("timm/test_resnet.r160_in1k", path.name): str(path)}
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *wanted: cache.get(wanted))
    extractor = load_extractor(SMALL)
    assert extractor.weights_file == path
    assert torch.equal(extractor.network.fc.weight, network.fc.weight)


def test_the_background_class_of_tensorflow_is_dropped(timm, tmp_path):
    network = timm.create_model("test_resnet", num_classes=1001)
    write_state_dict(network.state_dict(), tmp_path / "weights.pth")
    extractor = load_extractor(SMALL, tmp_path / "weights.pth")
    assert torch.equal(extractor.network.fc.weight, network.fc.weight[1:])
    assert torch.equal(extractor.network.fc.bias, network.fc.bias[1:])
    assert extractor.labels == imagenet_labels()


def test_the_published_baseline(timm, tmp_path):
    """The test covers its names, its head and its attention at 299 pixels, with random weights."""
    torch.manual_seed(0)
    network = timm.create_model("inception_v3", num_classes=1001, aux_logits=True)
    write_state_dict(network.state_dict(), tmp_path / "ens3_adv_inception_v3.pth")
    extractor = load_extractor(ARCH, tmp_path / "ens3_adv_inception_v3.pth")
    watched = Watched(extractor)
    assert watched.layer == "Mixed_7c" and watched.averaged
    attended = watched(torch.rand(1, 3, 299, 299))
    assert attended.maps.shape == (1, 2048, 8, 8)
    assert attended.logits.shape == (1, 1000)


def test_a_swin_of_an_earlier_timm_is_the_same_network(timm, tmp_path):
    """It had the downsampling at the end of a stage, masks in the file, and another name of the head."""
    arch = "timm:swin_tiny_patch4_window7_224"
    network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5)
    earlier = {"model.layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}
    for key, value in network.state_dict().items():
        name = re.sub(r"layers\.(\d)\.down", lambda of: f"layers.{int(of[1]) - 1}.down", key)
        earlier["model." + name.replace("head.fc.", "head.")] = value
    torch.save({"state_dict": earlier}, tmp_path / "swin.pt")
    loaded = load_extractor(arch, tmp_path / "swin.pt").network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


def test_broken_files_are_named(timm, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"no header")
    with pytest.raises(UserError, match="not a checkpoint"):
        load_extractor(SMALL, path)
    torch.save(timm.create_model("test_vit", num_classes=5).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="not a checkpoint of timm:test_resnet"):
        load_extractor(SMALL, tmp_path / "other.pth")


def test_an_embedder_of_a_timm_backbone(timm):
    extractor = build_extractor(f"{SMALL}+16", ["a", "b"]).eval()
    features = extractor(torch.rand(2, 3, 64, 64)).features
    assert features.shape == (2, 16)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


CLIP = "timm:vit_base_patch16_clip_224.openai"
WITHOUT_CLASSES = [
    CLIP,
    "timm:vit_base_patch16_siglip_224.webli",
    "timm:vit_small_patch14_dinov2.lvd142m",
    "timm:convnext_base.clip_laion2b",
    "timm:beit3_base_patch16_224.pt",
]
TUNED = ("timm:vit_base_patch16_clip_224.openai_ft_in1k", SMALL, ARCH)


SMALL_CLIP = "timm:vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"


def test_networks_without_a_head_of_classes_need_another_head(timm):
    for arch in WITHOUT_CLASSES:
        with pytest.raises(UserError, match=r"no head of classes.*--head none --classes FILE"):
            load_extractor(arch)
    with pytest.raises(UserError, match=r"one last layer.*--head none --classes FILE"):
        load_extractor("timm:crossvit_9_240.in1k")
    for arch in TUNED:
        TimmModel.of(arch).require_classes()


def test_every_network_refused_by_its_name_has_no_head_of_classes(timm):
    """The names of families spare the seconds that timm takes to load."""
    refused = [f"timm:{name}" for name in timm.list_models(pretrained=True)]
    refused = [arch for arch in refused if not passes(check_classifier, arch)]
    assert {*WITHOUT_CLASSES[:4]} <= {*refused}
    for arch in refused:
        assert not passes(lambda arch: TimmModel.of(arch).require_classes(), arch), arch


def passes(check, arch):
    try:
        check(arch)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("open_clip", [False, True])
def test_features_of_clip_are_the_embeddings_after_the_projection(timm, tmp_path, open_clip):
    torch.manual_seed(0)
    network = timm.create_model(SMALL_CLIP.removeprefix("timm:"), num_classes=512).eval()
    network.head.bias.data.zero_()
    entries = network.state_dict()
    if open_clip:
        trunk = {k: v for k, v in entries.items() if not k.startswith("head.")}
        entries = {f"visual.trunk.{key}": value for key, value in trunk.items()}
        entries |= {"visual.head.proj.weight": network.head.weight, "logit_scale": torch.ones(())}
    torch.save(dict(entries), tmp_path / "clip.pt")
    extractor = load_extractor(SMALL_CLIP, tmp_path / "clip.pt", head="none")
    assert extractor.mean.flatten().tolist() == pytest.approx(normalisation(SMALL_CLIP)[0])
    images = torch.rand(2, 3, 224, 224)
    expected = network((images - extractor.mean) / extractor.std)
    torch.testing.assert_close(extractor(images).features, expected, rtol=1e-4, atol=1e-5)
    assert extractor(images[..., :32, :64]).features.shape == (2, 512)


def test_weights_of_another_encoder_are_named(timm, tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=5).state_dict(), tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=r"other\.pth is not a checkpoint of timm:vit_xsmall"
    ) as raised:
        load_extractor(SMALL_CLIP, tmp_path / "other.pth", head="none")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "value",
    [torch.ones(()), torch.ones(0), torch.ones(0, 0, 0, 0), torch.ones(7), torch.ones(2, 3)],
)
@pytest.mark.parametrize("entry", ["patch_embed.proj.weight", "pos_embed", "cls_token"])
def test_damaged_entries_of_an_encoder_are_one_line(timm, tmp_path, entry, value):
    network = timm.create_model(SMALL_CLIP.removeprefix("timm:"), num_classes=512)
    torch.save({**network.state_dict(), entry: value}, tmp_path / "clip.pt")
    with pytest.raises(UserError, match=r"clip\.pt is not a checkpoint of") as raised:
        load_extractor(SMALL_CLIP, tmp_path / "clip.pt", head="none")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize("value", [torch.ones(()), torch.ones(0), torch.ones(1001)])
def test_a_damaged_head_is_one_line(timm, tmp_path, value):
    network = timm.create_model("test_resnet", num_classes=1000)
    torch.save({**network.state_dict(), "fc.weight": value}, tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"net\.pt is not a checkpoint of") as raised:
        load_extractor(SMALL, tmp_path / "net.pt")
    assert "\n" not in str(raised.value)


def test_a_backbone_without_classes_serves_an_embedder_and_a_new_head(timm, tmp_path):
    arch = "timm:test_vit4.r160_in1k"
    for name in (f"{CLIP}+16", CLIP):
        assert check_arch(name) == name
    save_extractor(tmp_path / "own.pt", build_extractor(arch, ["a", "b"]))
    assert load_extractor(None, tmp_path / "own.pt").labels == ("a", "b")
