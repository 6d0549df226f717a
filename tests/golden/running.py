"""Runs of the commands, with their output."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.golden.commands import ANSWERS, Commands
from tests.warm_python import warm_python

ROOT = Path(__file__).parents[2]
_ERROR = re.compile(r"(error|note|warning|interrupted): ?.*")


def run_commands(commands: Commands, folder: Path) -> Iterator[tuple[str, dict]]:
    """Run each command in ``folder``; yield its name and its output.

    Commands have one thread, so that equal seeds give equal bytes.
    """
    for script in ROOT.glob("*.py"):  # audits are found by PYTHONPATH
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
    with (
        tempfile.TemporaryDirectory() as place,
        warm_python(Path(place), environment) as python,
    ):
        for name, line in commands:
            started = time.monotonic()
            done = subprocess.run(
                [python.program, *shlex.split(line)],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            print(f"{time.monotonic() - started:5.1f} s  {name}", file=sys.stderr, flush=True)
            stdout, stderr = (_lines(text, folder) for text in (done.stdout, done.stderr))
            code = done.returncode
            yield (
                name,
                {"command": line, "exit": code, "stdout": stdout, "errors": _errors(stderr, code)},
            )
    for script in ROOT.glob("*.py"):
        (folder / script.name).unlink()


def _lines(text: str, folder: Path) -> list[str]:
    text = text.replace(str(folder), "<folder>").replace(str(ROOT), "<repository>")
    return _without_seconds(text.splitlines())


def _without_seconds(lines: list[str]) -> list[str]:
    """Return the lines, without the last cell of tables whose last column is ``seconds``."""
    width = None
    kept = []
    for line in lines:
        if line.endswith(" seconds"):
            width = len(line)
        is_cell = len(line) == width and not line.endswith(" seconds")
        kept.append(line.removesuffix(line.split()[-1]).rstrip() if is_cell else line)
    return kept


def _errors(lines: list[str], code: int) -> list[str]:
    """Return stderr without bars of progress; of a crash only the last line."""
    said = [line for line in lines if _ERROR.fullmatch(line)]
    return said or (lines[-1:] if code else [])
