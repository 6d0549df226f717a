"""The commands behind a row of a results table, on a tree whose files hold little but have manifests."""

import re
import sys

import numpy as np
import pytest

import summarize
from audits import trace
from src.artifacts.classes import Classes, write_attacked_classes, write_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, fingerprint, record_path
from src.artifacts.tables import TestRanks, TopK, write_test_ranks, write_top_k
from tests.scripts import run_script

N_USERS, TOP = 4, 2
CLEAN = Experiment()
PGD = Experiment.parse("pgd_7_8_eps8.0_eps_it8.0_nb_it10_linf")
FGSM = Experiment.parse("fgsm_7_8_eps8.0_it1_linf_XX")
NOISE = Experiment.parse("noise_7_any_eps8.0_linf")


class Tree:
    """``data/toy`` with a checkpoint, three attacked experiments, and recommenders on each."""

    def __init__(self, monkeypatch, root):
        self.monkeypatch, self.layout = monkeypatch, Layout("toy", root)
        data, self.checkpoint = self.layout.data, root / "models" / "net" / "net.pt"
        self.source = root / "shop.csv"
        self.source.write_text("user,item\n")
        for file in (
            self.checkpoint,
            self.layout.images / "0.jpg",
            data / "extractor" / "labels.csv",
        ):
            file.parent.mkdir(parents=True)
            file.write_text(file.name)
        for file in (self.layout.training_set, self.layout.test_set):
            file.write_text("0\t0\n")
        prepared = [self.layout.training_set, self.layout.test_set, self.layout.images]
        self.record(
            f"prepare_dataset.py interactions --train {self.source}",
            [self.source],
            [*prepared, data / "extractor"],
        )
        labels = data / "extractor" / "labels.csv"
        self.record(f"train_extractor.py --labels {labels}", [labels], [self.checkpoint])
        self.look(CLEAN, [self.layout.images])
        for experiment in (PGD, FGSM, NOISE):
            inputs = [
                self.layout.images,
                self.layout.classes(CLEAN),
                self.layout.features(CLEAN),
            ]
            self.look(experiment, inputs)
        for experiment in (CLEAN, PGD, FGSM, NOISE):
            for seed in (0, 1):
                self.recommend(Run(experiment, "VBPR", 10, TOP, seed))

    def record(self, command, inputs, outputs, **options):
        self.monkeypatch.setattr(sys, "argv", command.split())
        Manifest.of(command.split()[0], options, inputs).write(outputs)

    def look(self, experiment, inputs):
        """Write the classes and features of an experiment, with the record of their stage."""
        classes, features = self.layout.classes(experiment), self.layout.features(experiment)
        classes.parent.mkdir(exist_ok=True)
        numbers = np.array([7, 7, 8])
        predictions = Classes(np.arange(3), numbers, ["a", "a", "b"], np.ones(3))
        if experiment.attack:
            attacked = Classes(np.arange(2), np.array([8, 8]), ["b", "b"], np.ones(2))
            write_attacked_classes(classes, attacked, predictions.rows(np.arange(2)))
        else:
            write_classes(classes, predictions)
        write_features(features, np.full((3, 2), len(experiment.name), float))
        verb = "classify_extract_attack.py" if experiment.attack else "classify_extract.py"
        self.record(
            f"{verb} --attack_type {experiment.attack}",
            inputs,
            [classes, features],
            weights=fingerprint(self.checkpoint),
            arch="net",
        )

    def recommend(self, run):
        lists, ranks = self.layout.recommendations(run), self.layout.test_ranks(run)
        ranks.parent.mkdir(parents=True, exist_ok=True)
        first = int(run.experiment.attack is None)
        write_top_k(lists, TopK(np.tile([first, 2], (N_USERS, 1)), np.ones((N_USERS, TOP))))
        users = np.arange(N_USERS)
        write_test_ranks(ranks, TestRanks(users, users, users, np.full(N_USERS, 5)))
        self.record(
            f"rec_generator.py --experiment_name {run.experiment.name} --seed 0 1",
            [self.layout.features(run.experiment), self.layout.training_set],
            [lists, ranks],
            seed=run.seed,
        )

    def run(self, module, *arguments):
        return run_script(module, *arguments)

    def trace(self, *arguments, table="summary"):
        return self.run(trace, str(self.layout.results / f"{table}.tsv"), *arguments)


@pytest.fixture
def tree(monkeypatch, tmp_path, capsys):
    tree = Tree(monkeypatch, tmp_path)
    arguments = ("--dataset", "toy", "--root", str(tmp_path), "--list_of_k", "2")
    assert tree.run(summarize, *arguments) == 0
    capsys.readouterr()
    return tree


def commands_in(printed):
    return re.findall(r"^  \d+\. python (.+?)(?: --root.*)?$", printed, re.MULTILINE)


ROW = [f"attack={PGD.name}", "metric=chr"]


def test_each_command_stands_once_behind_those_whose_files_it_read(tree, capsys):
    assert tree.trace("--where", *ROW) == 0
    printed = capsys.readouterr().out
    commands = commands_in(printed)
    lists = {
        f"rec_generator.py --experiment_name {of.name} --seed 0 1" for of in (CLEAN, PGD, NOISE)
    }
    looks = {f"classify_extract_attack.py --attack_type {of}" for of in ("pgd", "noise")}
    assert commands[0] == f"prepare_dataset.py interactions --train {tree.source}"
    assert commands[1].startswith("train_extractor.py")
    assert commands[2] == "classify_extract.py --attack_type None"
    assert set(commands[3:-1]) == lists | looks and len(commands) == 3 + len(lists | looks) + 1
    for of in (PGD, NOISE):
        look = f"classify_extract_attack.py --attack_type {of.attack}"
        learn = f"rec_generator.py --experiment_name {of.name} --seed 0 1"
        assert commands.index(look) < commands.index(learn)
    assert commands[-1].startswith("summarize.py --dataset toy")
    assert f"  {fingerprint(tree.source)}  {tree.source}\n" in printed
    assert "every file is as its manifest says" in printed


def test_a_network_that_lies_elsewhere_is_named(tree, capsys, tmp_path_factory):
    weights = tmp_path_factory.mktemp("elsewhere") / "[1] net.pth"
    weights.write_text("a network")
    made = [tree.layout.classes(CLEAN), tree.layout.features(CLEAN)]
    command = ["classify_extract.py", "--model_file", str(weights), "--score_options", ""]
    tree.monkeypatch.setattr(sys, "argv", command)
    options = {"weights": fingerprint(weights)}
    Manifest.of("classify_extract.py", options, [tree.layout.images]).write(made)
    assert tree.trace("--where", *ROW) == 0
    assert f"  {fingerprint(weights)}  {weights}\n" in capsys.readouterr().out


def test_a_row_of_runs_is_one_run(tree, capsys):
    assert tree.trace("--where", f"attack={FGSM.name}", "seed=1", table="runs") == 0
    commands = commands_in(capsys.readouterr().out)
    assert [of for of in commands if of.startswith("rec_generator")] == [
        f"rec_generator.py --experiment_name {FGSM.name} --seed 0 1"
    ]


def test_what_changed_and_what_lacks_a_manifest_is_named(tree, capsys):
    run = Run(PGD, "VBPR", 10, TOP, 1)
    tree.source.write_text("user,item\n1,2\n")
    tree.checkpoint.write_text("another network")
    tree.layout.test_ranks(run).unlink()
    features = tree.layout.features(NOISE)
    record_path(tree.layout.classes(NOISE)).unlink()
    assert tree.trace("--where", *ROW) == 0
    given, changed = capsys.readouterr().out.split("changed since:")
    assert f"{tree.source} has changed since" in changed
    assert f"{tree.layout.test_ranks(run)} is missing" in changed
    assert f"{fingerprint(features)}  {features}" in given
    assert f"{tree.checkpoint} has changed since" in changed


def test_links_are_told_from_what_commands_left(tree, capsys):
    images = tree.layout.images
    images.rename(images.with_name("shared"))
    images.symlink_to("shared")
    assert tree.trace("--where", *ROW) == 0
    printed = capsys.readouterr().out
    assert f"  {images} -> shared\n" in printed and "every file is as" in printed


def test_lists_that_were_changed_are_told_from_their_ranks(tree, capsys):
    """Both files of a run have one name."""
    lists = tree.layout.recommendations(Run(PGD, "VBPR", 10, TOP, 0))
    lists.write_text(lists.read_text() + "\n")
    assert tree.trace("--where", *ROW) == 0
    changed = capsys.readouterr().out.split("changed since:")[1]
    assert f"{lists} has changed since" in changed
    assert str(tree.layout.test_ranks(Run(PGD, "VBPR", 10, TOP, 0))) not in changed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["0"], "has rows 1 to"),
        (["999"], "no row 999"),
        ([], "name one row"),
        (["1", "--where", "k=2"], "name one row"),
        (["--where", "colour=red"], "--where colour=red: a condition is column=value"),
        (["--where", "k"], "--where k: a condition is column=value"),
        (["--where", "metric=chr"], "3 rows of"),
        (["--where", "metric=none"], "0 rows of"),
    ],
)
def test_a_row_that_is_not_one_is_one_line(tree, capsys, arguments, line):
    assert tree.trace(*arguments) == 2
    found = capsys.readouterr()
    assert line in found.err and found.err.count("\n") == 1 and found.out == ""


def test_tables_without_a_manifest_cannot_be_traced(tree, capsys):
    record_path(tree.layout.summary).unlink()
    assert tree.trace("1") == 2
    assert "has no manifest of summarize.py" in capsys.readouterr().err
    assert tree.trace("1", table="nothing") == 2
    assert "there is no table at" in capsys.readouterr().err
