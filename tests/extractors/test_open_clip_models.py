"""Networks of open_clip: errors without the library and, if it is installed, towers and texts."""

import importlib
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from src.artifacts.classes import read_attacked_classes, read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.datasets.catalogue import open_catalogue
from src.extractors.architectures import check_arch, input_size, normalisation
from src.extractors.checkpoints import load_extractor, with_zero_shot
from src.extractors.extractor import Extractor
from src.extractors.heads import NoHead, ZeroShot
from src.extractors.open_clip_models import OpenClipModel, image_tower, text_tower
from tests.scripts import run_script

TINY = "open_clip:tiny"
NAMES = ("bags", "hats", "shoes")
SENTENCES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
INSTALL = "pip install -r requirements-extras.txt"


@pytest.fixture
def open_clip(tmp_path):
    """Library with a tiny network, whose towers have one layer."""
    library = pytest.importorskip("open_clip", reason="an optional library")
    text = {"vocab_size": 49408, "context_length": 77, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}
    path = tmp_path / "configs" / "tiny.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    library.add_model_config(path)
    return library


@pytest.fixture
def network(open_clip):
    torch.manual_seed(0)
    return open_clip.create_model("tiny").eval().requires_grad_(False)


def script(name, root, *arguments):
    return run_script(name, "--root", root, "--dataset", "shop", *arguments)


@pytest.fixture
def shop(tmp_path, draw_images):
    """Data set of six images, and a table of their categories."""
    layout = Layout("shop", tmp_path)
    draw_images(layout.images, 6, 32)
    lines = [f"{item},{NAMES[item % 3]}" for item in range(6)]
    (tmp_path / "items.csv").write_text("\n".join(["item,category", *lines]))
    return layout


# The head, without the library.
def test_logits_are_scaled_cosines():
    """Cosines of (3, 4) with (1, 0), (0, 2) and (-6, -8) are 3/5, 4/5 and -1."""
    head = ZeroShot(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-6.0, -8.0]]), 10.0)
    features = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    expected = torch.tensor([[6.0, 8.0, -10.0]]).expand(2, 3)
    torch.testing.assert_close(head(features, features), expected)
    for texts, scale in (([[torch.nan, 1.0]], 1.0), ([[0.0, 1.0]], torch.inf)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            ZeroShot(torch.tensor(texts), scale)


def test_an_image_tower_with_texts_is_an_extractor():
    class Tower(torch.nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3))

    none = Extractor(Tower(), (), NoHead(), mean=(0, 0, 0), std=(1, 1, 1))
    extractor = none.replaced(head=ZeroShot(torch.eye(3), 5.0), labels=NAMES)
    assert extractor.n_features == 3 and extractor.labels == NAMES
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0], images[1, 2] = 1.0, 0.5
    expected = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    torch.testing.assert_close(extractor(images).logits, expected)
    with pytest.raises(ValueError, match="3 outputs for 2 labels"):
        none.replaced(head=ZeroShot(torch.eye(3), 5.0), labels=NAMES[:2])


def test_towers_of_a_checkpoint():
    one = torch.ones(1)
    both = {"visual.conv1.weight": one, "logit_scale": one, "positional_embedding": 2 * one}
    assert [*image_tower(both)] == ["conv1.weight"]
    assert [*text_tower(both)] == ["logit_scale", "positional_embedding"]
    images = {"conv1.weight": one, "positional_embedding": one}
    assert image_tower(images) == images and text_tower(images) == {}


# Bad input, without the library.
def test_without_open_clip_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match=f"open_clip.*{INSTALL}") as raised:
        check_arch("open_clip:ViT-B-32")
    assert "\n" not in str(raised.value)


REFUSED = {
    "--arch resnet18 --head zero_shot --classes items.csv": "only networks of open_clip",
    "--head zero_shot --classes items.csv": "only networks of open_clip",
    "--arch timm:vit_base_patch16_clip_224.openai --head zero_shot --classes items.csv": "open_clip",
    "--arch FILE.py:make --head zero_shot --classes items.csv": "only networks of open_clip",
    "--arch open_clip:tiny": "--head zero_shot --classes FILE",
    "--arch open_clip:tiny --head zero_shot": "add --classes FILE",
    "--arch open_clip:tiny --head zero_shot --classes numbers.csv": "add a column label",
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_does_not_fit_together_is_one_line(options, shop, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("open_clip") is None and "open_clip:" in options:
        expected = INSTALL
    else:
        expected = REFUSED[options]
    (tmp_path / "numbers.csv").write_text("".join(f"{item},{item % 3}\n" for item in range(6)))
    assert script("classify_extract", tmp_path, *options.split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and expected in line
    assert sorted(path.name for path in shop.data.iterdir()) == ["original"]


# Names and records of the library.
def test_what_open_clip_records(open_clip):
    assert input_size("open_clip:ViT-B-16-SigLIP-384") == 384
    assert input_size("open_clip:ViT-B-32") == 224 and input_size(TINY) == 32
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    openai = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    for arch in ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP.webli", "ViT-L-14.laion2b_s32b_b82k"):
        assert normalisation(f"open_clip:{arch}") == half
    for arch in ("ViT-L-14", "ViT-L-14.openai", "tiny"):
        assert normalisation(f"open_clip:{arch}") == openai
    assert OpenClipModel.of("open_clip:ViT-B-32.openai").quick_gelu
    assert not OpenClipModel.of("open_clip:ViT-B-32.laion2b_s34b_b79k").quick_gelu


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("open_clip:ViT-Z-32", "has no model 'ViT-Z-32'"),
        ("open_clip:ViT-B-32.webli", "the weights of ViT-B-32 are openai, "),
        ("open_clip:tiny.openai", "the weights of tiny are not published"),
        ("open_clip:hf-hub:nobody/nothing", "run `hf download nobody/nothing`"),
        ("open_clip:tiny", "names no weights: add their name after a dot.*--model_file"),
        ("open_clip:ViT-B-32.openai", "hf download timm/vit_base_patch32_clip_224.openai`"),
    ],
)
def test_missing_names_and_weights_are_one_line(open_clip, arch, message, monkeypatch):
    hub = importlib.import_module("huggingface_hub")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, file: None)
    with pytest.raises(UserError, match=message) as raised:
        load_extractor(arch, head="none")
    assert "\n" not in str(raised.value)


def test_the_linear_head_and_embedders_are_refused(open_clip, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "clip.pt")
    for arch in (TINY, f"{TINY}+16"):
        with pytest.raises(UserError, match="no head of classes"):
            load_extractor(arch, tmp_path / "clip.pt")


# Checkpoints.
def write(entries, path):
    entries = {key: value.contiguous() for key, value in entries.items()}
    if path.suffix == ".safetensors":
        importlib.import_module("safetensors.torch").save_file(entries, path)
    else:
        torch.save(entries, path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("layout", ["both", "images", "training"])
def test_features_are_the_image_embeddings(open_clip, network, tmp_path, suffix, layout):
    """FARE and TeCoA publish both towers or that of images; open_clip's training adds ``module.``."""
    entries = network.visual.state_dict() if layout == "images" else network.state_dict()
    if layout == "training":
        entries = {f"module.{key}": value for key, value in entries.items()}
    path = tmp_path / f"clip{suffix}"
    write(entries, path)
    extractor = load_extractor(TINY, path, head="none")
    images = torch.rand(2, 3, 32, 32)
    read = (images - extractor.mean) / extractor.std
    torch.testing.assert_close(extractor(images).features, network.encode_image(read))


def test_a_checkpoint_of_another_network_is_named(open_clip, network, tmp_path):
    path = tmp_path / "clip.pt"
    entries = network.state_dict()
    write({**entries, "visual.proj": entries["visual.proj"][:, :3]}, path)
    with pytest.raises(UserError, match=r"clip\.pt is not a checkpoint of open_clip:tiny.*proj"):
        load_extractor(TINY, path, head="none")
    write({k: v for k, v in entries.items() if k != "ln_final.weight"}, path)
    extractor = load_extractor(TINY, path, head="zero_shot")
    with pytest.raises(UserError, match=r"clip\.pt is not a checkpoint.*lacks ln_final\.weight"):
        with_zero_shot(extractor, NAMES)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("logit_scale", torch.tensor(1000.0), "the logit scale is NaN or infinite; is the check"),
        ("logit_scale", torch.zeros(2), "another shape of logit_scale"),
        ("text_projection", torch.zeros(16, 24), "text embeddings hold NaN"),
    ],
)
def test_a_damaged_text_tower_is_one_line(open_clip, network, tmp_path, entry, value, message):
    torch.save({**network.state_dict(), entry: value}, tmp_path / "clip.pt")
    extractor = load_extractor(TINY, tmp_path / "clip.pt", head="zero_shot")
    with pytest.raises(UserError, match=rf"clip\.pt.*{message}") as raised:
        with_zero_shot(extractor, NAMES)
    assert "\n" not in str(raised.value)


def by_hand(open_clip, network, images):
    """Return the logits of CLIP's zero-shot classifier, one sentence after another."""
    tokens = open_clip.get_tokenizer("tiny")
    texts = []
    for name in NAMES:
        read = [network.encode_text(tokens([of.format(name)]))[0] for of in SENTENCES]
        mean = sum(text / text.norm() for text in read) / len(read)
        texts.append(mean / mean.norm())
    embedded = network.encode_image(images)
    cosines = functional.cosine_similarity(embedded[:, None], torch.stack(texts), dim=2)
    return network.logit_scale.exp() * cosines


def test_zero_shot_logits_are_those_of_clip(open_clip, network, tmp_path):
    network.logit_scale.fill_(3.0)
    write(network.state_dict(), tmp_path / "clip.pt")
    extractor = with_zero_shot(load_extractor(TINY, tmp_path / "clip.pt", head="zero_shot"), NAMES)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    expected = by_hand(open_clip, network, (images - extractor.mean) / extractor.std)
    logits = extractor(images).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert extractor.labels == NAMES
    (gradient,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), images)
    assert (gradient != 0).float().mean() > 0.99


def test_texts_of_an_image_tower_are_those_of_the_published_weights(
    open_clip, network, tmp_path, monkeypatch
):
    write(network.state_dict(), tmp_path / "open_clip_model.safetensors")
    config = open_clip.get_model_config("tiny")
    record = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(record))
    hub = importlib.import_module("huggingface_hub")
    monkeypatch.setattr(
        hub, "try_to_load_from_cache", lambda repository, file: str(tmp_path / file)
    )
    arch = "open_clip:hf-hub:someone/tiny"
    published = with_zero_shot(load_extractor(arch, head="zero_shot"), NAMES)
    assert published.mean.flatten().tolist() == [0.5] * 3
    assert published.std.flatten().tolist() == [0.25] * 3
    tuned = {key: 2 * value for key, value in network.visual.state_dict().items()}
    write(tuned, tmp_path / "fare.pt")
    extractor = with_zero_shot(load_extractor(arch, tmp_path / "fare.pt", head="zero_shot"), NAMES)
    assert torch.equal(extractor.head.texts, published.head.texts)
    assert not torch.equal(extractor.network.proj, published.network.proj)
    extractor = load_extractor(TINY, tmp_path / "fare.pt", head="zero_shot")
    with pytest.raises(UserError, match=r"fare\.pt has no text tower.*names no weights"):
        with_zero_shot(extractor, NAMES)


def test_texts_that_need_the_transformers_library_are_one_line(open_clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    siglip = OpenClipModel.of("open_clip:ViT-B-16-SigLIP.webli")
    with pytest.raises(UserError, match=r"tokenizer.*`hf download timm/ViT-B-16-SigLIP`"):
        siglip.embed_classes(torch.nn.Identity(), NAMES)
    with pytest.raises(UserError, match=r"text tower.*\(roberta-base\) and is not read"):
        OpenClipModel.of("open_clip:roberta-ViT-B-32").build_text_tower()


# The stages.
def test_images_of_another_size_are_one_line(open_clip, network, shop, tmp_path, capfd):
    write(network.state_dict(), tmp_path / "clip.pt")
    options = ("--gpu", -1, "--arch", TINY, "--model_file", tmp_path / "clip.pt", "--resize", 40)
    options += ("--head", "none", "--classes", tmp_path / "items.csv")
    assert script("classify_extract", tmp_path, *options) == 2
    error = capfd.readouterr().err
    assert "cannot read images of 40x40 pixels" in error and "try --resize 32" in error
    assert "File" not in error and "Traceback" not in error


def test_classes_by_name_through_the_stages(open_clip, network, shop, tmp_path):
    write(network.state_dict(), tmp_path / "clip.pt")
    options = ("--gpu", -1, "--arch", TINY, "--model_file", tmp_path / "clip.pt")
    options += ("--head", "zero_shot", "--classes", tmp_path / "items.csv")
    assert script("classify_extract", tmp_path, *options) == 0
    clean = Experiment("zero_shot")
    assert clean.name == "zero_shot_original"
    extractor = load_extractor(TINY, tmp_path / "clip.pt", head="none")
    pixels = torch.from_numpy(open_catalogue(shop.images).batch(np.arange(6)))
    pixels = pixels.permute(0, 3, 1, 2) / 255
    read = (pixels - extractor.mean) / extractor.std
    np.testing.assert_allclose(
        read_features(shop.features(clean), 6), network.encode_image(read), rtol=1e-3, atol=1e-4
    )
    found, logits = read_classes(shop.classes(clean)), by_hand(open_clip, network, read)
    assert found.classes.tolist() == logits.argmax(dim=1).tolist()
    np.testing.assert_allclose(found.probabilities, logits.softmax(dim=1).max(dim=1)[0], rtol=1e-3)

    origin = found.labels[0]
    target = next(name for name in NAMES if name != origin)
    pair = ("--origin_class", origin, "--target_class", target, "--attack_type", "pgd", "--eps", 64)
    assert script("classify_extract_attack", tmp_path, *options, *pair) == 0
    [report] = shop.data.glob("zero_shot_pgd_*/attack.tsv")
    attacked = Experiment.parse(report.parent.name)
    assert (attacked.model_dir, attacked.target) == ("zero_shot", NAMES.index(target))
    after, before = read_attacked_classes(shop.classes(attacked))
    assert set(before.labels) == {origin} and target in after.labels
    assert script("evaluate_attack", tmp_path, *options, *pair) == 0
    rate = pd.read_csv(report.with_name("success_results.tsv"), sep="\t")["success_rate"][0]
    assert rate == pytest.approx(100 * np.mean([label == target for label in after.labels]))
