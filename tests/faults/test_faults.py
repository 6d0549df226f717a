"""A sample of the faults: damages of artifacts, command lines of every script, kills, and full disks."""

import argparse
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults import damage, kills, space
from tests.faults.cases import FUZZED, Figures
from tests.faults.watched import every_fault, watched


@pytest.fixture(scope="module")
def sample():
    """Figures of damages and of command lines, and those of what they wrote outside their trees."""
    numbers = {"kills": 0, "limits": 0, "damages": 150, "calls": 3 * len(FUZZED), "seed": 1}
    return list(watched(every_fault, argparse.Namespace(**numbers)))


def test_no_damaged_artifact_ends_in_a_trace_or_in_another_number(sample):
    figures = sample[0]
    assert figures.counts["damaged trees"] > 100 and figures.counts["stages that refused"] > 50
    assert not figures.wrong, str(figures)


def test_no_command_line_ends_in_a_trace(sample):
    figures = sample[1]
    assert figures.counts["command lines"] == 3 * len(FUZZED)
    assert not figures.wrong, str(figures)


def test_no_payload_is_executed(sample):
    assert [figures.counts["executed payloads"] for figures in sample[:2]] == [0, 0]


def test_nothing_is_written_outside_the_tree(sample):
    figures = sample[2]
    assert figures.counts["bytes written outside the tree"] == 0 and not figures.wrong, str(figures)


def write_outside(trees: Path, source: Path) -> Iterator[Figures]:
    """Write a file into every folder that is watched, and change the source."""
    for place in (trees.parent, trees, Path.home(), Path(tempfile.gettempdir()), source / "src"):
        (place / "note").write_text("1234")
    (Path.home() / ".keras").mkdir()
    (Path.home() / ".keras/keras.json").write_text("{}")
    (source / "README.md").unlink()
    yield Figures()


def test_what_is_written_outside_the_tree_is_found(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "README.md").write_text("read me")
    _, figures = watched(write_outside, tmp_path, source=tmp_path)
    assert figures.counts["bytes written outside the tree"] == 5 * 4
    assert figures.counts["bytes that libraries keep for themselves"] == 2
    found = [line.removeprefix("outside the tree: ") for line in figures.wrong]
    inside = ["HOME/note", "TMPDIR/note", "note", "trees/note", f"{tmp_path}/src/note"]
    removed = f"{tmp_path}/README.md (removed)"
    assert sorted(found) == sorted([removed, *(f"{name} (4 bytes)" for name in inside)])


@pytest.mark.parametrize("name", [name for name in damage.DAMAGES if name.startswith("a pickle")])
def test_payloads_of_the_damages_would_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content = damage.DAMAGES[name](b"no archive", np.random.default_rng(0))
    path = tmp_path / "payload"
    path.write_bytes(content)
    if name == "a pickle in an array":
        np.load(path, allow_pickle=True)
    elif name == "a pickle in an archive":
        pickle.loads(zipfile.ZipFile(path).read("archive/data.pkl"))
    else:
        pickle.loads(content)
    assert (tmp_path / damage.EXECUTED).is_file()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return kills.build(tmp_path_factory.mktemp("kills") / "start")


@pytest.mark.slow
def test_a_stage_that_was_killed_ends_with_the_same_bytes(start):
    names = ["attack", "training", "rankings", "inversion", "attack of two processes"]
    figures = kills.kill_all(start, names, len(names), seed=1)
    assert figures.counts["kills after which a run gave the same bytes"] == len(names), str(figures)
    assert not figures.wrong, str(figures)


@pytest.mark.slow
def test_two_runs_of_a_stage_at_once_leave_the_files_of_one(start):
    figures = kills.run_twice_at_once(start, ["extraction", "attack", "recommenders"], seed=1)
    assert not figures.wrong, str(figures)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_whole_files(start):
    figures = space.fill_the_disk(start, ["extraction", "attack", "rankings"], 2, seed=1)
    assert figures.counts["runs on a full disk that had to end"] >= 6, str(figures)
    assert not figures.wrong, str(figures)
    if not space.can_mount():
        pytest.skip("limits were kept, but this machine lets no user mount a small disk")
    assert figures.counts["runs on a small disk"] == 6, str(figures)
