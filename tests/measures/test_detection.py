"""``audits.detection`` on an ordinary attack and on one that evades the detector."""

import numpy as np
import pytest
import torch

from src.artifacts.classes import read_classes
from src.artifacts.layout import Layout
from src.extractors.architectures import build_network
from src.extractors.checkpoints import save_extractor
from src.extractors.extractor import Extractor
from src.measures.detection import COLUMNS, read_detection
from tests.defences.test_preprocess import script
from tests.pictures import draw_pictures

N_IMAGES = 230
DETECTORS = ("neighbours:k=3", "squeeze:bits:n=3")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Small pictures after stage 1, and options that attack the smallest class."""
    root = tmp_path_factory.mktemp("shop")
    layout = Layout("shop", root)
    draw_pictures(layout.images, N_IMAGES, cells=4, side=16)
    torch.manual_seed(0)
    network = build_network("cifar_resnet8", 10)
    save_extractor(
        root / "plain.pt",
        Extractor(network.eval(), [f"kind {n}" for n in range(10)], "linear", arch="cifar_resnet8"),
    )
    assert script("classify_extract", root) == 0
    (original,) = layout.data.glob("*original/classes.csv")
    counts = np.bincount(read_classes(original).classes, minlength=10)
    few = int(np.where(counts > 0, counts, N_IMAGES).argmin())
    return root, ["--origin_class", few, "--target_class", (few + 1) % 10, "--nb_iter", 5]


def test_detectors_on_ordinary_and_evading_attacks(shop, capsys):
    root, attack = shop
    for evade in ([], ["--evade", DETECTORS[0]]):
        assert script("classify_extract_attack", root, *attack, *evade) == 0
    assert script("audits.detection", root, "--detector", *DETECTORS) == 0
    path = Layout("shop", root).result("detection.tsv")
    table = read_detection(path)
    assert list(table) == list(COLUMNS) and len(table) == 4
    assert table["auc"].between(0, 1).all()
    assert (table["detected"] <= table["detected_5"]).all()
    assert (table["detected_5"] <= table["detected_10"]).all()
    own = table[table["detector"] == DETECTORS[0]].set_index("evades")
    assert own.loc[DETECTORS[0], "detected"] <= own.loc["", "detected"]
    assert own.loc[DETECTORS[0], "auc"] <= own.loc["", "auc"]
    assert own.loc[DETECTORS[0], "attack"].endswith("_evade-neighbours-k3")
    capsys.readouterr()
    assert script("audits.detection", root, "--detector", *DETECTORS) == 0
    assert "detection.tsv is up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("audits.detection", ["--detector", "lid"], "no detector 'lid'"),
        ("audits.detection", ["--preprocess", "jpeg"], "a threshold is read from clean images"),
        ("audits.detection", ["--resize", "8"], "resize"),
        ("audits.detection", ["--experiments", "fgsm_1_2_eps4.0_it1_linf"], "no attacked experiment"),
        ("classify_extract_attack", ["--evade", "squeeze:none"], "a squeeze changes images"),
        ("classify_extract_attack", ["--attack_type", "margin", "--evade", "neighbours"], "cannot foll"),
        ("classify_extract_attack", ["--evade", "neighbours", "--fidelity", "paper"], "on pixels"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line(shop, capsys, name, arguments, message):
    root, attack = shop
    attack = attack if name == "classify_extract_attack" else []
    assert script(name, root, *attack, *arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1] and said[-1].startswith("error: ")
