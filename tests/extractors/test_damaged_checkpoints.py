"""Damaged checkpoints end in one line that names the file, and never in an extractor of NaN."""

import numpy as np
import pytest
import torch

from src.artifacts.errors import UserError
from src.artifacts.features import write_features
from src.extractors.architectures import build_network, head_of
from src.extractors.checkpoints import load_extractor, load_state, save_extractor, write_plain
from src.extractors.extractor import Extractor
from tests.faults.damage import DAMAGES, apply

ARCH = "cifar_resnet8"


@pytest.fixture
def checkpoint(tmp_path):
    network = build_network(ARCH, 3)
    path = tmp_path / "net.pt"
    save_extractor(path, Extractor(network, ["a", "b", "c"], head_of(ARCH), arch=ARCH))
    return path


def refused(path) -> None:
    with pytest.raises(UserError, match=r"net\.pt") as caught:
        load_extractor(None, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("mean", [float("nan"), 0.5, 0.5]),
        ("mean", [0.5, 0.5]),
        ("mean", "half"),
        ("mean", None),
        ("std", [0.0, 0.5, 0.5]),
        ("std", [0.5, -0.5, 0.5]),
        ("std", [float("inf"), 0.5, 0.5]),
        ("std", 3),
        ("arch", None),
        ("arch", 5),
        ("arch", "resnet5000"),
        ("labels", ["a", "b"]),
        ("labels", ["a", "b", 3]),
        ("labels", None),
        ("labels", "abc"),
        ("size", -1),
        ("size", 1.5),
        ("size", "32"),
        ("state_dict", {}),
        ("state_dict", {"fc.weight": 3}),
        ("state_dict", []),
    ],
)
def test_an_entry_that_this_project_does_not_write(checkpoint, entry, value):
    content = torch.load(checkpoint, weights_only=True)
    write_plain(checkpoint, content | {entry: value})
    refused(checkpoint)


@pytest.mark.parametrize("entry", ["arch", "labels", "mean", "std", "state_dict"])
def test_a_missing_entry(checkpoint, entry):
    content = torch.load(checkpoint, weights_only=True)
    del content[entry]
    write_plain(checkpoint, content)
    refused(checkpoint)


@pytest.mark.parametrize("content", [[], 3, None, {}, {"model": {}}, {"x": 3}, torch.ones(3)])
def test_a_file_of_torch_that_is_no_checkpoint(checkpoint, content):
    torch.save(content, checkpoint)
    refused(checkpoint)


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_damaged_bytes(checkpoint, name):
    apply(name, checkpoint, seed=0)
    try:
        extractor = load_extractor(None, checkpoint)
    except UserError as error:
        assert "net.pt" in str(error)
        return
    with torch.no_grad():
        features = extractor(torch.rand(2, 3, 32, 32)).features.numpy()
    if not np.isfinite(features).all():  # a weight is huge: nothing is written
        with pytest.raises(UserError, match="is the checkpoint damaged"):
            write_features(checkpoint.with_name("features.npy"), features)


def test_a_text_file_is_no_checkpoint(tmp_path):
    path = tmp_path / "net.pt"
    path.write_text("root:x:0:0:root:/root:/bin/bash\n")
    refused(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"text", None])
def test_a_damaged_state_of_a_training_is_none(tmp_path, capsys, content):
    path = tmp_path / "state.pt"
    assert load_state(path, "cpu") is None and not capsys.readouterr().err
    write_plain(path, {"epochs_done": 3})
    assert load_state(path, "cpu") == {"epochs_done": 3}
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    assert load_state(path, "cpu") is None
    assert "state.pt is damaged" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize("damage", [torch.Tensor.to_sparse, lambda of: of.to("meta")])
def test_tensors_without_values_of_their_own_are_refused(checkpoint, damage):
    content = torch.load(checkpoint, weights_only=True)
    entries = content["state_dict"]
    damaged = entries | {"linear.weight": damage(entries["linear.weight"])}
    write_plain(checkpoint, content | {"state_dict": damaged})
    refused(checkpoint)


def test_weights_that_overflow_are_refused(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    for value in (np.nan, np.inf):
        entries = {key: torch.full_like(of, value) if of.is_floating_point() else of
                   for key, of in content["state_dict"].items()}  # fmt: skip
        write_plain(checkpoint, content | {"state_dict": entries})
        refused(checkpoint)
