"""A sample of the faults: every damage of some artifacts, and some command lines of every script."""

import numpy as np
import pytest

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
