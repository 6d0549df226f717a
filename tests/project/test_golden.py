"""Names and columns of the scripts' files, and the tool that records them."""

import copy
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from src.attacks.registry import ATTACKS
from src.attacks.robustness.trials import CHOICES
from src.recommenders.cornac_models import FOLDED
from src.recommenders.registry import RECOMMENDERS
from tests.golden.commands import BAD_CALLS, EVERYTHING, NAMED
from tests.golden.files import describe
from tests.golden.records import differences, failures, names_of, record

ROOT = Path(__file__).parents[2]
NAMES = ROOT / "tests" / "golden" / "names.json"
RECORD = {
    "commands": {"demo": {"command": "x.py", "exit": 0, "stdout": ["1 item"], "errors": []}},
    "files": {
        "data/12.jpg": {"columns": [], "sha256": "a"},
        "data/table.tsv": {"columns": ["user", "item"], "sha256": "b"},
    },
}


def test_the_commands_reach_every_script_attack_and_recommender():
    assert len(dict(EVERYTHING)) == len(EVERYTHING)
    scripts = {script.name for script in ROOT.glob("*.py")}
    scripts |= {f"audits.{script.stem}" for script in ROOT.glob("audits/[!_]*.py")}
    words = {word for row in EVERYTHING if row not in BAD_CALLS for word in shlex.split(row[1])}
    # The tables' cw_l2 is stage 3's cw at its defaults, which take minutes; the leaderboard runs studies,
    # and test_leaderboard_verbs.py has its names and columns.
    # Recommenders of Cornac need an optional library.
    left_out = {"cw_l2", "audits.leaderboard", *FOLDED}
    assert (scripts | {*ATTACKS, *CHOICES, *RECOMMENDERS}) - left_out <= words
    assert scripts == {line.removeprefix("-m ").split()[0] for _, line in BAD_CALLS}


@pytest.mark.slow
def test_the_scripts_leave_the_recorded_names_and_columns(tmp_path):
    found = record(NAMED, tmp_path)
    assert failures(found) == []
    assert list(differences(json.loads(NAMES.read_text()), names_of(found))) == []


@pytest.mark.parametrize(
    ("name", "first", "second", "changed"),
    [
        ("a.tsv", "id\tseconds\n1\t2.5\n", "id\tseconds\n1\t2.7\n", "id\tseconds\n2\t2.5\n"),
        (
            "a.manifest.json",
            json.dumps({"seed": 0, "versions": {"torch": "1"}, "outputs": {"a": "0" * 64}}),
            json.dumps({"seed": 0, "versions": {"torch": "2"}, "outputs": {"a": "1" * 64}}),
            json.dumps({"seed": 1, "versions": {"torch": "1"}, "outputs": {"a": "0" * 64}}),
        ),
        ("a.html", "<p>of 2024-05-06</p>", "<p>of 2024-05-07</p>", "<p>on 2024-05-06</p>"),
        ("a.tex", "made 2024-05-06", "made 2024-05-07", "Made 2024-05-06"),
    ],
)
def test_only_what_differs_between_equal_runs_is_left_out(tmp_path, name, first, second, changed):
    file, digests = tmp_path / name, []
    for text in (first, second, changed):
        file.write_text(text)
        digests.append(describe(file)["sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_arrays_count_and_not_how_they_are_packed(tmp_path):
    file, array = tmp_path / "a.npz", np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(file, P=array)
    plain = describe(file)
    np.savez_compressed(file, P=array)
    assert describe(file) == plain and plain["columns"] == ["P: float32 2x3"]
    np.savez(file, P=array + 1)
    assert describe(file)["columns"] == plain["columns"]
    assert describe(file)["sha256"] != plain["sha256"]


def test_columns(tmp_path):
    contents = {
        "header.csv": ("ImageID,MSE\n3,0.5\n", ["ImageID", "MSE"]),
        "lists.tsv": ("0\t17\t-1.5e-3\n", ["#", "#", "#"]),
        "record.json": ('[{"a": 1}, {"a": {"b": []}}]', ["a", "a > b"]),
        "page.html": ('<section id="run"><h2>What <b>ran</b></h2></section>', ["#run", "h2 What ran"]),
    }  # fmt: skip
    for name, (text, columns) in contents.items():
        (tmp_path / name).write_text(text)
        assert describe(tmp_path / name)["columns"] == columns


def changed(*keys, to):
    """Return ``RECORD`` with another value below ``keys``; None removes it."""
    record = copy.deepcopy(RECORD)
    *above, last = keys
    entry = record
    for key in above:
        entry = entry[key]
    if to is None:
        del entry[last]
    else:
        entry[last] = to
    return record


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (changed("files", "data/12.jpg", to=None), "file missing: data/12.jpg"),
        (
            changed("files", "data/table.tsv", "columns", to=["user", "product"]),
            "columns changed: data/table.tsv: -'item' +'product'",
        ),
        (
            changed("files", "data/table.tsv", "columns", to=["item", "user"]),
            "columns changed: data/table.tsv: another order",
        ),
        (changed("files", "data/12.jpg", "sha256", to="c"), "bytes changed: data/12.jpg"),
        (changed("commands", "demo", "exit", to=1), "exit of demo: 0 -> 1"),
        (changed("commands", "demo", "errors", to=["error: x"]), "errors of demo: +error: x"),
        (changed("commands", "demo", to=None), "command missing: demo"),
    ],
)
def test_each_difference_is_a_line(other, line):
    assert list(differences(RECORD, other)) == [line]


def test_equal_records_do_not_differ_and_changed_output_is_shown():
    assert list(differences(RECORD, copy.deepcopy(RECORD))) == []
    other = changed("commands", "demo", "stdout", to=["2 items"])
    assert list(differences(RECORD, other)) == [
        "stdout of demo: -1 item",
        "stdout of demo: +2 items",
    ]
    assert list(differences(names_of(RECORD), names_of(other))) == []
    assert list(names_of(RECORD)["files"]) == ["data/N.jpg", "data/table.tsv"]
