"""The README tells the truth: its published commands are accepted, its files and options exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

ATTACK = (
    "--dataset amazon_men --attack_type pgd --eps 4 --l inf --origin_class 774 --target_class 770 "
    "--defense 0 --gpu 0"
)
PLACEHOLDERS = {
    "[SAME PARAMETERS SEEN FOR classify_extract_attack.py]": ATTACK,
    "[ATTACK_PARAMETERS]": "--eps 4 --l inf",
    "<dataset_name>": "amazon_men",
    "<gpu_id>": "0",
    "<model_name>": "madry",
    "<model_filename>": "imagenet_linf_4.pt",
    "<full_experiment_name>": "original",
    "<num_training_epochs>": "4000",
    "<show_results_each_n_epochs>": "1000",
    "<ncdcg or chr>": "chr",
    "<original_class_id>": "774",
    "<metric_k>": "20",
    "<attack_name>": "fgsm",
    "<zero_indexed_origin_class>": "774",
    "<zero_indexed_target_class>": "770",
}


def published_commands() -> list[str]:
    table = README.split("as the paper's repository prints them")[1].split("\n\n")[1]
    commands = re.findall(r"`(python .+?)`", table)
    for placeholder, value in PLACEHOLDERS.items():
        commands = [command.replace(placeholder, value) for command in commands]
    return commands


def test_the_table_holds_every_published_command():
    commands = published_commands()
    assert len(commands) == 8
    assert not any("<" in command or "[" in command for command in commands)


@pytest.mark.parametrize("command", published_commands())
def test_published_commands_are_accepted_as_printed(command, tmp_path):
    """They get past their options: what stops them is that there is no such data set here."""
    arguments = [sys.executable, *shlex.split(command)[1:], "--root", str(tmp_path)]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: no data set at "), result.stderr
    assert result.stderr.count("\n") == 1


def test_files_named_in_the_readme_exist():
    named = re.findall(r"\]\(([^)#:]+)\)|`(?:bash|python) ([\w/.]+\.(?:sh|py))", README)
    for link, script in named:
        assert (ROOT / (link or script)).exists(), link or script


def test_options_in_the_readme_exist():
    """Every ``--option`` of the README's option tables is one of its script's options."""
    for script, table in re.findall(r"### Options of `(\w+\.py)`\n\n((?:\|.*\n)+)", README):
        shown = subprocess.run(
            [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for option in re.findall(r"`(--\w+)", table):
            assert re.search(rf"{option}\b", shown), f"{script} has no {option}"
