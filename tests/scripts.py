"""Scripts and audits that run in the process of a test."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from src.artifacts.program import AUDITS
from src.cli import run


def run_script(script: str | ModuleType, *arguments: object) -> int:
    """Run a script, or an audit such as ``audits.leaks``, with ``arguments``; return its exit code."""
    module = importlib.import_module(script) if isinstance(script, str) else script
    file = Path(module.__file__)
    with pytest.MonkeyPatch.context() as patch:
        started = str(file) if file.parent == AUDITS else file.name
        patch.setattr(sys, "argv", [started, *map(str, arguments)])
        try:
            return run(module.main)
        except SystemExit as end:  # argparse
            return end.code


def one_line(outcome: tuple[int, str, str], message: str) -> bool:
    """Assert that a command ended with code 2 and one line of an error that says ``message``."""
    code, _, error = outcome
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    assert message in error
    return True
