"""Networks of a user's own code: layers found by hand, errors in one line, and stages 1 and 3."""

import sys

import pytest
import torch
from torch import nn

from src.artifacts.errors import UserError
from src.artifacts.manifest import fingerprint, read_record
from src.extractors.architectures import build_extractor, cut_of, head_of, input_size, normalisation
from src.extractors.checkpoints import load_extractor, save_extractor
from src.extractors.zoo import check_name, recorded_name, split_arch
from tests.scripts import run_script

CODE = """
from torch import nn
from beside import WIDTH

MEAN, STD, SIZE = (0.1, 0.2, 0.3), (0.5, 0.5, 0.25), 8

class Small(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3)
        self.classes = nn.Linear(WIDTH, n_classes)
        self.drop = nn.Dropout(0.1)

    def forward(self, images):
        if images.mean() > 1e9:  # control flow that depends on the data
            raise ValueError
        return self.drop(self.classes(self.conv(images).relu().mean(dim=(2, 3))))

def small():
    return Small()

def backbone():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def number():
    return 3

def raises():
    raise RuntimeError("two\\nlines")

def wants(width):
    return nn.Linear(width, 2)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "beside.py").write_text("WIDTH = 4\n")
    (tmp_path / "nets" / "mine.py").write_text(CODE)
    yield f"{tmp_path}/nets/mine.py:"
    sys.modules.pop("beside", None)
    sys.path.remove(str(tmp_path / "nets"))


def test_the_file_says_head_size_and_normalisation(own):
    assert head_of(own + "small") == cut_of(own + "small") == "classes"
    assert cut_of(own + "backbone") is None
    assert input_size(own + "small") == 8
    assert normalisation(own + "small") == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    assert recorded_name(own + "small+16") == "mine.py:small+16"
    assert split_arch("a+b/c.py:d") == ("a+b/c.py:d", None)
    assert split_arch("a+b/c.py:d+8") == ("a+b/c.py:d", 8)


def test_a_head_of_another_width_is_replaced_and_the_seed_is_kept(own):
    features = []
    for _ in range(2):  # the first one reads the file
        torch.manual_seed(3)
        extractor = build_extractor(own + "small", ("a", "b", "c")).eval()
        features.append(extractor(torch.full((2, 3, 8, 8), 0.5)))
        assert features[-1].logits.shape == (2, 3) and features[-1].features.shape == (2, 4)
    assert torch.equal(features[0].logits, features[1].logits)
    embedder = build_extractor(own + "small+7", ("a",)).eval()
    lengths = embedder(torch.rand(2, 3, 8, 8)).features.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(2))


def test_checkpoints_of_other_code_load_and_record_no_folder(own, tmp_path):
    torch.manual_seed(0)
    network = build_extractor(own + "small", tuple("abcdefg")).network.eval()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "theirs.pt")
    extractor = load_extractor(own + "small", tmp_path / "theirs.pt")
    images = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in normalisation(own + "small"))
    assert torch.equal(extractor(images).logits, network((images - mean) / std))
    headless = load_extractor(own + "small", tmp_path / "theirs.pt", head="none")
    assert torch.equal(headless(images).features, extractor(images).features)

    save_extractor(tmp_path / "ours.pt", extractor)
    recorded = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert recorded["arch"] == "mine.py:small"
    again = load_extractor(own + "small", tmp_path / "ours.pt")
    assert torch.equal(again(images).logits, extractor(images).logits)
    with pytest.raises(UserError, match=r"is a mine.py:small: name its file with --arch"):
        load_extractor(None, tmp_path / "ours.pt")
    with pytest.raises(UserError, match=r"is a mine.py:small, but --arch says .*backbone"):
        load_extractor(own + "backbone", tmp_path / "ours.pt", head="none")


def test_a_network_without_a_head_has_its_output_as_features(own, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.save(network.state_dict(), tmp_path / "net.pt")
    arch = own + "backbone"
    extractor = load_extractor(arch, tmp_path / "net.pt", head="none")
    assert extractor(torch.rand(2, 3, 9, 9)).features.shape == (2, 6)
    with pytest.raises(
        UserError, match="no head of classes; stages 1 and 3 serve it with --head none"
    ):
        load_extractor(arch, tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", "returned a int, not an nn.Module"),
        ("raises", "the function failed with RuntimeError: two lines"),
        ("wants", "the function failed with TypeError: .*missing 1 required"),
    ],
)
def test_functions_that_return_no_network(own, function, message):
    with pytest.raises(UserError, match=message) as raised:
        build_extractor(own + function, ("a", "b"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing file"),
        ("def f(:", r"is not Python: .*line 1"),
        ("def f(): ...", "has no function 'make'; it has f"),
    ],
)
def test_files_are_checked_before_they_are_run(tmp_path, content, message):
    if content:
        (tmp_path / "net.py").write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        check_name(f"{tmp_path}/net.py:make")
    assert "\n" not in str(raised.value)


def test_a_file_that_fails_is_one_line(tmp_path):
    for content, message in (
        ("def make(): ...\nimport no_such_module", "failed with ModuleNotFoundError"),
        ("from torch.nn import Flatten as make\nSTD = (1, 0, 1)", "STD in .* must be above 0"),
        ("from torch.nn import Flatten as make\nMEAN = 3", "MEAN must be three numbers"),
        ("from torch.nn import Flatten as make\nSIZE = 'x'", "SIZE in .* must be a whole number"),
    ):
        (tmp_path / "net.py").write_text(content)
        with pytest.raises(UserError, match=message):
            head_of(f"{tmp_path}/net.py:make")


def test_stages_1_and_3_keep_the_hash_of_the_code(own, tmp_path, draw_images, capsys):
    draw_images(tmp_path / "data" / "shop" / "original" / "images", 4)
    torch.manual_seed(0)
    network = build_extractor(own + "small", ("a", "b")).network
    torch.save(network.state_dict(), tmp_path / "net.pt")
    (tmp_path / "items.csv").write_text("0,hats\n1,shoes\n2,hats\n3,shoes\n")
    common = (
        "--root",
        tmp_path,
        "--dataset",
        "shop",
        "--gpu",
        -1,
        "--resize",
        16,
        "--arch",
        own + "small",
    )
    head = ("--head", "class_means", "--classes", tmp_path / "items.csv")
    weights = ("--model_file", tmp_path / "net.pt")
    assert run_script("classify_extract", *common) == 2
    assert "has no published weights" in capsys.readouterr().err.splitlines()[-1]
    assert run_script("classify_extract", *common, *weights, *head) == 0
    attack = (
        "--attack_type",
        "fgsm",
        "--origin_class",
        "hats",
        "--target_class",
        "shoes",
        "--eps",
        8,
    )
    assert run_script("classify_extract_attack", *common, *weights, *head, *attack) == 0
    code = tmp_path / "nets" / "mine.py"
    records = list((tmp_path / "data" / "shop").rglob("*classes.csv"))
    assert len(records) == 2
    for classes in records:
        options = read_record(classes)["options"]
        assert options["arch"] == "mine.py:small" and options["code"] == fingerprint(code)

    code.write_text(CODE + "\n# changed\n")
    capsys.readouterr()
    assert run_script("classify_extract_attack", *common, *weights, *head, *attack) == 2
    assert "was made with code" in capsys.readouterr().err.splitlines()[-1]
