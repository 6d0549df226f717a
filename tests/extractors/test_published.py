"""Table of published networks: against torchvision's records, and one network measured again."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from torchvision import models

from src.artifacts.errors import UserError
from src.attacks.robustness.trials import CHOICES
from src.extractors.published import published_network, published_networks
from src.extractors.zoo import ARCHITECTURES, check_name, is_own, is_timm
from tests.real_data import REAL_DATA
from tests.scripts import run_script


def test_rows_of_torchvision_are_its_own():
    rows = [row for row in published_networks() if row.source.startswith("torchvision")]
    assert len(rows) == 7
    for row in rows:
        weights = next(iter(models.get_model_weights(row.arch)))
        assert row.weights == weights.url and f"-{row.sha256}." in weights.url
        assert row.clean == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]


def test_every_row_can_be_asked_for():
    rows = published_networks()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert published_network(row.name) == row
        assert row.arch in ARCHITECTURES or is_timm(row.arch) or is_own(row.arch)
        assert (row.robust is None) == (row.attack == "") == (row.eps is None)
        assert not row.attack or row.attack in CHOICES
        assert row.licence and row.licence_source
        if row.robust is not None:
            assert 0 < row.robust < row.clean < 100


def test_the_name_of_published_weights_is_no_architecture_and_says_which_it_has():
    said = r"--arch timm:convnext_base --model_file FILE \(from https://drive\.google\.com/uc\?id=10-nSm"
    with pytest.raises(UserError, match=said):
        check_name("Liu2023Comprehensive_ConvNeXt-B")


def test_another_file_is_not_the_published_one(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"weights")
    found = hashlib.sha256(b"weights").hexdigest()
    row = replace(published_network("resnet18"), sha256=found[:8])
    row.check_file(path)
    with pytest.raises(UserError, match=f"begins with {found[:8]}, not f37072fd"):
        published_network("resnet18").check_file(path)


def test_the_list_and_one_line_for_each_mistake(capsys, tmp_path):
    assert run_script("audits.zoo") == 0
    listed = capsys.readouterr().out
    assert all(row.name in listed for row in published_networks())
    for arguments, message in (
        (("--verify", "nothing"), "no network 'nothing'"),
        (("--data", "x"), "--data belongs to --verify"),
        (("--verify", "resnet18"), "needs --model_file FILE and --data PATH"),
        (
            ("--verify", "Rice2020Overfitting", "--model_file", "x", "--data", "x"),
            "authors' network",
        ),
        (("--verify", "resnet18", "--model_file", "no.pt", "--data", "x"), "missing file: no.pt"),
        (("--verify", "vit_small_patch14_dinov2.lvd142m"), "has no published accuracy"),
    ):
        assert run_script("audits.zoo", *arguments) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(not REAL_DATA.exists(), reason="needs the shared data")
def test_a_network_is_measured_again(monkeypatch, capfd, tmp_path):
    """The first table of the audit holds the two rows that the list publishes."""
    monkeypatch.chdir(Path(__file__).parents[2])
    images = REAL_DATA / "cifar10_lossless_200.npz"
    weights = REAL_DATA / "weights" / "cifar_resnet2b_adv.pth"
    options = ["--verify", "resnet2b", "--data", images, "--part", "all", "--model_file", weights]
    options += ["--gpu", -1, "--out", tmp_path / "table.tsv", "--max_images", 50]
    assert run_script("audits.zoo", *options) == 0
    clean, attacked = capfd.readouterr().out.strip().splitlines()[-2:]
    assert clean.startswith("clean: ") and "of 50 images" in clean and "published 69.25 %" in clean
    assert attacked.startswith("pgd20: ") and "published 54.82 %" in attacked
