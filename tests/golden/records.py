"""Records of commands' files, and differences between two records."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.golden.commands import BAD_CALLS, Commands
from tests.golden.files import describe
from tests.golden.running import run_commands

Record = dict[str, Any]

_VARIES = re.compile("h[3-6] |(inputs|outputs) > ")
"""Headings of the report below its sections; in manifests, names of files that are recorded anyway."""
_NUMBER = re.compile(r"\d+")
_NUMBERED_IMAGE = re.compile(r"[\d_]+[a-z]*\.(jpg|png|tiff)")


def record(commands: Commands, folder: Path) -> Record:
    """Run ``commands`` in ``folder``; return the output of each, and every file that they wrote."""
    printed = dict(run_commands(commands, folder))
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): describe(path) for path in paths}
    return {"commands": printed, "files": files}


def failures(record: Record) -> list[str]:
    """Return a line for each command with a wrong exit code."""
    bad = {name for name, _ in BAD_CALLS}
    return [
        f"{name}: exit code {of['exit']} {' '.join(of['errors'])}"
        for name, of in record["commands"].items()
        if of["exit"] != (2 if name in bad else 0)
    ]


def names_of(record: Record) -> Record:
    """Return the part of a record that holds on every machine: exit codes, files and their columns.

    The attacked images depend on a trained network, so that all numbered images have one name. Only the
    sections of the report count.
    """
    commands = {name: {"exit": of["exit"]} for name, of in record["commands"].items()}
    files = {
        _without_number(path): {
            "columns": [of for of in content["columns"] if not _VARIES.match(of)]
        }
        for path, content in record["files"].items()
    }
    return {"commands": commands, "files": files}


def _without_number(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{_NUMBER.sub('N', name)}" if _NUMBERED_IMAGE.fullmatch(name) else path


def differences(before: Record, after: Record) -> Iterator[str]:
    """Return each difference in a line, or in several lines for changed output."""
    for name in _either(before["commands"], after["commands"]):
        old, new = (of["commands"].get(name) for of in (before, after))
        if old is None or new is None:
            yield f"command {'new' if old is None else 'missing'}: {name}"
            continue
        for key in ("command", "exit"):
            if old.get(key) != new.get(key):
                yield f"{key} of {name}: {old[key]} -> {new[key]}"
        for key in ("stdout", "errors"):
            for line in _changed_lines(old.get(key, []), new.get(key, [])):
                yield f"{key} of {name}: {line}"
    for path in _either(before["files"], after["files"]):
        old, new = (of["files"].get(path) for of in (before, after))
        if old is None or new is None:
            yield f"file {'new' if old is None else 'missing'}: {path}"
        elif old["columns"] != new["columns"]:
            yield f"columns changed: {path}: {_gone_and_come(old['columns'], new['columns'])}"
        elif old.get("sha256") != new.get("sha256"):
            yield f"bytes changed: {path}"


def _either(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the keys of both, those of ``before`` first."""
    return list(dict.fromkeys((*before, *after)))


def _changed_lines(before: list[str], after: list[str]) -> list[str]:
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _gone_and_come(before: list[str], after: list[str]) -> str:
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    if not gone and not come:
        return "another order"
    return " ".join([*(f"-{name!r}" for name in gone), *(f"+{name!r}" for name in come)])
