"""Attackers who know less in ``reproduce/promotion.sh``: which studies they need, and what these attack.

The studies are recorded, and name the experiments that the workflow would make.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.project.test_reproduction_scripts import ROOT, call

pytest.importorskip("yaml")

RECORD = """
import json, os, sys
from pathlib import Path
import yaml
from reproduce.workflow.catalogue import CatalogueStudy
from reproduce.workflow.entries import Entries

entries = json.loads(Path(os.environ["STUDY_ENTRIES"]).read_text())
file = yaml.safe_load((Path("reproduce/studies") / f"{sys.argv[1]}.yaml").read_text())
study = CatalogueStudy.of(Entries.of(file | entries))
(looking,) = study.extractors
call = {
    "arguments": sys.argv[1:], "extractor": looking.name, "options": looking.options,
    "recommenders": study.recommenders, "attacks": list(study.attack_options),
}
with open("calls.json", "a") as calls:
    print(json.dumps(call), file=calls)
if "attacked" in sys.argv:
    for attack in study.attack_options:
        folder = Path("data", study.dataset, looking.prefix + attack)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "attack.tsv").write_text("image\\tsuccess\\n3\\t1\\n5\\t0\\n")
        print(folder.name)
"""
COMMAND = (
    "promotion --name shop --images . --train a --test b --arch squeezenet1_1 --weights w --origin 4 "
    "--target 7 --eps '2 8' --items 6 --budget small"
)
BY_RANK = "rank_eps8.0_nb_iter30_linf_VBPR-ep100-lr0.05"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "reproduce").mkdir()
    for path in (ROOT / "reproduce").glob("*.sh"):
        shutil.copy(path, tmp_path / "reproduce")
    for name in ("reproduce/workflow", "reproduce/studies", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "record.py").write_text(RECORD)
    recorded = f'PYTHONPATH=. {shlex.quote(sys.executable)} record.py "$@"'
    (tmp_path / "reproduce" / "study.sh").write_text(recorded)
    (tmp_path / "mobilenet.pth").touch()
    return tmp_path


def recorded(folder: Path, command: str) -> list[dict]:
    call(folder, command)
    return [json.loads(line) for line in (folder / "calls.json").read_text().splitlines()]


def test_without_further_threats_the_study_is_run_once(folder):
    (only,) = recorded(folder, f"{COMMAND} --threats none")
    assert only["arguments"] == ["promotion"] and only["recommenders"] == ["VBPR", "AMR"]
    assert only["attacks"][0] == "noise_4_7_eps8.0_linf_n6"
    assert f"annealed_4_{BY_RANK}_n6" in only["attacks"]


def test_jpeg_and_questions_are_studies_of_their_own(folder):
    first, *others, last = recorded(folder, f"{COMMAND} --queries '64 100' --few 2")
    assert first["arguments"] == ["promotion", "attacked"]
    assert last["arguments"] == ["promotion", "--forcerun", "promotion"]
    assert first["attacks"] == last["attacks"]
    assert (folder / "data/shop/attacked_items.txt").read_text() == "3\n5\n"
    by_extractor = {of["extractor"]: of for of in others}
    rank = f"annealed_ids-attacked-items_{BY_RANK}"
    for quality in (75, 95):
        jpeg = by_extractor[f"jpeg-quality{quality}"]
        assert jpeg["options"].endswith(f"--preprocess jpeg:quality={quality}")
        noise = "noise_ids-attacked-items_7_eps8.0_linf"
        assert jpeg["attacks"] == [noise, rank, f"{rank}_unaware"]
        assert jpeg["recommenders"] == ["VBPR"]
    places = "queries{}_linf_VBPR-ep100-lr0.05_n2"
    assert by_extractor["original"]["attacks"] == [
        "noise_4_7_eps8.0_linf_n2",
        f"annealed_4_{BY_RANK}_n2",
        f"square_4_rank_eps8.0_{places.format(64)}",
        f"square_4_rank_eps8.0_{places.format(100)}",
        f"nes_4_rank_eps8.0_{places.format(100)}",
    ]


def test_networks_judge_what_was_attacked_on_the_other(folder):
    calls = recorded(folder, f"{COMMAND} --threats none --surrogate mobilenet_v2:mobilenet.pth")
    _, surrogate, own, others, _ = calls
    assert surrogate["extractor"] == others["extractor"] == "mobilenet_v2"
    assert str(folder / "mobilenet.pth") in surrogate["options"]
    rank = BY_RANK.removeprefix("rank_")
    assert own["extractor"] == "original" and own["attacks"] == [
        "given_ids-attacked-items_7_eps8.0_linf_of_mobilenet_v2_noise_eps8.0_linf",
        f"given_ids-attacked-items_rank_eps8.0_linf_of_mobilenet_v2_annealed_{rank}",
    ]
    assert others["attacks"] == [
        "given_4_7_eps8.0_linf_of_original_noise_eps8.0_linf_n6",
        f"given_4_rank_eps8.0_linf_of_original_annealed_{rank}_n6",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--threats water", "--threats holds jpeg, ranks or none, not water"),
        ("--queries many", "--queries holds numbers"),
        ("--surrogate mobilenet_v2", "it is ARCH:WEIGHTS with a file"),
        ("--surrogate mobilenet_v2:none.pth", "it is ARCH:WEIGHTS with a file"),
        ("--surrogate squeezenet1_1:mobilenet.pth", "squeezenet1_1 is there already"),
        ("--surrogate a:mobilenet.pth --surrogate a:mobilenet.pth", "a is there already"),
    ],
)
def test_wrong_threats_are_one_line(folder, options, message):
    assert message in call(folder, f"{COMMAND} {options}", expect=2)
    assert not (folder / "calls.json").exists()
