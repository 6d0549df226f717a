"""A sample of the faults: damages of artifacts, command lines of every script, and kills."""

import numpy as np
import pytest

from tests.faults import kills, space
from tests.faults.cases import FUZZED, build_whole, damage_all, faults, fuzz


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build_whole(tmp_path_factory.mktemp("faults") / "whole")


def test_no_damaged_artifact_ends_in_a_trace_or_in_another_number(whole):
    every = list(faults(whole))
    chosen = np.random.default_rng(0).choice(len(every), 150, replace=False)
    figures = damage_all(whole, (every[at] for at in sorted(chosen)))
    assert figures.counts["damaged trees"] > 100 and figures.counts["stages that refused"] > 50
    assert not figures.wrong, str(figures)


def test_no_command_line_ends_in_a_trace():
    figures = fuzz(3 * len(FUZZED), seed=1)
    assert not figures.wrong, str(figures)


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
