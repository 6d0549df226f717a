"""Names and columns of what the scripts leave, and the tool that records them."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import rec_generator
from src.artifacts.experiments import PAPER_FIELDS
from src.attacks.robustness.trials import ATTACKS as TRIALS
from tests.golden.commands import BAD_CALLS, EVERYTHING, NAMED
from tests.golden.files import describe
from tests.golden.records import differences, failures, names_of, record

ROOT = Path(__file__).parents[1]
NAMES = ROOT / "tests/golden/names.json"
WORDS = {word for row in EVERYTHING if row not in BAD_CALLS for word in shlex.split(row[1])}


def test_the_commands_have_names_of_their_own_and_reach_every_choice():
    assert len({name for name, _ in EVERYTHING}) == len(EVERYTHING)
    scripts = {script.name for script in ROOT.glob("*.py")}
    assert scripts == {line.split()[0] for _, line in EVERYTHING if line.endswith} & scripts
    assert scripts == {line.split()[0] for _, line in BAD_CALLS}
    choices = {*PAPER_FIELDS, *TRIALS, *rec_generator.FACTOR_MODELS, *rec_generator.BASELINES}
    assert choices <= WORDS


@pytest.mark.slow
def test_the_scripts_leave_the_recorded_names_and_columns(tmp_path):
    found = record(NAMED, tmp_path)
    assert failures(found) == []
    assert list(differences(json.loads(NAMES.read_text()), names_of(found))) == []
