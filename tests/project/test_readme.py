"""The README and its pages are correct: published commands are accepted, files and options exist."""

import functools
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
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
    table = REFERENCE.split("as the paper's repository prints them")[1].split("\n\n")[1]
    commands = re.findall(r"`(python .+?)`", table)
    for placeholder, value in PLACEHOLDERS.items():
        commands = [command.replace(placeholder, value) for command in commands]
    return commands


def test_the_table_holds_every_published_command():
    commands = published_commands()
    assert len(commands) == 8
    assert not any("<" in command or "[" in command for command in commands)


@pytest.mark.parametrize("command", published_commands())
def test_published_commands_are_accepted_as_printed(command, tmp_path, python):
    """The options are accepted, and only the missing data set stops the commands."""
    arguments = [python.program, *shlex.split(command)[1:], "--root", str(tmp_path)]
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
    for audit in re.findall(r"\baudits\.(\w+)", text):
        assert (ROOT / "audits" / f"{audit}.py").exists(), audit


def option_tables() -> list[tuple[str, str]]:
    """Return (script, table) of every table of options, for each of the scripts that share a table."""
    pattern = (
        r"##+ Options of `((?:\w+\.py|audits\.\w+)[ \w]*)`\n\n((?:[^#|\n].*\n+)*)((?:\|.*\n)+)"
    )
    tables = []
    for page in PAGES:
        # Stages 1, 3 and 5 share the options of the extractor.
        shown = page.read_text().replace(
            "Options of the extractor", "Options of `classify_extract.py`"
        )
        for script, text, table in re.findall(pattern, shown):
            shared = re.match(r"These options also .*", text)
            others = re.findall(r"`(\w+\.py|audits\.\w+)`", shared[0]) if shared else []
            tables += [(of, table) for of in (script, *others)]
    return tables


@pytest.fixture(scope="module")
def help_of(python) -> Callable[[str], str]:
    """Return ``help_of(script)``: the output of ``script --help`` without line breaks."""

    @functools.cache
    def call(script: str) -> str:
        module = ["-m"] if script.startswith("audits.") else []
        shown = subprocess.run(
            [python.program, *module, *script.split(), "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "1000"},
        )
        assert shown.returncode == 0
        return re.sub(r"\n {20,}", " ", shown.stdout)

    return call


@pytest.mark.parametrize(("script", "table"), option_tables(), ids=lambda part: part.split("\n")[0])
def test_options_in_a_table_exist(script, table, help_of):
    for option in re.findall(r"`(--\w+)", table):
        assert re.search(rf"{option}\b", help_of(script)), f"{script} has no {option}"


def test_every_script_with_a_page_of_options_is_found():
    assert len(option_tables()) == 18
    assert sum(len(list(said_defaults(*of))) for of in option_tables()) > 120


def said_defaults(script: str, table: str) -> Iterator[tuple[str, str]]:
    """Yield (option, default) for ``script`` from a table that has the default's value.

    Defaults are in the order of the options, separated by commas. Defaults of other scripts follow after
    a semicolon, with ``other.py`` and a colon before them.
    """
    for row in table.splitlines()[2:]:
        options, default = (cell.strip() for cell in row.split("|")[1:3])
        general, *others = default.split("; ")
        for other in others:
            scripts, _, value = other.rpartition(": ")
            if f"`{script}`" in scripts:
                general = value
        values = re.split(r",(?: |$)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", general)
        for option, value in zip(re.findall(r"`(--\w+)", options), values, strict=False):
            if re.fullmatch(r"`[^`]+`|-?[\d.]+(?:e-?\d+)?", value.strip()):
                yield option, value.strip().strip("`")


def plain(value: str) -> str:
    """Return one form, between spaces, of a default in tables and in ``--help``."""
    words = re.sub(r"[][',]", " ", value).split()
    number = re.compile(r"[\d.]+(e-?\d+)?")
    return f" {' '.join(f'{float(word):g}' if number.fullmatch(word) else word for word in words)} "


@pytest.mark.parametrize(("script", "table"), option_tables(), ids=lambda part: part.split("\n")[0])
def test_defaults_in_a_table_are_those_of_the_script(script, table, help_of):
    for option, value in said_defaults(script, table):
        said = re.search(rf"^ +(?:-\w, )?{option}\b.*", help_of(script), re.M)[0]
        defaults = re.findall(r"\(default: (.*?)\)(?!\))", said)
        found = any(plain(value) in plain(default) for default in defaults)
        assert found, f"{script} {option}: {value} in the table, {defaults} in --help"
