"""The README and its pages tell the truth: published commands are accepted, files and options exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_a_page_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    for script in re.findall(r"`(?:bash|python) ([\w/.]+\.(?:sh|py))", text):
        assert (ROOT / script).exists(), script


def option_tables() -> list[tuple[str, str]]:
    """(script, table) of every table of options."""
    pattern = r"##+ Options of `(\w+\.py[ \w]*)`\n\n(?:[^#|\n].*\n+)*((?:\|.*\n)+)"
    return [table for page in PAGES for table in re.findall(pattern, page.read_text())]


@pytest.mark.parametrize(("script", "table"), option_tables(), ids=lambda part: part.split("\n")[0])
def test_options_in_a_table_exist(script, table):
    shown = subprocess.run(
        [sys.executable, *script.split(), "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert shown.returncode == 0
    for option in re.findall(r"`(--\w+)", table):
        assert re.search(rf"{option}\b", shown.stdout), f"{script} has no {option}"


def test_every_script_with_a_page_of_options_is_found():
    assert len(option_tables()) == 13
