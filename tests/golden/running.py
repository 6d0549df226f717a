"""Runs of the commands, with their output."""

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
    complaints = folder / ".worker"
    with (
        complaints.open("w") as stream,
        subprocess.Popen(
            [sys.executable, str(WORKER)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        ) as worker,
    ):
        for name, line in commands:
            printed = {key: str(folder / key) for key in _PRINTED}
            job = {"arguments": shlex.split(line)} | {
                key.removeprefix("."): path for key, path in printed.items()
            }
            started = time.monotonic()
            worker.stdin.write(f"{json.dumps(job)}\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
            if not answer:
                raise RuntimeError(f"no script can run:\n{complaints.read_text()}")
            code = int(answer)
            print(f"{time.monotonic() - started:5.1f} s  {name}", file=sys.stderr, flush=True)
            stdout, stderr = (_read_and_remove(Path(path), folder) for path in printed.values())
            yield (
                name,
                {"command": line, "exit": code, "stdout": stdout, "errors": _errors(stderr, code)},
            )
    for own in (complaints, *(folder / script.name for script in ROOT.glob("*.py"))):
        own.unlink()


def _read_and_remove(file: Path, folder: Path) -> list[str]:
    text = file.read_text()
    file.unlink()
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
