"""Running the commands and keeping what they print."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.golden.commands import ANSWERS, Commands

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
_PRINTED = ".stdout", ".stderr"
_ERROR = re.compile(r"(error|note|warning|interrupted): ?.*")
_VOLATILE = re.compile(r"\d+(\.\d+)? ?(seconds|images/s|it/s|s/it|s|min|h)\b")
"""Durations and speeds."""


def run_commands(commands: Commands, folder: Path) -> Iterator[tuple[str, dict]]:
    """Run each command in ``folder``; yields its name and what it printed.

    One thread alone, so that the same seed gives the same bytes.
    """
    for script in ROOT.glob("*.py"):
        (folder / script.name).symlink_to(script)
    (folder / "answers.csv").write_text(ANSWERS)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "COLUMNS": "100",
    }
    with subprocess.Popen(
        [sys.executable, str(WORKER)],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        for name, line in commands:
            printed = {key: str(folder / key) for key in _PRINTED}
            job = {"arguments": shlex.split(line)} | {
                key.removeprefix("."): path for key, path in printed.items()
            }
            started = time.monotonic()
            print(json.dumps(job), file=worker.stdin, flush=True)
            code = int(worker.stdout.readline())
            print(f"{time.monotonic() - started:5.1f} s  {name}", file=sys.stderr, flush=True)
            stdout, stderr = (_read_and_remove(Path(path), folder) for path in printed.values())
            yield (
                name,
                {"command": line, "exit": code, "stdout": stdout, "errors": _errors(stderr, code)},
            )
    for script in ROOT.glob("*.py"):
        (folder / script.name).unlink()


def _read_and_remove(file: Path, folder: Path) -> list[str]:
    text = file.read_text()
    file.unlink()
    text = text.replace(str(folder), "<folder>").replace(str(ROOT), "<repository>")
    return _without_seconds([_VOLATILE.sub(r"<n> \2", line) for line in text.splitlines()])


def _without_seconds(lines: list[str]) -> list[str]:
    """Lines whose cells below the last heading of a table, ``seconds``, are left out."""
    width = None
    kept = []
    for line in lines:
        if line.endswith(" seconds"):
            width = len(line)
        is_cell = len(line) == width and not line.endswith(" seconds")
        kept.append(line.removesuffix(line.split()[-1]).rstrip() if is_cell else line)
    return kept


def _errors(lines: list[str], code: int) -> list[str]:
    """What a script says on stderr beside bars of progress; of a crash its last line."""
    said = [line for line in lines if _ERROR.fullmatch(line)]
    return said or (lines[-1:] if code else [])
