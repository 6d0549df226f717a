"""Fixtures that tests of data sets share."""

from collections.abc import Callable

import pytest

from tests.scripts import run_script


@pytest.fixture
def prepare(tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the script with ``--root tmp_path``; return (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run_script("prepare_dataset", *arguments, "--root", tmp_path)
        return code, *capsys.readouterr()

    return call
