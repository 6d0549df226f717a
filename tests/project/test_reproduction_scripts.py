"""Scripts in ``reproduce/``: their options become entries of studies.

They run in a copy of the folder whose ``study.sh`` records its calls.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
NAMES = (
    "apr",
    "arp",
    "catalogue",
    "demo",
    "promotion",
    "robdml",
    "robust_extractors",
    "semsim",
    "var",
)
STUDY = """printf 'study\\t%s\\t%s\\n' "$(printf '%q ' "$@")" "$(cat "$STUDY_ENTRIES")"
"""
PAIRS = (
    "--origin_class 7 --target_class 9 --defense 0 # sandal, to look like running shoe, trainer",
    "--origin_class 1 --target_class 2 --defense 0 # a, to look like b",
)
SETUP = f"""[ "${{1:-requirements.txt}}" = requirements.txt ] || exit 9
python() {{ printf '%s\\n' "called: $*" {" ".join(map(shlex.quote, PAIRS))}; }}
"""


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


def started(folder: Path, command: str) -> subprocess.CompletedProcess:
    script, *options = shlex.split(command)
    words = ["bash", f"reproduce/{script}.sh", *options]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def call(folder: Path, command: str, expect: int = 0) -> str:
    """Run ``bash reproduce/<command>``; return its output, or only the error."""
    run = started(folder, command)
    assert run.returncode == expect, run.stderr
    if expect:
        assert re.fullmatch(r"error: [^\n]+\n", run.stderr)
        return run.stderr
    assert run.stderr == ""
    return run.stdout


class Call(NamedTuple):
    """Arguments and entries of a call of ``study.sh``."""

    arguments: list[str]
    entries: dict[str, Any]


def studies(output: str) -> list[Call]:
    """Return the calls of ``study.sh``."""
    lines = (line.split("\t") for line in output.splitlines() if line.startswith("study\t"))
    return [Call(shlex.split(arguments), json.loads(entries)) for _, arguments, entries in lines]


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
        ("catalogue --name shop --images a", "--interactions is missing"),
        ("catalogue --name shop --images a --train b", "--test is missing"),
        (
            "catalogue --name s --images a --interactions b --origin 3",
            "--origin and --target belong",
        ),
        ("catalogue --name s --images a --interactions b --items few", "--items must be a whole"),
        (
            "catalogue --name s --images a --interactions b --budget big",
            "--budget is full or small",
        ),
        ("robdml --dataset fashion --gpu all", "--gpu is the number of a GPU"),
        ("catalogue --name s --images a --interactions b --weights c.pth", "there is no such file"),
        ("defences --name shop --images a --train b", "--test is missing"),
        ("defences --name s --images a --train b --test c --items 0", "--items must be a whole"),
        ("defences --name s --images a --train b --test c --eps much", "--eps holds grey levels"),
        (
            "defences --name s --images a --train b --test c --budget huge",
            "--budget is full or small",
        ),
        (
            "defences --name s --images a --train b --test c -- -n",
            "it takes no options of snakemake",
        ),
        ("robust_extractors --dataset shop --origin 3", "--origin and --target belong together"),
        ("robust_extractors --dataset shop --epochs abc", "--epochs must be a whole number"),
        ("robust_extractors --dataset shop --labels none.csv", "there is no file none.csv"),
        ("robust_extractors --dataset shop --labels reproduce/apr.sh", "no data set at data/shop"),
    ],
)
def test_a_wrong_option_is_one_line(folder, command, message):
    assert message in call(folder, command, expect=2)


def test_options_become_entries(folder):
    output = call(folder, "robdml --dataset 2024_05 --budget small --seeds 3 -- --dry-run -p")
    expected = {"dataset": "2024_05", "budget": "small", "seeds": "3"}
    assert studies(output) == [(["robdml", "--dry-run", "-p"], expected)]
    assert studies(call(folder, 'var tradesy --epochs 9 --seeds "0 1"')) == [
        (["var"], {"dataset": "tradesy", "epoch": "9", "seeds": "0 1"})
    ]
    assert studies(call(folder, "demo")) == [(["demo"], {})]
    output = call(folder, "apr --short --seeds 0")
    assert "download movielens-500" in output
    assert studies(output) == [(["apr"], {"seeds": "0", "tables": "apr"})]
    assert not list(folder.glob(".snakemake/*"))


def test_defences_are_prepared_evaluated_and_shown(folder):
    command = (
        'defences --name shop --images "my images" --train a.tsv --test b.tsv --eps "4 8" --items 9'
    )
    lines = call(folder, command).splitlines()
    prepared, evaluated, page = (line for line in lines if line.startswith("called: "))
    assert f"--images {folder}/my images --train {folder}/a.tsv" in prepared
    assert "evaluate --catalogue shop --budget small --gpu -1 --suite items=9 eps=4 8" in evaluated
    assert "--out results/shop/defences.md --table results/shop/defences.tsv" in page
    output = call(
        folder,
        "defences --name shop --images i --train a --test b --budget full --entries 'undefended amr' "
        "--arch resnet18 --weights w.pth --cores 4",
    )
    assert (
        "evaluate undefended amr --catalogue shop --budget full --gpu 0 --set arch=resnet18 "
        f"weights={folder}/w.pth --cores 4"
    ) in output


def test_interactions_of_ones_own_are_prepared_first(folder):
    for name in ("trainingset.tsv", "testset.tsv", "validationset.tsv"):
        (folder / name).touch()
    output = call(folder, "apr --data .")
    assert f"--train {folder}/trainingset.tsv --test {folder}/testset.tsv" in output
    assert f"--validation {folder}/validationset.tsv" in output
    assert studies(output) == [(["apr"], {})]


@pytest.mark.parametrize("name", ["my data.npz", 'it\'s "quoted" #1 \\ $x.npz', "Möbel.npz"])
def test_paths_are_absolute_and_words_of_a_shell(folder, name):
    (folder / name).touch()
    quoted = shlex.quote(name)
    (of_robdml,) = studies(call(folder, f"robdml --dataset fashion --data {quoted}"))
    assert shlex.split(of_robdml.entries["data"]) == [str(folder / name)]


def test_the_demo_set_takes_the_place_of_what_is_missing(folder):
    output = call(folder, "arp --budget small --gpu -1 --units 3")
    assert "no CIFAR-10 at data/cifar10: the demo set's pictures take its place" in output
    of_both = {"budget": "small", "gpu": "-1"}
    assert studies(output) == [
        (["arp"], of_both | {"units": "3", "pictures": "demo"}),
        (["arp_catalogue"], of_both),
    ]
    assert studies(call(folder, "semsim")) == [(["semsim"], {"pictures": "demo"})]
    (folder / "cifar.npz").touch()
    (folder / "data/cifar100").mkdir(parents=True)
    arp, _ = studies(call(folder, "arp --data cifar.npz --test cifar.npz"))
    assert arp.entries.keys() == {"data", "test", "train_part", "test_part"}
    (semsim,) = studies(call(folder, "semsim --dataset cifar100 --semsim cifar.npz"))
    assert semsim.entries == {"pictures": "cifar100", "semsim": f"'{folder / 'cifar.npz'}'"}


def test_the_classes_to_attack_are_suggested_after_the_clean_lists(folder):
    labels = folder / "labels.csv"
    labels.write_text("item,category\n")
    (folder / "data/shop").mkdir(parents=True)
    command = (
        "robust_extractors --dataset shop --labels labels.csv --epochs 5 --pretrained none "
        "--attack_eps '4 8'"
    )
    output = call(folder, command)
    first, second = studies(output)
    given = {"dataset": "shop", "epochs": "5", "free_epochs": "20", "pretrained": ""}
    given["attacks"] = [
        f"{kind} --eps {eps}"
        for eps in (4, 8)
        for kind in ("--attack_type pgd", "{rank}", "--attack_type noise")
    ]
    assert first == (["robust_extractors", "clean_lists"], given | {"origin": "0", "target": "1"})
    assert second == (["robust_extractors"], given | {"origin": "7", "target": "9"})
    assert "classes 7 and 9 are attacked: sandal, to look like running shoe, trainer\n" in output
    assert (folder / "data/shop/items.csv").read_text() == labels.read_text()
    output = call(folder, f"{command} -- --dry-run")
    assert len(studies(output)) == 1 and "chosen once these lists are there" in output


def test_photos_and_orders_are_all_that_a_shop_needs(folder):
    command = 'catalogue --name shop --images "my photos" --interactions o.csv --gpu -1'
    output = call(folder, command)
    (prepared,) = (line for line in output.splitlines() if line.startswith("called: "))
    tables = f"--images {folder}/my photos --interactions {folder}/o.csv"
    assert prepared == f"called: prepare_dataset.py folder --dataset shop {tables}"
    given = {
        **{"dataset": "shop", "budget": "small", "gpu": "-1"},
        "network": "--arch resnet50 --resize 224",
        "start": "--pretrained imagenet --arch resnet50 --size 224",
    }
    assert studies(output) == [
        (["catalogue", "clean_lists"], given | {"origin": "0", "target": "1"}),
        (["catalogue"], given | {"origin": "7", "target": "9"}),
    ]
    output = call(folder, f"{command} -- --dry-run")
    assert len(studies(output)) == 1 and "chosen once these lists are there" in output


def test_classes_too_small_to_choose_from_are_named(folder):
    reason = "fewer than two classes have 10 items (--min_items); the largest: 608 jean (10)"
    setup = f"python() {{ [[ $1 != evaluate_rec.py ]] || printf '%s\\n' table '{reason}'; }}\n"
    (folder / "reproduce" / "setup.sh").write_text(setup)
    error = call(folder, "catalogue --name shop --images i --interactions o --gpu -1", expect=2)
    assert error == f"error: {reason}: name two of them with --origin and --target\n"


def test_a_shop_names_weights_tables_and_categories(folder):
    (folder / "w.pth").touch()
    output = call(
        folder,
        "catalogue --name shop --images i --train a --test b --arch resnet18 --weights w.pth "
        "--categories c.csv --origin sandals --target 'sports shoes' --items 9 --seeds '4 5' --quick "
        "--gpu 0",
    )
    tables = f"--train {folder}/a --test {folder}/b --categories {folder}/c.csv"
    assert f"--images {folder}/i {tables}" in output
    assert studies(output) == [
        (
            ["catalogue"],
            {
                **{"dataset": "shop", "budget": "full", "gpu": "0", "defences": "quick"},
                "network": f"--arch resnet18 --model_file '{folder}/w.pth'",
                **{"origin_items": "--items class:9", "classes": "shop"},
                **{"seeds": "4 5", "score_seed": "4"},
                **{"origin": "sandals", "target": "sports shoes"},
            },
        )
    ]


def test_bad_orders_stop_a_shop_before_the_first_job(folder):
    fails = 'python() { echo "error: o.csv, line 3" >&2; return 2; }'
    (folder / "reproduce/setup.sh").write_text(f"{fails}\n")
    command = "catalogue --name shop --images i --interactions o.csv"
    assert call(folder, command, expect=2) == "error: o.csv, line 3\n"


@pytest.fixture
def whole(folder) -> Path:
    """Folder with all files that a dry run needs."""
    for path in ("study.sh", "Snakefile"):
        shutil.copy(ROOT / "reproduce" / path, folder / "reproduce")
    for path in (
        "reproduce/rules",
        "reproduce/workflow",
        "reproduce/studies",
        "reproduce/profiles",
        "src",
    ):
        (folder / path).symlink_to(ROOT / path)
    programs = Path(sys.executable).parent
    (folder / "reproduce/setup.sh").write_text(f'export PATH="{programs}:$PATH"\n')
    return folder


@pytest.mark.parametrize(
    "named", ["", "--workflow-profile reproduce/profiles/slurm", "--profile=m"]
)
def test_snakemake_reads_a_profile_only_if_one_is_named(whole, named):
    with (whole / "reproduce/setup.sh").open("a") as setup:
        setup.write('snakemake() { echo "options: $*"; }\nexec() { "$@"; }\n')
    output = call(whole, f"study demo {named} clean_lists")
    usual = "--workflow-profile none --cores all --resources gpu=1 "
    assert (usual in output) == (not named)
    assert output.endswith(f"--nolock {named + ' ' if named else ''}clean_lists\n")


@pytest.mark.slow
def test_entries_reach_the_commands_of_the_study(whole):
    pytest.importorskip("snakemake")
    shop = whole / "data/1e5"
    shop.mkdir(parents=True)
    for name in ("trainingset.tsv", "testset.tsv"):
        (shop / name).touch()
    dry = "-- --dry-run --printshellcmds"
    output = run_dry(
        whole,
        f"robust_extractors --dataset {shop.name} --budget small --pretrained none --epochs 2 "
        f"--origin 3 --target 4 {dry} --config embedder_epochs=7",
    )
    assert f"--recipe hm --arch c2f2+512 --epochs 7 --batch 32 --data data/{shop.name}" in output
    assert "--pretrained" not in output and "--epochs 8 --replays 4" in output
    pictures = whole / "it's.npz"
    pictures.touch()
    output = run_dry(whole, f"robdml --dataset fashion --data \"it's.npz\" --seeds '0 2' {dry}")
    assert f"--data {shlex.quote(str(pictures))} --precision fp32 --seed 2" in output
    assert output.count("train_extractor.py") == output.count("audits.rankings") == 10


def run_dry(folder: Path, command: str) -> str:
    run = started(folder, command)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr
