"""Bars on terminals, lines in logs, and times in words."""

import io

import pytest

from src.artifacts import progress
from src.artifacts.progress import duration, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, monkeypatch, seconds_between_lines):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds_between_lines)
    with progress_bar(total=3, desc="attacks", unit="image", mininterval=0) as bar:
        for _ in range(3):
            bar.set_postfix_str("pgd")
            bar.update()
        bar.write("said", file=stream)
    assert list(progress_bar(range(4), "figures", leave=True)) == [0, 1, 2, 3]
    return stream.getvalue()


def test_a_log_has_whole_lines_and_only_now_and_then(monkeypatch):
    written = run(io.StringIO(), monkeypatch, 0)
    assert "\r" not in written and written.endswith("\n")
    assert "attacks: 100%" in written and "3/3" in written and "\nsaid\n" in written
    assert run(io.StringIO(), monkeypatch, 60) == "said\n"


def test_a_terminal_has_a_bar(monkeypatch):
    written = run(Terminal(), monkeypatch, 60)
    assert "\rattacks: 100%" in written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_times_in_words(seconds, text):
    assert duration(seconds) == text
