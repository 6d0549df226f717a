"""Bars on terminals, lines in logs, and times in words."""

import io

import pytest

from src.artifacts import progress
from src.artifacts.progress import Pace, duration, progress_bar


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


def test_a_long_training_says_once_how_long_it_takes():
    pace = Pace(4000)
    assert pace.after(1, 100.0) == pace.after(2, 102.0) == ""  # the first epoch is not timed
    assert pace.after(11, 120.0) == (
        "3989 more epochs take about 2.2 h (--epochs sets their number)"
    )
    assert pace.after(12, 122.0) == ""
    short, continued = Pace(100), Pace(4000)
    assert short.after(1, 0.0) == short.after(91, 9.0) == short.after(92, 60.0) == ""
    assert continued.after(3000, 7.0) == ""
    assert continued.after(3010, 17.0).startswith("990 more epochs take about 16 min (")


def test_ten_minutes_are_not_announced():
    ten, longer = Pace(102), Pace(103)
    assert ten.after(1, 0.0) == longer.after(1, 0.0) == ""
    assert ten.after(2, 6.0) == ""  # 100 epochs of 6 s are left
    assert longer.after(2, 6.0) != ""


def test_epochs_of_several_steps_are_rounded_up():
    pace = Pace(n_steps=1000, steps_per_epoch=100)
    assert pace.after(1, 0.0) == ""
    assert pace.after(11, 20.0).startswith("10 more epochs take about 33 min (")  # 989 steps of 2 s
