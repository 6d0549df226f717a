"""All layouts give equal weights, and a file that is no checkpoint gives one line."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torchvision.models import WeightsEnum

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.extractors.architectures import build_network, imagenet_labels
from src.extractors.checkpoints import load_extractor, save_extractor
from src.extractors.conversion import convert
from src.extractors.extractor import Extractor
from src.extractors.weights import weights_path

ARCH = "resnet18"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_network(ARCH, 4)
    network.bn1.running_mean.normal_()
    return network.eval()


@pytest.fixture(scope="module")
def weights(network) -> dict[str, torch.Tensor]:
    return network.state_dict()


def prefixed(prefix: str, tensors) -> OrderedDict:
    return OrderedDict((prefix + key, value) for key, value in tensors.items())


def robustness(tensors, prefix: str = "module.") -> OrderedDict:
    normaliser = {
        "new_mean": torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1),
        "new_std": torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1),
    }
    return (
        prefixed(f"{prefix}normalizer.", normaliser)
        | prefixed(f"{prefix}model.", tensors)
        | prefixed(f"{prefix}attacker.normalize.", normaliser)
        | prefixed(f"{prefix}attacker.model.", {k: torch.zeros_like(v) for k, v in tensors.items()})
    )


LAYOUTS = {
    "plain": lambda w: OrderedDict(w),
    "madry": lambda w: {"model": robustness(w), "optimizer": {"state": {}}, "epoch": 105},
    "madry, old": lambda w: {"state_dict": robustness(w), "epoch": 105},
    "madry, one device": lambda w: {"model": robustness(w, prefix="")},
    "free": lambda w: {
        "epoch": 23,
        "arch": ARCH,
        "state_dict": prefixed("module.", w),
        "best_prec1": torch.tensor(60.0),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    },
    "robustbench": lambda w: {"state_dict": prefixed("module.model.", w)},
    "no counters": lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_give_the_same_network(layout, weights, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(LAYOUTS[layout](weights), path)
    extractor = load_extractor(ARCH, path)
    loaded = extractor.network.state_dict()
    for key, value in weights.items():
        assert torch.equal(loaded[key], value), key
    assert extractor.labels == ("class 0", "class 1", "class 2", "class 3")
    assert not extractor.training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    if layout.startswith("madry"):
        torch.testing.assert_close(extractor.mean.flatten(), torch.tensor([0.4, 0.5, 0.6]))
        torch.testing.assert_close(extractor.std.flatten(), torch.tensor([0.2, 0.3, 0.4]))


def test_resnet50_of_madry_and_of_free_at_are_equal(tmp_path):
    """Both published layouts are tested on the published architecture."""
    torch.manual_seed(0)
    weights = build_network("resnet50", 1000).state_dict()
    torch.save({"model": robustness(weights)}, tmp_path / "imagenet_linf_4.pt")
    torch.save({"state_dict": prefixed("module.", weights)}, tmp_path / "model_best.pth.tar")
    madry = load_extractor(None, tmp_path / "imagenet_linf_4.pt").network.state_dict()
    free = load_extractor(None, tmp_path / "model_best.pth.tar").network.state_dict()
    assert all(torch.equal(madry[key], free[key]) for key in weights)


def test_our_format_keeps_everything(tiny_extractor, tmp_path):
    path = tmp_path / "sub" / "ours.pt"
    save_extractor(path, tiny_extractor)
    loaded = load_extractor(None, path)
    images = torch.rand(2, 3, 64, 64)
    assert loaded.labels == tiny_extractor.labels
    assert loaded.arch == tiny_extractor.arch
    assert torch.equal(loaded(images).logits, tiny_extractor(images).logits)


def test_half_precision_files_become_float32(weights, tmp_path):
    path = tmp_path / "half.pt"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, path)
    loaded = load_extractor(ARCH, path).network
    assert loaded.fc.weight.dtype == torch.float32
    torch.testing.assert_close(loaded.fc.weight, weights["fc.weight"], rtol=1e-3, atol=1e-4)


def test_a_thousand_classes_have_imagenet_labels(tmp_path):
    path = tmp_path / "squeeze.pth"
    torch.save(build_network("squeezenet1_1", 1000).state_dict(), path)
    labels = load_extractor("squeezenet1_1", path).labels
    assert labels == imagenet_labels()
    assert (labels[774], labels[770]) == ("sandal", "running shoe")


def test_old_densenet_names_and_training_heads_are_understood(tmp_path):
    dense = build_network("densenet121", 3).state_dict()
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for key, v in dense.items()
    }
    torch.save(old, tmp_path / "dense.pth")
    assert load_extractor("densenet121", tmp_path / "dense.pth").n_features == 1024
    inception = build_network("googlenet", 3).state_dict() | {
        "aux1.fc2.weight": torch.zeros(3, 1024)
    }
    torch.save(inception, tmp_path / "inception.pth")
    assert load_extractor("googlenet", tmp_path / "inception.pth").n_classes == 3


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_code_in_a_checkpoint_is_refused_and_not_run(weights, tmp_path):
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save({"state_dict": weights, "extra": Malicious(marker)}, path)
    with pytest.raises(UserError, match=r"python -m audits\.convert_checkpoint .*evil\.pt"):
        load_extractor(ARCH, path)
    assert not marker.exists()
    path.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(UserError, match="convert_checkpoint"):
        load_extractor(ARCH, path)
    assert not marker.exists()


def test_conversion_keeps_tensors_and_runs_nothing(weights, tmp_path, python):
    path, marker, out = tmp_path / "evil.pt", tmp_path / "ran", tmp_path / "plain.pt"
    torch.save({"state_dict": prefixed("module.", weights), "extra": [Malicious(marker)]}, path)
    command = [python.program, "-m", "audits.convert_checkpoint", str(path), str(out)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--i_trust_this_file" in refused.stderr
    assert not out.exists()
    command.append("--i_trust_this_file")
    converted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert converted.returncode == 0, converted.stderr
    assert str(out) in converted.stdout
    assert not marker.exists()
    loaded = load_extractor(ARCH, out).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_conversion_works_without_the_modules_that_wrote_the_file(weights, tmp_path, python):
    """Madry's files need dill and robustness to be unpickled."""
    module = tmp_path / "gone.py"
    module.write_text("class Schedule:\n    def __init__(self):\n        self.steps = {1: [2]}\n")
    path, out = tmp_path / "in.pt", tmp_path / "out.pt"
    write = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); import gone\n"
        "w = torch.load(sys.argv[2]); torch.save({'model': w, 'schedule': gone.Schedule()}, sys.argv[3])"
    )
    torch.save(robustness(weights), tmp_path / "weights.pt")
    subprocess.run(
        [python.program, "-", str(tmp_path), str(tmp_path / "weights.pt"), str(path)],
        input=write,
        text=True,
        check=True,
    )
    module.unlink()
    with pytest.raises(UserError, match="convert_checkpoint"):
        load_extractor(ARCH, path)
    command = [
        python.program,
        "-m",
        "audits.convert_checkpoint",
        str(path),
        str(out),
        "--i_trust_this_file",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    loaded = load_extractor(ARCH, out).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_conversion_to_safetensors_keeps_the_state_dict(weights, tmp_path):
    pytest.importorskip("safetensors", reason="an optional library")
    path, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    shared = weights | {"fc.bias": torch.zeros(8)[::2]}
    torch.save({"epoch": 3, "state_dict": prefixed("module.", shared), "optimizer": {}}, path)
    assert convert(path, out) == ["epoch", "optimizer"]
    loaded = load_extractor(ARCH, out).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in shared.items())


def test_our_own_checkpoints_are_not_converted_to_safetensors(network, tmp_path):
    pytest.importorskip("safetensors", reason="an optional library")
    path, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    save_extractor(path, Extractor(network, list("abcd"), "fc", arch=ARCH))
    with pytest.raises(
        UserError, match=r"in\.pt is a checkpoint of this project, whose arch, labels"
    ):
        convert(path, out)
    assert not out.exists()


def test_conversion_without_the_library_of_safetensors_is_one_line(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    torch.save(weights, tmp_path / "in.pt")
    with pytest.raises(UserError, match=r"safetensors.*pip install -r requirements-extras\.txt"):
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_wrong_files_are_named_in_one_line(weights, tmp_path):
    path = tmp_path / "file.pt"

    def problem(content, arch: str | None = ARCH) -> str:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(UserError) as error:
            load_extractor(arch, path)
        assert str(path) in str(error.value)
        return str(error.value)

    assert "not a checkpoint" in problem(b"<html>no such file</html>")
    assert "not a checkpoint" in problem(b"")
    torch.save(weights, path)
    assert "not a checkpoint" in problem(path.read_bytes()[:20_000])
    assert "list" in problem([1, 2])
    assert "no state dict" in problem({"epoch": 3})
    assert "lacks conv1.weight" in problem(
        {k: v for k, v in weights.items() if k != "conv1.weight"}
    )
    assert "lacks fc.weight" in problem({"linear.weight": torch.zeros(2, 2)})
    assert "also has extra" in problem({**weights, "extra": torch.zeros(1)})
    assert "another shape of conv1.weight" in problem(
        {**weights, "conv1.weight": torch.zeros(64, 1, 7, 7)}
    )
    assert "bn1.bias holds NaN" in problem({**weights, "bn1.bias": torch.full((64,), torch.nan)})
    assert "resnet50: it lacks layer1.0.conv3.weight" in problem(weights, "resnet50")


def test_arch_must_exist_and_agree_with_the_file(tiny_checkpoint):
    with pytest.raises(UserError, match="no classifier 'resnet49'"):
        load_extractor("resnet49", tiny_checkpoint)
    with pytest.raises(UserError, match="is a shufflenet_v2_x0_5, but --arch says resnet18"):
        load_extractor("resnet18", tiny_checkpoint)


def test_offline_says_which_file_to_put_where(monkeypatch, tmp_path):
    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    with pytest.raises(UserError, match=r"resnet50-0676ba61\.pth") as error:
        load_extractor()
    message = str(error.value)
    assert str(tmp_path / "checkpoints" / "resnet50-0676ba61.pth") in message
    assert "--model_file" in message


def test_imagenet_weights_come_from_the_hub_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = build_network("squeezenet1_1", 1000).state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    extractor = load_extractor("squeezenet1_1")
    assert torch.equal(extractor.network.classifier[1].weight, weights["classifier.1.weight"])


def test_options_name_the_file(tmp_path):
    layout = Layout("demo", tmp_path)
    folder = tmp_path / "models"
    for name in ("madry/imagenet_linf_4.pt", "free_adv/model_best.pth.tar", "free_adv/other.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    own = folder / "madry" / "imagenet_linf_4.pt"
    assert weights_path(layout, 0, "free_adv", None) is None
    assert weights_path(layout, 0, "free_adv", str(own)) == own
    assert weights_path(layout, 1, "madry", None) == own
    assert weights_path(layout, 1, "free_adv", None) == folder / "free_adv" / "model_best.pth.tar"
    assert weights_path(layout, 1, "free_adv", "other.pt") == folder / "free_adv" / "other.pt"
    with pytest.raises(UserError, match=r"no checkpoint at .*arp"):
        weights_path(layout, 1, "arp", None)
