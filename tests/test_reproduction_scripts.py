"""The scripts in ``reproduce/``: how their options become entries of studies.

They run in a copy of the folder whose ``study.sh`` says what it was asked for.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("apr", "arp", "catalogue", "demo", "robdml", "robust_extractors", "semsim", "var")
STUDY = "printf '%q ' study \"$@\"; echo\n"
PAIRS = ("--origin_class 7 --target_class 9", "--origin_class 1 --target_class 2")
SETUP = f"python() {{ printf '%s\\n' {' '.join(map(shlex.quote, PAIRS))}; }}\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    here = tmp_path / "copy of VAR" / "reproduce"
    here.mkdir(parents=True)
    for path in (ROOT / "reproduce").glob("*.sh"):
        shutil.copy(path, here)
    (here / "study.sh").write_text(STUDY)
    (here / "setup.sh").write_text(SETUP)
    (here.parent / "download_datasets.sh").write_text('echo download "$@"')
    return here.parent


def call(folder: Path, command: str, expect: int = 0) -> str:
    """What ``bash reproduce/<command>`` prints, of which errors come alone."""
    words = shlex.split(command)
    run = subprocess.run(
        ["bash", f"reproduce/{words[0]}.sh", *words[1:]], cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == expect, run.stderr
    if expect:
        assert re.fullmatch(r"error: [^\n]+\n", run.stderr)
        return run.stderr
    assert run.stderr == ""
    return run.stdout


def studies(output: str) -> list[list[str]]:
    """The arguments of each call of ``study.sh``."""
    lines = output.splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("study ")]


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_head_of_the_script(folder, name):
    text = call(folder, f"{name} --help")
    assert f"  bash reproduce/{name}.sh" in text and "[-- options of snakemake]" in text
    assert "set -e" not in text and "#" not in text.replace("C#", "")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("robdml", "--dataset is missing"),
        ("robdml --data", "--data needs a value"),
        ("robdml --dataset cub --speed 3", "unknown option --speed"),
        ("robdml fashion", "unknown option fashion"),
        ("apr --short 1", "unknown option 1"),
        ("demo 7", "unknown option 7"),
        ("var", "name a data set"),
        ("var amazon_men --cw 1", "unknown option --cw"),
        ("semsim --dataset mnist", "--dataset must be"),
        ("catalogue --name shop", "--images is missing"),
        ("robust_extractors --dataset shop --origin 3", "--origin and --target belong together"),
    ],
)
def test_a_wrong_option_is_one_line(folder, command, message):
    assert message in call(folder, command, expect=2)


def test_options_become_entries(folder):
    output = call(folder, "robdml --dataset fashion --budget small --seeds 3 -- --dry-run -p")
    expected = [
        "robdml",
        "--config",
        "dataset=fashion",
        "budget=small",
        "seeds=3",
        "--dry-run",
        "-p",
    ]
    assert studies(output) == [expected]
    assert studies(call(folder, 'var tradesy --epochs 9 --seeds "0 1"')) == [
        ["var", "--config", "dataset=tradesy", "epoch=9", "seeds=0 1"]
    ]
    assert studies(call(folder, "demo")) == [["demo"]]
    output = call(folder, "apr --short --seeds 0")
    assert "download movielens-500" in output
    assert studies(output) == [["apr", "--config", "seeds=0", "tables=apr"]]


def test_paths_are_absolute_and_words_of_a_shell(folder):
    (folder / "my data.npz").touch()
    ((name, _, *entries),) = studies(call(folder, "robdml --dataset fashion --data 'my data.npz'"))
    (data,) = (entry.removeprefix("data=") for entry in entries if entry.startswith("data="))
    assert name == "robdml" and shlex.split(data) == [str(folder / "my data.npz")]


def test_the_demo_set_takes_the_place_of_what_is_missing(folder):
    output = call(folder, "arp --budget small --gpu -1 --units 3")
    assert "no CIFAR-10 at data/cifar10: the demo set's pictures take its place" in output
    of_both = ["--config", "budget=small", "gpu=-1"]
    assert studies(output) == [
        ["arp", *of_both, "pictures=demo", "units=3"],
        ["arp_catalogue", *of_both],
    ]
    assert studies(call(folder, "semsim")) == [["semsim", "--config", "pictures=demo"]]
    (folder / "cifar.npz").touch()
    (folder / "data/cifar100").mkdir(parents=True)
    arp, _ = studies(call(folder, "arp --data cifar.npz --test cifar.npz"))
    assert "train_part=all" in arp and "test_part=all" in arp and "pictures=demo" not in arp
    ((_, _, *semsim),) = studies(call(folder, "semsim --dataset cifar100 --semsim cifar.npz"))
    assert semsim[0] == "pictures=cifar100"
    assert semsim[1].startswith("metrics=mse psnr ssim semsim --semsim ")


def test_the_classes_to_attack_are_suggested_after_the_clean_lists(folder):
    labels = folder / "labels.csv"
    labels.write_text("item,category\n")
    (folder / "data/shop").mkdir(parents=True)
    output = call(
        folder,
        "robust_extractors --dataset shop --labels labels.csv --epochs 5 --pretrained none "
        "--attack_eps '4 8'",
    )
    first, second = studies(output)
    assert first[:2] == ["robust_extractors", "clean_lists"]
    assert {"origin=0", "target=1"} <= set(first)
    assert {"origin=7", "target=9", "epochs=5", "free_epochs=20", "pretrained="} <= set(second)
    (attacks,) = (entry for entry in second if entry.startswith("attacks="))
    assert attacks.count("--eps 4") == attacks.count("--eps 8") == 2
    assert "category 7, to look like 9" in output
    assert (folder / "data/shop/items.csv").read_text() == labels.read_text()
