"""Leaderboard: its files, the studies that they stand for, and its verbs."""

import os
import re
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from audits.leaderboard import threads_of_few
from reproduce.workflow.leaderboard import (
    BRIEF,
    Catalogue,
    Entry,
    Evaluation,
    entries_named,
    entry_names,
    read_catalogue,
    read_entry,
    read_suite,
)
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.measures.leaderboard import COLUMNS, read_results

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "leaderboard"
JPEG = {
    "name": "mine",
    "place": "in front",
    "source": "a paper",
    "claimed": "much",
    "preprocess": "jpeg:quality=50",
}


PLAIN = read_entry("undefended", FOLDER)


def written(folder: Path, values) -> Path:
    path = folder / "mine.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def evaluation(name: str, budget: str = "small", **catalogue: str) -> Evaluation:
    settings = {"arch": "c2f2", "target": "7", "pictures": "--data d.npz --dataset fashion"}
    return Evaluation(
        read_entry(name, FOLDER),
        PLAIN,
        Catalogue.of(settings | catalogue, ""),
        "shop",
        read_suite(budget, {}, FOLDER),
        budget,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": 3}, "speed: no such key"),
        ({"source": None}, "source: None is no text"),
        ({"place": "in extractor"}, "place: 'in extractor': by its other keys it is 'in front'"),
        ({"preprocess": "none"}, "place: 'in front': by its other keys it is 'nowhere'"),
        ({"name": "a b"}, "name 'a b' is not a plain name"),
        ({"recommender": {"name": "VBRP"}}, "recommender: no 'VBRP': choose from"),
        ({"recommender": {"name": "BPRMF"}}, "recommender: BPRMF reads no images"),
        ({"recommender": {"epsilon": 1}}, "recommender: epsilon: no such key"),
        ({"recommender": "AMR"}, "recommender: it holds name, options"),
        ({"extractor": {"checkpoint": "best.pt"}}, "checkpoint: it is models/<folder>/<file>"),
        (
            {"extractor": {"checkpoint": "models/a/b.pt", "train": "--recipe madry"}},
            "extractor: it has a checkpoint or train, not both",
        ),
        ({"preprocess": "denoiser:{trained}"}, "{trained} needs extractor: train"),
        ({"datasets": "shop"}, "datasets: it is a list"),
        ({"deployed": 1}, "deployed: it is yes or no, not 1"),
        (
            {
                "deployed": True,
                "recommender": {"name": "AMR"},
                "place": "in front and in recommender",
            },
            "deployed: it is for a defence in front or in extractor alone",
        ),
        ({"bounds": "smoothing"}, "bounds: no 'smoothing': choose from crown, ibp"),
        ({"bounds": "crown"}, "bounds: there are none through jpeg:quality=50"),
        ({"notes": "it's"}, None),
    ],
)
def test_a_wrong_entry_is_named_by_file_and_key(tmp_path, changes, message):
    path = written(tmp_path, JPEG | changes)
    if message is None:
        assert Entry.read(path).notes == "it's"
        return
    with pytest.raises(UserError, match=re.escape(message)) as error:
        Entry.read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_an_entry_without_a_key_and_a_file_that_is_no_yaml(tmp_path):
    with pytest.raises(UserError, match="claimed is missing"):
        Entry.read(written(tmp_path, {key: JPEG[key] for key in JPEG if key != "claimed"}))
    with pytest.raises(UserError, match="is no YAML file"):
        Entry.read(written(tmp_path, "name: ["))
    with pytest.raises(UserError, match="it holds keys and values"):
        Entry.read(written(tmp_path, "mine"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": "0"}, "--suite: items: 0 is no whole number from 1 on"),
        ({"eps": "0.5"}, "--suite: eps: 0.5 is no number of grey levels from 1 to 255"),
        ({"eps": "8 much"}, "--suite: eps: 'much' is no number of grey levels"),
        ({"seeds": "1 1"}, "--suite: seeds: a number is there twice"),
        ({"attacks": "all"}, "--suite: attacks: no such key"),
    ],
)
def test_wrong_numbers_of_the_suite(changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_suite("small", changes, FOLDER)


def test_a_catalogue_needs_a_network_and_a_target(tmp_path):
    with pytest.raises(UserError, match=r"shop\.yaml is not there, and --set: target is missing"):
        read_catalogue("shop", {"arch": "c2f2"}, tmp_path)
    with pytest.raises(UserError, match="speed: no such key"):
        read_catalogue("fashion_mnist_catalogue", {"speed": "3"}, FOLDER)


@pytest.mark.parametrize("budget", ["small", "full"])
@pytest.mark.parametrize("name", entry_names(FOLDER))
def test_every_entry_stands_for_a_study_that_the_stages_take(name, budget, tmp_path, monkeypatch):
    of = evaluation(name, budget)
    monkeypatch.chdir(tmp_path)
    for file in of.part and of.part_files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    assert list(of.studies) == ["shop", *(f"shop_{seed}" for seed in of.extractor_seeds[1:])]
    kinds = [attack.partition("_")[0] for attack in of.attacks]
    n_eps = len(of.budget.eps)
    assert kinds.count("noise") == n_eps
    assert kinds.count("given") == (5 * n_eps if of.extractor else 0)
    assert not re.search(r"/work|/home|\.\./", (FOLDER / "entries" / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("--recipe madry --epss 8", "unknown option --epss (did you mean --eps?)"),
        ("--recipe madry --eps x", "argument --eps: invalid pixel_levels value: 'x'"),
        ("--recipe madry --eps 300", "--eps must be at most 255 grey levels"),
        ("--recipe madryy", "unknown recipe madryy: choose from plain"),
        ("--recipe madry --margin 1", "--margin belongs to embedders, not to recipe madry"),
        ("--recipe hm", "recipe hm trains an embedder"),
        ("--recipe fare", "--recipe fare continues a trained network: --pretrained FILE"),
        ("--recipe fare --pretrained {undefended} --images {dataset} --seed 1", None),
        ("--recipe fare_rec --pretrained {undefended} --images {dataset} {scored}", None),
    ],
)
def test_options_of_a_training_are_those_of_its_script(train, message):
    of = evaluation("madry")
    of = replace(of, entry=replace(of.entry, extractor=of.entry.network | {"train": train}))
    if message is None:
        of.check_options()
        return
    with pytest.raises(UserError, match=f"^madry: extractor: train: {re.escape(message)}"):
        of.check_options()


def test_the_undefended_entry_comes_first():
    assert entry_names(FOLDER)[0] == "undefended"


def steps_of(names: Collection[str], objective: str) -> list[int]:
    """Return the steps of the attacks on an objective, ascending."""
    of = re.compile(rf"^annealed_.*_{objective}_.*_nb_iter(\d+)_")
    return sorted(int(found[1]) for found in map(of.search, names) if found)


def test_the_strongest_attack_alone_is_repeated():
    of = replace(evaluation("amr"), shown={"score": 2})
    steps = of.suite.budgets["small"].steps
    own = {name for name in of.attacks if "AMR-" in name}
    assert all(steps_of(own, objective) == [steps] for objective in ("rank", "score", "insa"))
    for factor in (2, 4, 8):
        assert not of.longest
        of = of.with_twice_the_steps(["insa"])
        own, shown = (
            {name for name in of.attacks if f"{kind}-" in name} for kind in ("AMR", "VBPR")
        )
        assert steps_of(own, "insa") == [factor * steps // 2, factor * steps]
        assert steps_of(own, "rank") == steps_of(own, "expa") == [steps]
        # The attacks on the undefended entry are those of its own evaluation.
        assert steps_of(shown, "score") == [steps, 2 * steps]
        assert steps_of(shown, "insa") == [steps]
    assert of.longest


def test_trainings_and_attacks_fewer_than_the_cores_share_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained, given = evaluation("madry"), evaluation("undefended", weights="w.pth")
    assert threads_of_few(trained, Namespace(cores=2)) == []
    assert threads_of_few(trained, Namespace(cores=8)) == ["--set-threads", "train=2"]
    assert threads_of_few(given, Namespace(cores=13)) == ["--set-threads", "attack=2"]
    assert threads_of_few(given, Namespace(cores=1)) == []
    for path in given.reports[1:]:
        path.parent.mkdir(parents=True)
        path.touch()
    assert threads_of_few(given, Namespace(cores=2)) == ["--set-threads", "attack=2"]
    given.reports[0].parent.mkdir(parents=True)
    given.reports[0].touch()
    assert threads_of_few(given, Namespace(cores=2)) == []


def test_every_budget_says_which_entries_it_is_for():
    budgets = read_suite("small", {}, FOLDER).budgets
    small, full = (entries_named(budgets[name].entries, FOLDER) for name in ("small", "full"))
    assert [entry.name for entry in full] == entry_names(FOLDER)
    assert small[0].name == "undefended" and len(small) < len(full)


def test_a_defence_in_front_shares_the_network_of_the_undefended_entry():
    plain, jpeg = evaluation("undefended"), evaluation("jpeg50")
    assert plain.training_options == jpeg.training_options
    assert (plain.extractor, jpeg.extractor) == (None, "jpeg-quality50")


def test_given_weights_leave_one_training():
    assert evaluation("jpeg50", weights="w.pth").extractor_seeds == (0,)
    assert evaluation("jpeg50", weights="w.pth").training_options == ""
    assert evaluation("madry").extractor_seeds == (0, 1, 2)
    assert evaluation("madry", pictures="").needs_pictures
    assert not evaluation("jpeg50", weights="w.pth", pictures="").needs_pictures


def test_a_catalogue_shortens_trainings_on_its_own_photos_alone():
    brief = evaluation("fare_rec", tuning="--epochs 3 --max_images 50").training_options
    assert brief.startswith("--epochs 3 --max_images 50 --recipe fare_rec ")
    assert "--epochs 3" not in evaluation("madry", tuning="--epochs 3").training_options
    assert "--max_images 500" in evaluation("fare", "small").training_options
    assert "--max_images" not in evaluation("fare", "full").training_options


def test_a_catalogue_without_a_file_is_tuned_as_by_the_study_of_a_shop():
    study = yaml.safe_load((ROOT / "reproduce" / "studies" / "catalogue.yaml").read_text())
    for name, of in study["where"]["budget"].items():
        assert sorted(of["tuning"].split()) == sorted(BRIEF[name].split())


def test_a_recommender_is_shown_the_attacks_on_the_plain_one():
    own = [name for name in evaluation("amr").attacks if "AMR-" in name]
    plain = [name for name in evaluation("amr").attacks if "VBPR-" in name]
    assert len(own) == len(plain) == 4
    assert "--score_options lr0.05_eps0.1" in " ".join(
        evaluation("amr_eps0.1").study["test_time_attacks"]
    )


def test_random_defences_alone_are_attacked_with_more_draws_too():
    noise = evaluation("random_noise", "full")
    plain = [name for name in noise.attacks if "_eot40" not in name]
    more = noise.attacks - set(plain)
    kinds = ("_rank_eps2.0_nb_iter100_", "_rank_eps4.0_nb_iter100_", "_rank_eps8.0_nb_iter100_")
    assert sorted(re.search(r"_rank_eps.*?_nb_iter\d+_", name)[0] for name in more) == list(kinds)
    assert all(any(kind in name for name in plain) for kind in kinds)
    for entry in ("undefended", "smooth", "jpeg50"):  # the noise of smooth is fixed
        assert not any("_eot" in name for name in evaluation(entry).attacks)


def test_an_entry_that_asks_for_bounds_has_a_table_for_each_eps_and_training():
    undefended = replace(evaluation("undefended", "full"), entry=replace(PLAIN, bounds="crown"))
    assert [str(path) for path in undefended.bounds] == [
        f"results/{dataset}/bounds_crown_eps{eps}_VBPR-ep100-lr0.05.tsv"
        for dataset in ("shop", "shop_1", "shop_2")
        for eps in (2, 4, 8)
    ]
    assert evaluation("undefended").bounds == []


def test_a_deployed_recommender_is_that_of_the_undefended_entry():
    fare, plain = evaluation("fare"), evaluation("undefended")
    study = next(iter(fare.studies.values()))
    assert fare.run == plain.run.deployed_on(Experiment())
    assert study.deployed_files == [
        "data/shop/original/features.npy",
        f"rec_model_weights/shop/{plain.run.weights_name}.npz",
    ]
    own = [name for name in fare.attacks if name.startswith("annealed_")]
    assert len(own) == 4 and all(name.endswith("_VBPR-ep100-lr0.05-of-original") for name in own)
    assert not next(iter(evaluation("madry").studies.values())).deployed


@pytest.fixture(scope="module")
def run(python) -> Callable[..., subprocess.CompletedProcess]:
    """Return ``run(folder, *words)``: a call of ``audits.leaderboard`` in a folder."""

    def call(folder: Path, *words: object) -> subprocess.CompletedProcess:
        path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [python.program, "-P", "-m", "audits.leaderboard", *map(str, words)]
        return subprocess.run(
            command, cwd=folder, env=os.environ | path, capture_output=True, text=True
        )

    return call


@pytest.fixture(scope="module")
def refused(run) -> Callable[..., str]:
    """Return ``refused(folder, *words)``: the error of a call with bad input."""

    def call(folder: Path, *words: object) -> str:
        done = run(folder, *words)
        assert done.returncode == 2, done.stderr
        assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
        return done.stderr

    return call


def test_add_checks_an_entry_and_keeps_what_is_there(tmp_path, run, refused):
    shutil.copytree(FOLDER, tmp_path / "leaderboard")
    for wrong, message in (
        ({"place": "nowhere"}, "place: 'nowhere'"),
        (
            {"preprocess": "jpg:quality=50"},
            "mine: extractor: argument --preprocess: no defence 'jpg'",
        ),
        (
            {"place": "in front and in recommender", "recommender": {"options": "--epsi 1"}},
            "mine: recommender: options: unknown option --epsi (did you mean --eps?)",
        ),
        (
            {
                "place": "in extractor",
                "preprocess": "none",
                "extractor": {"train": "--recipe madry --epss 8"},
            },
            "mine: extractor: train: unknown option --epss (did you mean --eps?)",
        ),
    ):
        assert message in refused(tmp_path, "add", written(tmp_path, JPEG | wrong))
    assert "mine" not in entry_names(tmp_path / "leaderboard")
    assert run(tmp_path, "add", written(tmp_path, JPEG)).returncode == 0
    assert read_entry("mine", tmp_path / "leaderboard").preprocess == JPEG["preprocess"]
    assert "is there already" in refused(tmp_path, "add", tmp_path / "mine.yaml")


def test_the_entry_that_the_page_prints_is_taken(tmp_path):
    page = (ROOT / "docs" / "leaderboard.md").read_text()
    (printed,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    entry = Entry.read(written(tmp_path, printed))
    assert f"leaderboard evaluate undefended {entry.name} " in page
    keys = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE)))
    assert set(keys) == {of.name for of in fields(Entry)}


def test_verbs_without_what_they_need(tmp_path, refused):
    shutil.copytree(FOLDER, tmp_path / "leaderboard")
    shutil.rmtree(tmp_path / "leaderboard" / "results", ignore_errors=True)
    assert "no data set" in refused(tmp_path, "evaluate", "--catalogue", "shop")
    (tmp_path / "data" / "shop").mkdir(parents=True)
    options = ("--catalogue", "shop", "--set", "arch=c2f2", "target=1")
    assert "no entry 'best'" in refused(tmp_path, "evaluate", "best", *options)
    assert "names no pictures" in refused(tmp_path, "evaluate", "madry", *options)
    assert "write KEY=VALUE" in refused(tmp_path, "evaluate", "madry", *options, "weights")
    assert "no results" in refused(tmp_path, "page")


def test_a_trial_keeps_the_results_of_the_suite(tmp_path, refused):
    shutil.copytree(FOLDER, tmp_path / "leaderboard")
    (tmp_path / "data" / "demo").mkdir(parents=True)
    recorded = tmp_path / "leaderboard" / "results" / "demo" / "undefended.tsv"
    before = recorded.read_bytes()
    trial = ("evaluate", "undefended", "--catalogue", "demo", "--suite", "items=4")
    assert re.search(
        r"undefended\.tsv holds results of the suite \d+ small, which this trial of \d+ small items=4 ",
        refused(tmp_path, *trial),
    )
    assert recorded.read_bytes() == before and not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def shop(tmp_path_factory, python, run) -> Path:
    """Folder with a tiny catalogue, on which two entries are evaluated under a suite of one attack."""
    folder = tmp_path_factory.mktemp("leaderboard")
    shutil.copytree(FOLDER / "entries", folder / "leaderboard" / "entries")
    suite = yaml.safe_load((FOLDER / "suite.yaml").read_text())
    (folder / "leaderboard" / "suite.yaml").write_text(
        yaml.safe_dump(suite | {"attacks": suite["attacks"][:1]})
    )
    with (folder / "leaderboard" / "entries" / "undefended.yaml").open("a") as entry:
        entry.write("bounds: ibp\n")
    words = "demo --dataset shop --items 60 --users 40 --size 28 --per_class 8"
    command = [python.program, str(ROOT / "prepare_dataset.py"), *words.split()]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    done = run(folder, "evaluate", "bits4", "undefended", *OPTIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "undefended: rank again with 4 steps" in done.stdout
    return folder


PICTURES = "--images data/shop/extractor/images --labels data/shop/extractor/labels.csv"
OPTIONS = (
    *("--catalogue", "shop", "--set", "arch=c2f2", "target=1", f"pictures={PICTURES}", "epoch=2"),
    *("training=--epochs 1", "--suite", "items=5", "steps=2", "extractor_seeds=0"),
)


@pytest.mark.slow
def test_evaluated_entries_have_their_rows(shop, run):
    plain, bits = (
        read_results(shop / "leaderboard" / "results" / "shop" / f"{name}.tsv")
        for name in ("undefended", "bits4")
    )
    assert tuple(plain) == COLUMNS
    assert plain["scope"].tolist() == bits["scope"].tolist() == ["one", "all"]
    assert plain["knows_nothing"].isna().all() and bits["knows_nothing"].notna().all()
    assert set(bits["suite"]) == {"3 small extractor_seeds=0 items=5 steps=2"}
    assert plain["bound_method"].tolist() == ["ibp", ""] and bits["bound"].isna().all()
    assert plain["knows_defence"].iloc[0] <= plain["bound"].iloc[0] <= 1
    assert bits["hr20"].between(bits["hr20_low"], bits["hr20_high"]).all()
    page = run(shop, "page", "--out", "page.md", "--table", "all.tsv")
    assert page.returncode == 0, page.stderr
    assert len(pd.read_csv(shop / "all.tsv", sep="\t")) == 4


@pytest.mark.slow
def test_seconds_are_those_of_this_machine_and_of_all_runs(shop, run):
    path = shop / "leaderboard" / "results" / "shop" / "bits4.tsv"

    def seconds_after(recorded: float) -> float:
        read_results(path).assign(seconds=recorded).to_csv(path, sep="\t", index=False)
        assert run(shop, "evaluate", "bits4", *OPTIONS).returncode == 0
        return read_results(path)["seconds"].max()

    assert seconds_after(1e6) == 1e6
    (shop / "results" / "shop" / "leaderboard" / "bits4.json").unlink()
    assert seconds_after(1e6) < 1e6


@pytest.mark.slow
def test_images_of_others_are_checked_and_judged(shop, run, refused, tmp_path):
    layout = shop / "data" / "shop"
    attacked = next(layout.glob("annealed_random5_rank_*/images"))
    ids = sorted(int(path.stem) for path in attacked.iterdir())
    images = tmp_path / "mine"
    shutil.copytree(attacked, images)
    submit = ("submit", "undefended", *OPTIONS, "--images", images)
    judged = run(shop, *submit)
    assert judged.returncode == 0, judged.stderr
    assert "mine: exposure" in judged.stdout and "not recorded: it does no more" in judged.stdout
    assert "the suite has 8" in refused(shop, *submit, "--eps", "4")
    assert "items=5 steps=2, not" in refused(shop, *submit, "--suite", "items=6")
    other = next(number for number in range(60) if number not in ids)
    clean = next((layout / "original" / "images").glob(f"{other}.*"))
    shutil.copy(clean, images)
    assert f"item {other} is not attacked by the suite" in refused(shop, *submit)
    (images / clean.name).unlink()
    first = next(images.glob(f"{ids[0]}.*"))
    pixels = np.asarray(Image.open(first))
    Image.fromarray(255 - pixels).save(first)
    assert "budget" in refused(shop, *submit) or "exceeds" in refused(shop, *submit)
    first.unlink()
    assert f"item {ids[0]} is missing" in refused(shop, *submit)
