"""Shared options, one-line errors and exit codes."""

import argparse
import errno
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from src import __version__
from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.cli import Parser, add_seed_option, number_list, pixel_levels, run

ROOT = Path(__file__).parents[2]
INTERRUPTED_LIBRARY = """
import os, signal
try:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a shell's background
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    {answer}
"""
SAY_VERSIONS = """
import contextlib, runpy, sys
for module in sys.argv[1:]:
    sys.argv = [module, "--version"]
    with contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("features.npy\nis wrong"), 2, "error: features.npy is wrong\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.npy"),
            2,
            "error: no space to write x.npy",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, "error: x: No such"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "error: there is not enough memory"),
    ],
)
def test_errors_are_one_line(capsys, error, code, line):
    assert run(raising(error)) == code
    captured = capsys.readouterr().err
    assert captured.startswith(line) and captured.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory.\nTried to allocate 2 GiB"),
        (torch.AcceleratorError, "CUDA error: out of memory\nCUDA kernel errors might be"),
        (
            RuntimeError,
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        (Exception, "Failed copying input tensor to GPU:0: Dst tensor is not initialized."),
    ],
)
def test_a_training_step_that_a_gpu_cannot_hold_is_one_line(kind, words, capsys):
    assert run(raising(kind(words))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is not enough memory: choose smaller batches")
    assert error.count("\n") == 1


def test_an_unexpected_error_is_one_line_and_its_trace_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(lambda: None) == 0
    assert run(lambda: 1 // 0) == 1
    line = capsys.readouterr().err
    [trace] = (tmp_path / "logs").iterdir()
    assert line.startswith("error: unexpected ZeroDivisionError: ") and line.count("\n") == 1
    assert "please report" in line and str(trace.relative_to(tmp_path)) in line
    assert "in <lambda>" in trace.read_text() and "ZeroDivisionError" in trace.read_text()


def test_a_trace_that_cannot_be_stored_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").write_text("a file in the place of the folder")
    assert run(lambda: 1 // 0) == 1
    assert "in <lambda>" in capsys.readouterr().err


def test_a_terminated_process_removes_what_is_unfinished(tmp_path, capsys):
    def write() -> None:
        with atomic_output(tmp_path / "table.tsv") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert run(write) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == "terminated: run the same command again to continue\n"


@pytest.mark.parametrize("answer", ["", "raise ImportError('the library lacks a part')"])
@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("numpy", "classify_extract.py --help"),
        ("numpy", "-m audits.bounds --help"),
        ("torch", "-m audits.convert_checkpoint net.pt out.pt --i_trust_this_file"),
    ],
)
def test_ctrl_c_during_an_import_is_one_line(tmp_path, library, command, answer):
    source = INTERRUPTED_LIBRARY.format(answer=answer or "raise")
    (tmp_path / f"{library}.py").write_text(source)
    done = subprocess.run(
        [sys.executable, *command.split()],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "interrupted: run the same command again to continue\n"
    assert (done.returncode, done.stdout) == (130, "")


@pytest.mark.parametrize("number", ["-1", "4294967296", "99999999999999999999", "1.5"])
def test_seeds_that_no_library_takes_are_refused(number, capsys):
    parser = Parser("test")
    add_seed_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--seed={number}"])
    assert "--seed" in capsys.readouterr().err


def test_wrong_options_are_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        Parser("test").parse_args(["--nonsense"])
    assert stopped.value.code == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ") and captured.count("\n") == 1


def test_unknown_options_name_the_nearest_known_one(capsys):
    parser = Parser("test")
    commands = parser.add_subparsers()
    commands.add_parser("demo", description="").add_argument("--users", type=int)
    for words in (["demo", "--user", "3"], ["demo", "--user=3"]):
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args(words)
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: unknown option --user (did you mean --users?)")
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        parser.parse_args(["demo", "--zzz"])
    assert "did you mean" not in capsys.readouterr().err


def test_unknown_choices_name_the_nearest_known_one(capsys):
    parser = Parser("test")
    parser.add_argument("--metric", choices=("chr", "ncdcg", "accuracy"))
    with pytest.raises(SystemExit):
        parser.parse_args(["--metric", "nDCG"])
    error = capsys.readouterr().err
    assert "invalid choice 'nDCG': choose from chr, ncdcg, accuracy" in error
    with pytest.raises(SystemExit):
        parser.parse_args(["--metric", "acuracy"])
    assert "accuracy (did you mean accuracy?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "command"),
    [("report.py", "python report.py"), (ROOT / "audits" / "leaks.py", "python -m audits.leaks")],
)
def test_wrong_options_name_the_command_to_ask(script, command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(script), "--nonsense"])
    with pytest.raises(SystemExit):
        Parser("test").parse_args()
    assert capsys.readouterr().err.endswith(f"(see {command} --help)\n")


@pytest.mark.parametrize("options", [[], ["--help"]])
def test_the_audits_are_listed_with_their_purpose(options):
    command = [sys.executable, "-m", "audits", *options]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for audit in ROOT.glob("audits/[!_]*.py"):
        purpose = audit.read_text().splitlines()[0].strip('"')
        assert re.search(rf"python -m audits\.{audit.stem} +{re.escape(purpose)}$", listed, re.M)


def test_every_script_and_audit_prints_the_one_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "src.__version__"}
    modules = [
        *(path.stem for path in ROOT.glob("*.py")),
        *(f"audits.{path.stem}" for path in ROOT.glob("audits/*.py") if path.stem != "__init__"),
    ]
    command = [sys.executable, "-c", SAY_VERSIONS, *modules]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(modules) > 20 and said == f"VAR {__version__}\n" * len(modules)


def test_detached_dashes_are_read_as_printed_in_the_paper_repository():
    parser = Parser("test")
    parser.add_argument("--origin", type=int)
    parser.add_argument("--topk", type=int)
    parsed = parser.parse_args(["--", "origin", "774", "--topk", "150"])
    assert parsed == argparse.Namespace(origin=774, topk=150)


@pytest.mark.parametrize("text", ["[0.01,1e-4,1e-3]", "0.01 1e-4 1e-3", "[0.01, 1e-4, 1e-3]"])
def test_number_lists(text):
    assert number_list(text) == [0.01, 1e-4, 1e-3]


def test_number_lists_are_never_evaluated():
    with pytest.raises(ValueError, match="could not convert"):
        number_list("[__import__('os').getpid()]")


@pytest.mark.parametrize(
    ("text", "levels"), [("8", 8.0), ("8/255", 8.0), ("4.0", 4.0), ("1/10", 25.5)]
)
def test_budgets_in_grey_levels(text, levels):
    assert pixel_levels(text) == pytest.approx(levels)


@pytest.mark.parametrize("text", ["8/0", "eight", ""])
def test_what_is_no_number_of_levels_is_refused(text):
    with pytest.raises(ValueError):
        pixel_levels(text)


def test_a_reader_that_leaves_is_no_error():
    """The reader ends early, as in ``python script.py | head -1``."""
    main = "lambda: print('x' * 999_999)"
    code = f"import sys\nfrom src.cli import run\nsys.exit(run({main}))"
    pipe = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pipe.stdout.close()
    assert pipe.stderr.read() == b""
    assert pipe.wait() == 141
