"""Studies: their files, the names they expect, and the workflow, killed, restarted and submitted.

The workflow runs with a stand-in for ``python``, which writes the files of each script.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from time import sleep

import numpy as np
import pandas as pd
import pytest

from reproduce.workflow.catalogue import CatalogueStudy, power, studies_of
from reproduce.workflow.duration import changed_entries, expected_duration, minutes_left
from reproduce.workflow.entries import Entries
from reproduce.workflow.leaks import Inversion, Leaks
from reproduce.workflow.recommenders import Part, runs_of
from src.artifacts.errors import UserError
from tests.warm_python import WarmPython

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "stand_in.py"
UP_TO_DATE = "\nall results are up to date\n"
STUDIES = ROOT / "reproduce" / "studies"
SMALL = {
    "dataset": "small",
    "prepare": "demo",
    "origin": 0,
    "target": 1,
    "extractors": {"original": {"options": "--defense 0"}},
    "attacks": ["--attack_type fgsm --eps 4"],
    "recommenders": ["VBPR"],
    "epoch": 2,
    "seeds": [0],
}
"""Nine jobs."""
PAIR = {"origin": 3, "target": 4}
EXTRACTORS = SMALL["extractors"] | {"b": {"options": "--defense 1 --model_dir b"}}

SLURM = '''#!{python}
"""sbatch, srun, sacct, sinfo and scancel of a cluster of one node, this machine."""

import os, subprocess, sys
from pathlib import Path

folder, command = Path("{folder}"), Path(sys.argv[0]).name
if command == "sbatch":
    number = os.getpid()  # jobs are submitted at once, and each needs a number of its own
    script = next(word for word in sys.argv if word.startswith("--wrap=")).removeprefix("--wrap=")
    job = folder / f"job_{{number}}"
    job.write_text(" ".join(sys.argv[1:]))
    state = f"{{job}}.state"
    run = f"({{script}}) > {{job}}.out 2>&1 && echo COMPLETED > {{state}} || echo FAILED > {{state}}"
    environment = os.environ | {{"SLURM_JOB_ID": str(number), "SLURM_CPUS_PER_TASK": "1"}}
    subprocess.Popen(["bash", "-c", run], env=environment, start_new_session=True)
    print(number)
elif command == "srun":
    first = next(i for i, word in enumerate(sys.argv) if i and Path(word).name.startswith("python"))
    sys.exit(subprocess.call(sys.argv[first:]))
elif command == "sacct":
    for job in folder.glob("job_*[0-9]"):
        state = Path(f"{{job}}.state")
        print(f"{{job.name[4:]}}|{{state.read_text().strip() if state.exists() else 'RUNNING'}}")
elif command == "sinfo":
    print("PARTITION\\nlocal*")
'''


def script(path: Path, text: str, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(python=sys.executable, root=ROOT, **values))
    path.chmod(0o755)


class Place:
    """Folder in which studies run, and the commands that they ran there."""

    def __init__(self, folder: Path, python: WarmPython, *words: object) -> None:
        """Let ``python *words`` stand for ``python``."""
        self.folder = folder
        self.python = python.program
        self.programs = folder / "programs"
        python.write(self.programs / "python", *words)

    def start(self, python: str, study: Path, *options: str) -> subprocess.Popen:
        command = [python, "-m", "snakemake", "--snakefile", ROOT / "reproduce/Snakefile"]
        command += ["--configfile", study, "--directory", self.folder, "--cores", "2", "--nolock"]
        path = {"PATH": f"{self.programs}:{os.environ['PATH']}"}
        return subprocess.Popen(
            [*map(str, command), *options],
            env=os.environ | path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, study: Path, *options: str, expect: int = 0) -> str:
        process = self.start(self.python, study, *options)
        output, _ = process.communicate()
        assert process.returncode == expect, output
        return output

    def small(self, **entries: object) -> Path:
        """Write the file of a small study."""
        return self.written("small", SMALL | entries)

    def written(self, name: str, study: dict) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(study))
        return path

    def notes(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def verbs(self) -> Counter[str]:
        return Counter(call.split()[0] for call in self.notes("calls.txt"))

    @property
    def artifacts(self) -> set[Path]:
        """Return all files that the scripts wrote."""
        files = (path.relative_to(self.folder) for path in self.folder.glob("[!.]*/**/*.*"))
        return {path for path in files if path.parts[0] != "programs" and path.suffix != ".log"}


@pytest.fixture
def place(tmp_path, python) -> Place:
    """Place in which the scripts leave files and do nothing else."""
    pytest.importorskip("snakemake")
    return Place(tmp_path, python, STAND_IN)


def read_study(name: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((STUDIES / f"{name}.yaml").read_text())


def test_names_are_the_published_ones():
    study = CatalogueStudy.of(Entries.of(read_study("var")))
    assert [extractor.prefix for extractor in study.extractors] == ["", "madry_", "free_adv_"]
    assert list(study.attack_options)[2:6] == [
        "pgd_774_770_eps4.0_eps_it4.0_nb_it10_linf",
        "pgd_774_770_eps8.0_eps_it8.0_nb_it10_linf",
        "cw_774_770_conf0_lr0.005_c0.01_max_it1000",
        "noise_774_770_eps4.0_linf",
    ]
    assert study.retrained_attacks == list(study.attack_options), "noise is the control of both"
    assert study.list_endings([0, 1])[:2] == ["_top150_ep4000_VBPR", "_top150_ep4000_VBPR_seed1"]
    assert study.list_endings([2], "test_time")[1] == "_top150_ep4000_AMR_testtime_seed2"
    assert study.weight_endings(["{seed}"]) == ["_step4000_VBPR{seed}", "_step4000_AMR{seed}"]


def test_a_study_may_search_for_the_options_of_its_recommenders():
    """Names show the grid, since a study knows them before a search has chosen."""
    searched = {"recommender_options": '--batch_size 64 --search "lr=0.05 0.02" regs=0'}
    with pytest.raises(
        UserError, match=r"--search chooses by validation rows, which .* demo does not"
    ):
        CatalogueStudy.of(Entries.of(SMALL | searched))
    tables = {"prepare": "interactions --interactions a.csv --validation_split"}
    study = CatalogueStudy.of(Entries.of(SMALL | searched | tables))
    assert study.list_endings([1]) == ["_top150_ep2_VBPR_batch64_search-lr0.02-0.05-regs0_seed1"]
    assert "data/small/validationset.tsv" in study.prepared


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("var", {}),
        ("demo", {}),
        (
            "catalogue",
            {
                **{"dataset": "shop", "origin": 3, "target": 4, "network": "--arch resnet18"},
            },
        ),
    ],
)
def test_every_attack_has_noise_of_its_size_under_both_protocols(name, given):
    (study, *_) = studies_of(Entries.of(read_study(name) | given)).values()
    pair = "_".join(map(str, study.pairs[0]))
    without_budget = [attack for attack in study.attack_options if attack.startswith("cw_")]
    assert len(without_budget) == (name == "var")
    for cw in without_budget:
        noise = cw.replace(f"cw_{pair}", f"noise_{pair}_like_cw")
        assert study.resembled("madry_", noise) == [f"data/{study.dataset}/madry_{cw}/attack.tsv"]
        assert noise in study.attack_options and study.resembled("", cw) == []
        assert (noise in study.retrained_attacks) == (cw in study.retrained_attacks)
    for attack in study.attack_options:
        if attack.startswith(("pgd_", "fgsm_")):
            control = f"noise_{pair}_eps{re.search(r'eps([0-9.]+)', attack)[1]}_linf"
            assert control in study.attack_options
            assert control in study.retrained_attacks or attack not in study.retrained_attacks


def test_noise_like_a_kind_needs_one_attack_of_it():
    noise = "--attack_type noise --like ddn"
    with pytest.raises(UserError, match="--like ddn: 0 attacks of the study"):
        CatalogueStudy.of(Entries.of(SMALL | {"attacks": [noise]}))
    two = [noise, "--attack_type ddn", "--attack_type ddn --steps 5"]
    with pytest.raises(UserError, match="--like ddn: 2 attacks of the study"):
        CatalogueStudy.of(Entries.of(SMALL | {"attacks": two}))


def test_pairs_and_attack_seeds_are_crossed_with_the_attacks():
    """FGSM draws nothing, so that it is made once; noise like a drawn attack has its seed."""
    entries = {name: value for name, value in SMALL.items() if name not in ("origin", "target")}
    entries |= {
        "pairs": ["0 1", "2 3"],
        "attack_seeds": [0, 1],
        "placebos": ["reversed", "displaced"],
        "attacks": [
            "--attack_type fgsm --eps 4",
            "--attack_type pgd --eps 4",
            "--attack_type noise --like pgd",
        ],
    }
    study = CatalogueStudy.of(Entries.of(entries))
    pgd = "eps4.0_eps_it4.0_nb_it10_linf"
    names = [
        f"{name.replace('#', pair)}"
        for pair in ("0_1", "2_3", "1_0", "3_2")
        for name in (
            "fgsm_#_eps4.0_it1_linf_XX",
            f"pgd_#_{pgd}",
            f"pgd_#_{pgd}_seed1",
            f"noise_#_like_pgd_{pgd}",
            f"noise_#_like_pgd_{pgd}_seed1_seed1",
        )
    ]
    assert [name.replace("_it1_linf_XX", "") for name in study.attack_options] == [
        name.replace("_it1_linf_XX", "") for name in names
    ]
    assert study.compared == "--pairs 0:1 2:3 --placebos 1:0 3:2 --displaced "
    other = CatalogueStudy.of(Entries.of(entries | {"placebos": ["0 7"]}))
    assert other.compared == "--pairs 0:1 2:3 --placebos 0:7 "
    assert f"pgd_0_7_{pgd}" in other.attack_options
    liked = f"data/small/pgd_1_0_{pgd}_seed1/attack.tsv"
    assert study.resembled("", f"noise_1_0_like_pgd_{pgd}_seed1_seed1") == [liked]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"placebos": ["turned"]}, "placebos: 'turned' is no origin and target class"),
        ({"pairs": ["0 1"]}, "a study with pairs has no other classes"),
        ({"pairs": ["0"], "origin": None, "target": None}, "'0' is no origin and target class"),
        ({"pairs": ["0 1", "0 1"], "origin": None, "target": None}, "one of them is there twice"),
        (
            {"pairs": ["0 1", "1 0"], "placebos": ["reversed"], "origin": None, "target": None},
            "or the reverse of a pair, is among the pairs",
        ),
    ],
)
def test_impossible_pairs_are_refused(entries, said):
    study = {name: value for name, value in (SMALL | entries).items() if value is not None}
    with pytest.raises(UserError, match=said):
        CatalogueStudy.of(Entries.of(study))


def test_a_study_says_beforehand_what_it_can_tell():
    assert "no net effect gets an interval" in power(1, 1)
    assert "standard deviations between recommender seeds" in power(1, 3)
    trainings = [float(re.search(r"about ([0-9.]+)", power(n, 3))[1]) for n in (2, 3, 5, 10)]
    assert trainings == sorted(trainings, reverse=True) and 0.9 < trainings[-1] < 1.1


def test_attacks_on_lists_are_named_and_wait_for_their_recommender():
    options = "--objective rank --score_model AMR --score_epoch 2 --score_seed 1 --items class:9"
    entries = {
        "attacks": ["--attack_type noise --eps 8 --items class:9"],
        "test_time_attacks": [f"--attack_type apgd --eps 8 {options}"],
        "recommenders": ["VBPR", "AMR"],
        "recommender_options": "--lr 0.05",
        "promotion": True,
        "seeds": [0, 1],
    }
    study = CatalogueStudy.of(Entries.of(SMALL | entries))
    noise, ranked = study.attack_options
    assert study.retrained_attacks == [noise]
    assert ranked.endswith("_rank_eps8.0_nb_iter100_linf_AMR-ep2-lr0.05-seed1_n9")
    assert study.scored_by(ranked) == ["_step2_AMR_lr0.05_seed1"]
    assert study.scored_by(noise) == []


SCORED = "--score_model VBPR --score_epochs 2"
KEPT = {
    "extractors": {"b": EXTRACTORS["b"]},
    "deployed": "original",
    "protocols": ["test_time"],
}


def deploying(place: Place) -> tuple[Path, Path]:
    """Return a study that deploys a recommender, and the folder of its catalogue."""
    data = place.folder / "data/small"
    (data / "original").mkdir(parents=True)
    for name in ("trainingset.tsv", "testset.tsv", "original/features.npy"):
        (data / name).write_text(name)
    return place.small(**KEPT, prepare=""), data


def test_a_deployed_recommender_ranks_what_another_extractor_makes(place):
    study, _ = deploying(place)
    weights = place.folder / "rec_model_weights/small"
    weights.mkdir(parents=True)
    (weights / "original_step2_VBPR.npz").write_text("weights")
    place.run(study)
    calls = [call for call in place.notes("calls.txt") if call.startswith("rec_generator")]
    attacked = "b_fgsm_0_1_eps4.0_it1_linf_XX"
    assert [re.search(r"--experiment_name (\S+)", call)[1] for call in calls] == [
        "b_original",
        attacked,
    ]
    assert all("--deployed original" in call and "--load_weights" not in call for call in calls)
    assert (weights / "b_original_step2_VBPR_of-original.npz").exists()
    lists = {path.stem for path in (place.folder / "rec_results/small").glob("*.tsv")}
    assert f"{attacked}_top150_ep2_VBPR_testtime_of-original" in lists


def test_a_deployed_recommender_must_be_there(place):
    study, data = deploying(place)
    (data / "original/features.npy").unlink()
    output = place.run(study, "--dry-run", expect=2)
    line = (
        "error: there is nothing at data/small/original/features.npy: make first what is deployed"
    )
    assert line in output


def test_names_show_of_which_extractor_a_deployed_recommender_is():
    ranked = f"--attack_type apgd --objective rank --eps 8 --items random:5 {SCORED}"
    study = CatalogueStudy.of(Entries.of(SMALL | KEPT | {"test_time_attacks": [ranked]}))
    (name,) = [name for name in study.attack_options if "rank" in name]
    assert name.endswith("_VBPR-ep2-of-original")
    assert study.scored_by(name) == study.weight_endings([0]) == ["_step2_VBPR_of-original"]
    assert study.list_endings([1], "test_time") == ["_top150_ep2_VBPR_testtime_of-original_seed1"]
    assert study.options_shown == ["of-original"]
    assert study.deployed_files == [
        "data/small/original/features.npy",
        "rec_model_weights/small/original_step2_VBPR.npz",
    ]


def test_bounds_are_proven_after_the_attacks_that_they_must_exceed(place):
    prove = f"--eps 4 --items random:5 {SCORED}"
    study = place.small(bounds=[f"--method ibp {prove}", prove], extractors=EXTRACTORS)
    output = place.run(study, "attacked", "--dry-run", "-p")
    commands = re.findall(r"-m audits\.bounds (.*) >", output)
    assert sorted(commands) == [
        f"--dataset small --gpu -1 {options} {given} --out bounds_{prefix}{method}_eps4_VBPR-ep2"
        for options, prefix in (("--defense 0", ""), ("--defense 1 --model_dir b", "b_"))
        for given, method in ((prove, "crown"), (f"--method ibp {prove}", "ibp"))
    ]
    attack = output.index("stages 3 and 5, b_fgsm_0_1")
    assert attack < min(output.index(f"bounds of b_{method}") for method in ("crown", "ibp"))


def test_the_lists_of_buyers_are_measured_for_the_target_item():
    noise = "--attack_type noise --eps 8"
    study = CatalogueStudy.of(Entries.of(SMALL | ON_ACF | {"attacks": [noise]}))
    assert study.promotion_options == "--model VBPR --epochs 2"
    attacks = [noise, f"--attack_type apgd --eps 8 {TO_BUYERS} 3"]
    study = CatalogueStudy.of(Entries.of(SMALL | ON_ACF | {"attacks": attacks}))
    assert study.promotion_options == "--model VBPR ACF --epochs 2 --target_item 3"
    assert list(study.attack_options)[1].endswith("_linf_ACF-ep2_item3")


def test_a_defence_in_front_is_an_extractor_of_its_own():
    extractors = {
        **SMALL["extractors"],
        "jpeg-quality50": {"options": "--preprocess jpeg:quality=50"},
        "b.bits-n3": {"options": "--defense 1 --model_dir b --preprocess bits:n=3"},
    }
    study = CatalogueStudy.of(Entries.of(SMALL | {"extractors": extractors}))
    assert [of.prefix for of in study.extractors][-2:] == ["jpeg-quality50_", "b.bits-n3_"]


def test_options_of_recommenders_show_in_names():
    study = CatalogueStudy.of(
        Entries.of(SMALL | {"recommender_options": "--form full --fidelity paper"})
    )
    assert study.list_endings([0, 1]) == [
        "_top150_ep2_VBPRfull_paper",
        "_top150_ep2_VBPRfull_seed1_paper",
    ]
    options = {"recommender_options": "--lr 0.05 --lmd 2", "recommenders": ["VBPR", "AMR"]}
    study = CatalogueStudy.of(Entries.of(SMALL | options))
    assert study.list_endings([1], "test_time") == [
        "_top150_ep2_VBPR_testtime_lr0.05_seed1",
        "_top150_ep2_AMR_testtime_lr0.05_lmd2_seed1",
    ]
    assert study.weight_endings([0]) == ["_step2_VBPR_lr0.05", "_step2_AMR_lr0.05_lmd2"]
    assert study.options_shown == ["lr0.05", "lr0.05_lmd2"]
    assert CatalogueStudy.of(Entries.of(SMALL)).options_shown == ["published"]


SHOP = {"dataset": "shop", "network": "--arch resnet18 --model_file w.pt"}


def test_entries_fill_the_options_of_others():
    config = read_study("catalogue") | SHOP | {"origin": "3", "target": 4, "seeds": "5 7"}
    config |= {"score_seed": "5", "start": "--pretrained w.pt"}
    study = CatalogueStudy.of(Entries.of(config))
    plain, jpeg, tuned, adversarial = study.extractors
    assert plain.options == "--defence 0 --arch resnet18 --model_file w.pt "
    assert (jpeg.name, tuned.name) == ("jpeg-quality75", "fare")
    assert tuned.trained == ["models/fare/shop.pt"]
    assert tuned.train.startswith("--recipe fare --pretrained w.pt --images data/shop/original/")
    assert adversarial.trained == ["models/free_tuned/shop.pt"]
    assert adversarial.train.startswith(
        "--recipe free --batch_norm frozen --pretrained w.pt --images"
    )
    assert study.recommender_options == "--batch 512 --lr 0.05"
    assert study.seeds == (5, 7) and study.pairs == ((3, 4),)


def test_a_shop_names_its_own_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/shop").mkdir(parents=True)
    rows = "item,category,label\n0,1,sandals\n1,0,hats\n2,2,sports shoes\n"
    (tmp_path / "data/shop/items.csv").write_text(rows)
    config = read_study("catalogue") | SHOP | {"classes": "shop", "defences": "quick"}
    named = config | {"origin": "sandals", "target": "sports shoes"}
    study = CatalogueStudy.of(Entries.of(named))
    assert study.pairs == ((1, 2),)
    assert list(study.by_name) == ["means", "means.jpeg-quality75"]
    with pytest.raises(UserError, match=r"--origin boots: .* has the classes hats, sandals"):
        CatalogueStudy.of(Entries.of(named | {"origin": "boots"}))
    by_network = read_study("catalogue") | SHOP | {"origin": "sandals", "target": "hats"}
    with pytest.raises(UserError, match="origin: 'sandals' is no whole number"):
        CatalogueStudy.of(Entries.of(by_network))


def test_choices_bring_entries_along():
    config = {
        "budget": "small",
        "seeds": [3],
        "epochs": 9,
        "where": {
            "budget": {"small": {"epochs": 1, "arch": "tiny", "seeds": [0]}, "full": {}},
            "arch": {"tiny": {"size": 8, "options": "--side {size} {more}", "more": "--of {arch}"}},
        },
    }
    entries = Entries.of(config)
    assert entries.number("epochs") == 9 and entries.numbers("seeds") == (3,)
    assert entries.text("options") == "--side 8 --of tiny"
    entries.require_all_read()
    with pytest.raises(UserError, match="budget: no 'huge': choose from small, full"):
        Entries.of(config | {"budget": "huge"})
    with pytest.raises(UserError, match="arch is missing"):
        Entries.of(config | {"budget": "full"})
    with pytest.raises(UserError, match="stands for itself"):
        Entries({"options": "{more}", "more": "{options}"}).text("more")


NO_IMAGES = "--score_model with one of VBPR"
ON_ACF = {"recommenders": ["VBPR", "ACF"], "promotion": True}
TO_BUYERS = "--objective rank --score_model ACF --score_epoch 2 --target_item"
DEFENDED = {"free": {"options": "--defense 1 --model_dir madry"}}
HALF = {"original": SMALL["extractors"]["original"], "b": {"options": "--defense 1 --model_dir b"}}
HALF["b"]["options"] += " --precision bf16"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"seeds": "a"}, "seeds: 'a' is no whole number"),
        ({"seeds": [0, 0]}, "seeds: .* each once"),
        ({"seeds": []}, "seeds: there is none"),
        (
            {"attacks": ["--attack_type pgd --objective rank"]},
            "rank needs --score_model with one of",
        ),
        (
            {"attacks": ["--attack_type pgd --objective rank --score_model VBPR --score_epoch 3"]},
            "--score_epochs 2",
        ),
        (
            {
                "attacks": ["--attack_type pgd --objective rank --score_model ACF --score_epoch 2"],
                "recommenders": ["VBPR", "ACF"],
            },
            "ACF: .* --target_item",
        ),
        (
            {
                "attacks": [
                    "--attack_type pgd --objective rank --score_model CornacBPR --score_epoch 0"
                ],
                "recommenders": ["VBPR", "CornacBPR"],
            },
            NO_IMAGES if find_spec("cornac") else "needs cornac",
        ),
        (
            {"attacks": [f"--attack_type pgd {TO_BUYERS} {item}" for item in (1, 2)]} | ON_ACF,
            "one --target_item",
        ),
        ({"promotion": True, "recommenders": ["ACF"]}, "promotion: .* --target_item"),
        ({"epoch": None}, "epoch is missing"),
        ({"epochs": 3}, "epochs: there is no such entry of a study .did you mean epoch"),
        ({"job_per_seed": "yes"}, "job_per_seed: it is true or false"),
        ({"dataset": "a/b"}, "not a plain name"),
        ({"recommenders": ["SVD"]}, "recommenders: no 'SVD'"),
        ({"recommenders": ["BPRMF", "Pop"]}, "none of them reads images"),
        ({"recommenders": ["VBPR", "Pop"], "extractors": DEFENDED}, "Pop reads no images"),
        ({"recommenders": ["AMR"]}, "AMR continues VBPR"),
        ({"prepare": "folder --images 'my images"}, "prepare: .* No closing quotation"),
        ({"protocols": ["other"]}, "protocols: no 'other'"),
        ({"recommender_options": "--lr x"}, "--lr"),
        ({"recommender_options": "--nope 1"}, "recommender_options: unknown option --nope"),
        ({"attacks": ["--attack_type pgd --nope"]}, "attacks: .* unknown option --nope"),
        ({"attacks": ["--attack_type none"]}, "no attack 'none'"),
        ({"attacks": ["--attack_type pgd", "--eps 8"]}, "same name"),
        ({"target": 0}, "same class"),
        ({"prepare": "folder --images {images}"}, "images is missing"),
        ({"extractors": ["original"]}, "extractors: it holds names"),
        ({"extractors": {"original": "--defense 0"}}, "entries of its own"),
        ({"extractors": {"original": {"optoins": ""}}}, "optoins: there is no such entry"),
        ({"extractors": DEFENDED}, "its options are those of madry"),
        ({"extractors": {"a": {"options": "--preprocess bits:n=3"}}}, "are those of bits-n3"),
        ({"extractors": {"bits-n9": {"options": "--preprocess bits:n=9"}}}, "from 1 to 8, not 9"),
        ({"extractors": HALF}, "give --precision to all"),
        (
            {"deployed": "original"},
            "deployed: original is not the clean experiment of an extractor",
        ),
        ({**KEPT, "deployed": "fgsm_0_1_eps4.0_it1_linf_XX"}, "deployed: fgsm_.* is not the clean"),
        ({**KEPT, "protocols": ["retrained"]}, "deployed: recommenders stay"),
        ({**KEPT, "recommenders": ["DVBPR"]}, "deployed: DVBPR has no weights"),
        ({"bounds": ["--eps 4"]}, "bounds: --eps 4: needs --score_model with one of VBPR"),
        (
            {"bounds": [f"--method crown {SCORED}", SCORED]},
            "bounds: two of them have the same name",
        ),
        ({"extractors": {"original": {"train": "--recipe plain"}}}, "train: .*--out"),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(entries, message):
    with pytest.raises(UserError, match=message) as error:
        study = CatalogueStudy.of(Entries.of(SMALL | entries))
        assert study.trainings([])
    assert "\n" not in str(error.value)


def test_a_dry_run_prints_the_commands(place):
    output = place.run(STUDIES / "var.yaml", "--dry-run", "-p", expect=2)
    assert "error: no data set at data/amazon_men" in output
    output = place.run(
        place.small(gpu=0, job_per_seed=True, seeds=[0, 1]), "--dry-run", "--printshellcmds"
    )
    commands = re.findall(rf"python {ROOT}/(\w+\.py) (.*)", output)
    assert Counter(verb for verb, _ in commands)["rec_generator.py"] == 5
    for verb, options in commands:
        assert (ROOT / verb).exists()
        assert "--dataset small" in options
    recommend = [options for verb, options in commands if verb == "rec_generator.py"]
    assert any("--model VBPR --topk 150 --epochs 2 --seed 1 >" in options for options in recommend)
    assert place.notes("calls.txt") == []
    assert output.count("Job stats") == 1 and "Reasons" not in output and "input:" not in output


def test_a_pair_is_chosen_by_the_lists_of_the_first_extractor(place):
    study = place.small(extractors=EXTRACTORS)
    place.run(study, "clean_lists")
    assert place.verbs == {"prepare_dataset": 1, "classify_extract": 1, "rec_generator": 1}
    assert not list(place.folder.glob("data/small/b_*"))


def test_the_expected_duration_is_that_of_the_missing_jobs():
    def line(missing, finished, minutes=10, cores=2, changed=False):
        return expected_duration(missing, finished, 20, minutes, cores, changed=changed)

    every = ["train"] * 5 + ["attack"] * 15
    assert line(every, {}) == "about 10 minutes on 2 cores (20 of 20 jobs are missing)"
    assert line(every, {}, cores=8).startswith("about 2 minutes on 8 cores")  # 2.5
    assert line(every[:1], {}) == "about 1 minute on 2 cores (1 of 20 jobs are missing)"
    assert line(every, {}, minutes=0) == "20 of 20 jobs are missing"
    # A job of a known rule takes 400 seconds, the others take a minute each.
    known = {"attack": [300.0, 500.0]}
    assert line(every[3:7], known, cores=1).startswith("about 15 minutes on 1 core (4 of")
    assert "the file's own entries" in line(every, known, changed=True)
    assert line(every[5:], known, minutes=0, changed=True) == (
        "about 50 minutes on 2 cores (15 of 20 jobs are missing)"
    )


def test_the_time_left_is_that_of_the_jobs_left():
    # One training of 1,000 seconds says nothing of the attacks.
    assert minutes_left({"attack": 2}, {"train": [1000.0]}, 1000) is None
    trained = {"train": [1000.0], "attack": [30.0, 90.0]}
    assert minutes_left({"attack": 2}, trained, 1120) == pytest.approx(2)
    assert minutes_left({"attack": 2}, trained, 560) == pytest.approx(1)  # two jobs at once
    # The summary counts as the mean of the four jobs so far: 300 seconds.
    half = {"train": [1080.0], "attack": [30.0, 30.0, 60.0]}
    assert minutes_left({"attack": 3, "summary": 1}, half, 1200) == pytest.approx(7)
    assert minutes_left({"attack": 0}, trained, 1120) == 0


def test_choices_are_no_changed_entries():
    file = {"seeds": [0, 1], "budget": "full", "where": {"budget": {"small": {"minutes": 4}}}}
    assert not changed_entries(file | {"budget": "small"}, file)
    assert changed_entries(file | {"seeds": "0"}, file)
    assert changed_entries(file | {"epoch": 3}, file)


FAILING = """#!{python}
import sys

print("error: it failed")
sys.exit(2)
"""


def test_a_study_prints_a_line_a_job_and_errors_last(place):
    study = place.small()
    profile, missing, power_line, *jobs = place.run(study).splitlines()
    assert profile.startswith("Using workflow specific profile")
    assert missing == "9 of 9 jobs are missing" and power_line == power(1, 1)
    assert [line.split(",")[0] for line in jobs] == [f"{done} of 9" for done in range(1, 10)]
    (place.folder / "data/small/original/features.npy").write_text("other features")
    script(place.programs / "python", FAILING)
    *_, power_line, first, second, error = place.run(study, expect=1).splitlines()
    attack = "fgsm_0_1_eps4.0_it1_linf_XX"
    assert power_line == power(1, 1)
    assert {first, second} == {"failed: stage 2, original", f"failed: stages 3 and 5, {attack}"}
    said, *logs = re.split(r" \(log: |, |\)$", error)
    assert said == "error: it failed"
    assert {*logs[:-1]} == {
        f"results/small/logs/{log}.log" for log in ("recommend/original", f"attack/{attack}")
    }


def test_what_changed_is_looked_at_again(place):
    study = place.small(minutes=6)
    assert "about 6 minutes on 2 cores (9 of 9 jobs are missing)\n" in place.run(study)
    first = place.verbs
    assert first["rec_generator"] == 3 and first["report"] == 1
    features = place.folder / "data/small/original/features.npy"
    features.touch()
    assert UP_TO_DATE in place.run(study)
    features.write_text("other features")
    place.run(study)
    again = place.verbs - first
    assert set(first) - set(again) == {"prepare_dataset", "classify_extract"}
    assert UP_TO_DATE in place.run(study)
    seen = place.verbs
    again = place.run(study, "--config", "epoch=3")
    assert re.search(r"about .* with the file's own entries.* \(6 of 9 jobs are missing\)", again)
    assert set(place.verbs - seen) == {"rec_generator", "evaluate_rec", "summarize", "report"}


@pytest.mark.slow
def test_a_killed_study_finishes_without_redoing_what_was_finished(tmp_path, python):
    pytest.importorskip("snakemake")
    study = STUDIES / "demo_grid.yaml"
    whole, killed = (Place(tmp_path / name, python, STAND_IN) for name in ("whole", "killed"))
    whole.run(study)
    process = killed.start(sys.executable, study)  # its jobs are killed with it
    while len(killed.notes("finished.txt")) < 16:
        assert process.poll() is None, "the study was over before it could be killed"
        sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = set(killed.notes("finished.txt"))
    running = set(killed.notes("calls.txt")) - finished
    killed.run(study)
    calls = Counter(killed.notes("calls.txt"))
    assert set(calls) == set(whole.notes("calls.txt"))
    # Two jobs ran, and two may have ended before snakemake noticed. Stage 5 is a part of stage 3's jobs.
    stage_5 = ("evaluate_attack", "feature_loss")
    repeated = {call for call, times in calls.items() if times > 1}
    assert len([call for call in repeated if call.split()[0] not in stage_5]) <= 4
    assert running <= repeated and max(calls.values()) == 2
    assert killed.artifacts == whole.artifacts
    assert UP_TO_DATE in killed.run(study)


@pytest.mark.slow
def test_a_study_is_submitted_to_slurm(place):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    for command in ("sbatch", "srun", "sacct", "sinfo", "scancel"):
        script(place.programs / command, SLURM, folder=place.folder)
    profile = ("--workflow-profile", str(ROOT / "reproduce/profiles/slurm"))
    quick = ("--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "2")
    place.run(place.small(gpu=0), *profile, *quick)
    assert (place.folder / "results/small/report.html").exists()
    submitted = [path.read_text() for path in place.folder.glob("job_*[0-9]")]
    assert len(submitted) == sum(place.verbs.values()) - 4  # two are local, one has three verbs
    on_gpu = [options for options in submitted if "--gpus=1" in options or "gpu:1" in options]
    assert len(on_gpu) == 4
    assert all("--mem 16000" in options for options in submitted)


ARP = {
    "rules": "arp",
    "pictures": "small",
    "data": "'my pictures.npz'",
    "test": "{data}",
    "recipes": {"plain": "", "pgd_at": "--steps 2"},
    "seeds": [0, 1],
    "baseline": "pgd_at",
    "training": "--dataset cifar10 --arch lenet",
    "evaluation": "--dataset cifar10",
}


def test_recipes_and_seeds_make_one_table(place):
    study = place.written("arp", ARP)
    assert "error: there is nothing at my pictures.npz" in place.run(study, expect=2)
    (place.folder / "my pictures.npz").touch()
    place.run(study)
    assert place.verbs == {"train_extractor": 4, "audits.robustness": 4, "summarize": 1}
    assert (place.folder / "results/small/arp.tsv").read_text().splitlines() == [
        *("name", "plain_0.tsv", "pgd_at_0.tsv", "plain_1.tsv", "pgd_at_1.tsv")
    ]
    assert (place.folder / "results/small/arp_summary.tsv").exists()
    (training,) = [
        call
        for call in place.notes("calls.txt")
        if "--recipe pgd_at" in call and "--seed 1" in call
    ]
    assert training == (
        "train_extractor --gpu -1 --data 'my pictures.npz' --dataset cifar10 --arch lenet "
        "--recipe pgd_at --steps 2 --seed 1 --out models/arp_small_pgd_at_1/model_best.pth.tar"
    )
    assert UP_TO_DATE in place.run(study)
    place.run(study, "--config", "seeds=1", "baseline=plain")
    assert (place.folder / "results/small/arp.tsv").read_text().splitlines() == [
        *("name", "plain_1.tsv", "pgd_at_1.tsv")
    ]
    assert "--baseline plain" in place.notes("calls.txt")[-1]


@pytest.mark.parametrize("dataset", ["fashion", "cub"])
def test_embedders_make_a_row_each(place, dataset):
    (place.folder / "pictures").mkdir()
    config = ("--config", f"dataset={dataset}", "budget=small", "data=pictures", "gpu=-1")
    place.run(STUDIES / "robdml.yaml", *config, "seeds=0 4")
    recipes = ["none", "est", "act", "hm", "hm_ics"]
    rows = (place.folder / f"results/{dataset}/robdml/rows.tsv").read_text().splitlines()
    assert rows[0] == "name"
    assert rows[1:] == [f"{recipe}{seed}_row.tsv" for recipe in recipes for seed in ("", "_seed4")]
    assert (place.folder / f"results/{dataset}/robdml.tsv").exists()
    trainings = [call for call in place.notes("calls.txt") if call.startswith("train")]
    assert all(f"-C {dataset}:rc2f2" in call for call in trainings)
    assert sum("--steps 8" in call for call in trainings) == 8
    assert all(("--size 28" in call) == (dataset == "cub") for call in trainings)


def test_recommenders_that_read_no_images_are_trained_once_and_face_no_attack(place):
    place.run(place.small(recommenders=["VBPR", "Pop", "BPRMF"]))
    calls = [call for call in place.notes("calls.txt") if call.startswith("rec_generator")]
    blind = [call for call in calls if "--model Pop BPRMF" in call]
    assert len(blind) == 1 and "--experiment_name original --" in blind[0]
    assert all("--model VBPR --" in call for call in calls if call not in blind)
    dataset = SMALL["dataset"]
    lists = {path.stem for path in (place.folder / f"rec_results/{dataset}").glob("*.tsv")}
    assert {name.split("_")[0] for name in lists if "Pop" in name or "BPRMF" in name} == {
        "original"
    }
    summarized = next(call for call in place.notes("calls.txt") if call.startswith("summarize"))
    assert "--options published" in summarized


def test_extractors_of_a_catalogue_are_ranked_beside_their_recommenders(place):
    data = place.folder / "data/shop"
    data.mkdir(parents=True)
    for name in ("trainingset.tsv", "testset.tsv", "items.csv"):
        (data / name).write_text(name)
    study = STUDIES / "robust_extractors.yaml"
    attacks = 'attacks=["{rank} --eps 8", "--attack_type noise --eps 8"]'
    of_shop = ("--config", "dataset=shop", "budget=small", "epochs=2", "free_epochs=8", attacks)
    place.run(study, "clean_lists", *of_shop, "origin=0", "target=1")
    before = place.verbs
    assert before == {"train_extractor": 1, "classify_extract": 1, "rec_generator": 1}
    place.run(study, *of_shop, "origin=3", "target=4")
    assert place.verbs - before == {
        "train_extractor": 6,
        "classify_extract": 6,
        "audits.rankings": 7,
        "audits.promotion": 1,
        "classify_extract_attack": 14,
        "evaluate_attack": 14,
        "feature_loss": 14,
        "rec_generator": 13,
        "evaluate_rec": 1,
        "summarize": 1,
        "report": 1,
    }
    assert (place.folder / "results/shop/robust_extractors.tsv").exists()
    free = next(call for call in place.notes("calls.txt") if "--recipe free" in call)
    assert "--arch c2f2 " in free and "--epochs 8 --replays 4" in free
    (data / "items.csv").write_text("other categories")
    assert "train_extractor" in place.run(
        study, *of_shop, "origin=3", "target=4", "--dry-run", "-p"
    )


def test_the_published_parts_attack_weights_that_they_train():
    for part in Part.read(Entries.of(read_study("apr"))):
        trained = {
            run.weights_name
            for options in part.trainings
            for run in runs_of(options, top_k=100, seeds=[0])
        }
        stems = re.findall(r"=(original_step\S+)", part.attack)
        assert len(stems) >= 2 and set(stems) <= trained


def test_attacks_on_gradients_are_told_apart():
    config = read_study("semsim") | {"budget": "small"}
    attacks = Leaks.read(Entries.of(config)).attacks()
    assert len(attacks) == 3 * (5 + 2 * 2)
    hybrid = "cifar_resnet20_3_inversed_aug_auglist_3-1-7+43-18-18_rlabel_False"
    assert attacks[hybrid].condition == "3-1-7+43-18-18"
    name = "lenet_zhu_3_dlg_crop_auglist__rlabel_False_trained_prune_70_defense_prune_70"
    expected = ("lenet_zhu", "prune_70", "--optim dlg --steps 20 --gradient_defence prune_70")
    assert attacks[name] == Inversion(*expected)
    config["networks"] = {"lenet_zhu": {"attacks": ["--optim dlg", "--optim dlg --seed 1"]}}
    with pytest.raises(UserError, match="two attacks would be named lenet_zhu_3_dlg_aug"):
        Leaks.read(Entries.of(config)).attacks()
    config["networks"] = {
        "lenet_zhu": {"attacks": ["", "--augmentation none", "--labels joint", "--labels analytic"]}
    }
    config["conditions"] = {"crop": {"train": "--augmentation crop"}}
    mode = "lenet_zhu_3_inversed_{}_auglist__rlabel_{}"
    names = [("crop", "False"), ("normal", "False"), ("crop", "True")]
    assert set(Leaks.read(Entries.of(config)).attacks()) == {
        *(mode.format(*of) for of in names), mode.format("crop", "False_labels_analytic")
    }  # fmt: skip
    config["budgeted_training"] = "--epochs 2"
    config["conditions"] = {"plain": {"train": "--schedule conservative"}}
    with pytest.raises(UserError, match="plain: --epochs and --augmentation must be said"):
        Leaks.read(Entries.of(config)).attacks()


@pytest.fixture
def real_place(tmp_path, python) -> Place:
    """Place in which the real scripts run."""
    pytest.importorskip("snakemake")
    return Place(tmp_path, python)


@pytest.mark.slow
def test_leaks_are_found_where_the_rules_expect_them(real_place):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(real_place.folder / "pictures.npz", x=pictures, y=np.arange(40) % 10)
    study = {
        "rules": "semsim",
        "pictures": "small",
        "data": "pictures.npz",
        "source": "--dataset cifar10",
        "conditions": {
            "pruned": {"train": "--gradient_defence prune_70", "shared": "none prune_70"}
        },
        "networks": {"lenet_zhu": {"attacks": ["--optim inversed --iterations 2"]}},
        "training": "--part all --epochs 1 --augmentation none",
        "images": "--n_images 2",
        "metrics": "mse",
        "seeds": [0, 1],
    }
    real_place.run(real_place.written("semsim", study))
    ranks = pd.read_csv(real_place.folder / "results/small/semsim.tsv", sep="\t")
    name = "lenet_zhu_1_inversed_aug_auglist__rlabel_False_trained_prune_70"
    assert set(ranks.iloc[:, 0]) == {name, f"{name}_defense_prune_70"}
    assert list(ranks["trainings"]) == [2, 2] and {"mse_low", "mse_high"} <= set(ranks)
    first, second = (real_place.folder / f"reconstructions/small{seed}" for seed in ("", "_seed1"))
    assert (first / "grid.png").read_bytes() != (second / "grid.png").read_bytes()


@pytest.mark.slow
def test_attacked_recommenders_are_those_that_the_rules_train(real_place):
    data = real_place.folder / "data/small"
    data.mkdir(parents=True)
    pairs = [(user, (user + step) % 12) for user in range(6) for step in range(5)]
    for name, rows in (
        ("trainingset", pairs),
        ("testset", [(user, user + 5) for user in range(6)]),
    ):
        (data / f"{name}.tsv").write_text("".join(f"{user}\t{item}\n" for user, item in rows))
    study = {
        "rules": "apr",
        "dataset": "small",
        "topk": 5,
        "seeds": [0, 2],
        "tables": ["short"],
        "parts": {
            "short": {
                "trainings": [
                    "--model Pop BPRMF --epoch 1 --batch_size 8",
                    "--model BPRMF AMF --epoch 2 --adv_epochs 1 --perturb full --fidelity paper "
                    "--batch_size 8",
                ],
                "attack": "--eps 0.5 --compare clean=original_step1_BPRMF_batch8 "
                "defended=original_step2_AMF-full_batch8_paper",
            },
            "long": {"trainings": ["--model BPRMF --epoch 100"], "attack": ""},
        },
    }
    real_place.run(real_place.written("apr", study))
    table = pd.read_csv(real_place.folder / "results/small/short.tsv", sep="\t")
    assert {"clean", "defended"} <= set(table["state"]) and set(table["seed"]) == {0, 2}


TRAINED = {
    "original": {
        "options": "--defense 0 --model_file models/{dataset}.pt",
        "train": "--out models/{dataset}.pt --seed {extractor_seed}",
    }
}
"""Extractors of ``SMALL`` that can be trained several times."""


def test_every_training_of_the_extractors_has_a_data_set_and_one_summary(place):
    study = place.small(extractors=TRAINED, extractor_seeds=[3, 4])
    (place.folder / "models").mkdir()
    place.run(study)
    calls = place.notes("calls.txt")
    once = {"prepare_dataset", "evaluate_rec", "summarize", "report"}
    assert {verb for verb, times in place.verbs.items() if times == 1} == once
    assert sorted(call for call in calls if call.startswith("train_extractor")) == [
        "train_extractor --gpu -1 --out models/small.pt --seed 3",
        "train_extractor --gpu -1 --out models/small_4.pt --seed 4",
    ]
    by_dataset = {
        name: [
            call.replace(f"--dataset {name} ", "").replace(f"models/{name}.pt", "models/small.pt")
            for call in calls
            if f"--dataset {name} " in call and call.split()[0] not in once
        ]
        for name in ("small", "small_4")
    }
    assert sorted(by_dataset["small"]) == sorted(by_dataset["small_4"]) != []
    for verb in ("summarize", "report"):
        (call,) = [call for call in calls if call.startswith(verb)]
        assert call.startswith(f"{verb} --dataset small --trainings small_4 ")
    shared = place.folder / "data/small_4/trainingset.tsv"
    assert shared.is_symlink() and shared.samefile(place.folder / "data/small/trainingset.tsv")
    assert not (place.folder / "data/small_4/original/features.npy").is_symlink()
    assert UP_TO_DATE in place.run(study)


@pytest.mark.parametrize(
    ("name", "given", "checkpoint"),
    [
        ("arp_catalogue", {}, "models/pgd_at/demo{}.pt"),
        ("robust_extractors", {"dataset": "shop"} | PAIR, "models/hm_ics/shop{}.pt"),
    ],
)
def test_extractors_of_studies_are_trained_several_times(name, given, checkpoint):
    entries = Entries.of(read_study(name) | given | {"extractor_seeds": [0, 2], "budget": "small"})
    first, second = studies_of(entries).values()
    assert checkpoint.format("") in first.trainings([])
    training = second.trainings([])[checkpoint.format("_2")]
    assert "--seed 2" in training.options
    assert f"data/{second.dataset}" in training.options


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        (
            {"extractors": SMALL["extractors"]},
            "the study trains no original, so intervals cover the seeds of recommenders only",
        ),
        (
            {"extractors": {"original": {"options": "", "train": "--out a --seed 0"}}},
            "extractors: original: train needs {extractor_seed}",
        ),
        ({"extractor_seed": 1}, "extractor_seed: a study has extractor_seeds"),
        (
            {
                "extractors": {
                    "{dataset}": {
                        "options": "--defense 1 --model_dir {dataset}",
                        "train": "--out a",
                    }
                }
            },
            "the names of extractors must not depend on the data set",
        ),
    ],
)
def test_trainings_that_would_be_one_are_refused(entries, line):
    config = SMALL | {"extractors": TRAINED, "extractor_seeds": "0 1"} | entries
    with pytest.raises(UserError, match=re.escape(line)):
        studies_of(Entries.of(config))
