"""The scripts that make the environment, on stand-ins for Python and for PyTorch's index."""

import http.server
import os
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/bash
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/activate" ;;
    "-m pip") shift 3 && echo "pip: ${*:1:$#-1} $(paste -sd ' ' "${@: -1}")" && exit "${PIP_CODE:-0}" ;;
    *) exec python3 "$@" ;;
esac
"""


@pytest.fixture
def here(tmp_path) -> Path:
    """A copy of what the scripts read, and of a Python that only says what pip is to install."""
    (tmp_path / "reproduce").mkdir()
    for name in ("setup.sh", "reproduce/setup.sh"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-extras.txt"):
        (tmp_path / name).write_text("torch # a comment\ncleverhans==4.0.0\n")
    stand_in = tmp_path / "python"
    stand_in.write_text(PYTHON)
    stand_in.chmod(0o755)
    return tmp_path


@pytest.fixture
def index(tmp_path):
    """Serve an index of packages on this machine; yield its address."""

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def setup(here: Path, *options: str, index: str = "http://127.0.0.1:1", code: int = 0, **more: str):
    env = os.environ | {"PYTHON": str(here / "python"), "CPU_INDEX": index} | more
    run = subprocess.run(
        ["bash", "setup.sh", *options], cwd=here, env=env, capture_output=True, text=True
    )
    assert run.returncode == code, run.stderr
    return run.stdout if code == 0 else run.stderr


def test_builds_without_cuda_come_from_the_index_of_cpu_builds(here, index):
    said = setup(here, "--cpu", index=index)
    assert f"--extra-index-url {index}" in said and "(3 GB" in said
    assert said.endswith("ready: source .venv/bin/activate\n")


def test_an_index_that_cannot_be_reached_is_said_and_the_ordinary_builds_are_taken(here):
    said = setup(here, "--cpu")
    assert "torch comes with CUDA" in said and "--extra-index-url" not in said and "(7 GB" in said


def test_builds_with_cuda_on_demand(here, index):
    assert "--extra-index-url" not in setup(here, "--gpu", index=index)


def test_what_is_installed_is_not_installed_again(here):
    assert setup(here, "--gpu", "--extras", "--dev").count("torch") == 3
    assert "pip: " not in setup(here, "--gpu", "--dev")
    (here / "requirements.txt").write_text("torch\nnumpy\n")
    assert setup(here, "--gpu").count("numpy torch") == 1


def test_cleverhans_comes_without_what_its_attacks_do_not_need(here):
    (here / "requirements-dev.txt").write_text("-r requirements.txt\npytest\n")
    lines = [
        line for line in setup(here, "--gpu", "--dev").splitlines() if line.startswith("pip: ")
    ]
    last = [line.split(" -r ")[1] for line in lines[-2:]]
    assert last == ["pytest torch # a comment", "cleverhans==4.0.0"]
    assert ["--no-deps" in line for line in lines] == [False, True] * 2


def test_an_installation_that_fails_is_tried_again(here):
    setup(here, "--gpu", code=2, PIP_CODE="1")
    assert "pip: " in setup(here, "--gpu")


def test_a_python_that_is_not_there_is_an_error(here):
    said = setup(here, code=2, PYTHON="/nonexistent")
    assert said == "error: PYTHON=/nonexistent is no Python 3.11, 3.12 or 3.13\n"
    assert setup(here, "--best", code=2) == (
        "error: unknown option --best (see bash setup.sh --help)\n"
    )
