"""Estimate of the time that the missing jobs of a study take."""

from collections.abc import Collection, Mapping, Sequence
from statistics import mean
from typing import Any

from reproduce.workflow.entries import CHOICES

MEASURED_CORES = 2
"""The cores on which the ``minutes`` of a study's file were measured."""


def changed_entries(config: Mapping[str, Any], file: Mapping[str, Any]) -> bool:
    """Return whether a study has other entries than its file and the choices under ``where``."""
    choices = {CHOICES, *file.get(CHOICES, {})}
    return any(
        str(config.get(key)) != str(file.get(key)) for key in {*config, *file}.difference(choices)
    )


def expected_duration(
    missing: Sequence[str],
    finished: Mapping[str, Collection[float]],
    total: int,
    minutes: int,
    cores: int,
    *,
    changed: bool,
) -> str:
    """Return the number of missing jobs and, if it can be told, their time in one line.

    ``missing`` has the rule of each job to run, ``finished`` the seconds that jobs of a rule took here,
    and ``total`` counts all jobs. A job of a rule that has not run here counts as the mean of all jobs in
    the ``minutes`` of the study's file (0: not measured), which hold for the file's own entries.
    """
    jobs = f"{len(missing)} of {total} jobs are missing"
    known = {rule: mean(seconds) for rule, seconds in finished.items() if seconds}
    unknown = not known.keys() >= set(missing)
    if unknown and not minutes:
        return jobs
    usual = 60 * minutes * MEASURED_CORES / total
    seconds = sum(known.get(rule, usual) for rule in missing) / cores
    time = f"{_counted(max(1, round(seconds / 60)), 'minute')} on {_counted(cores, 'core')}"
    if unknown and changed:
        return f"about {time} with the file's own entries, others were given ({jobs})"
    return f"about {time} ({jobs})"


def minutes_left(
    left: Mapping[str, int], finished: Mapping[str, Collection[float]], elapsed: float
) -> float | None:
    """Return the minutes that a running study still takes, as far as they can be told.

    ``left`` counts the jobs of each rule that have not finished, ``finished`` has the seconds that each
    finished job of a rule took, and ``elapsed`` the seconds since the first one began. A job of a rule
    without a time counts as the mean of all finished jobs; None where most jobs left are such.
    """
    known = {rule: mean(seconds) for rule, seconds in finished.items() if seconds}
    unknown = sum(number for rule, number in left.items() if rule not in known)
    if 2 * unknown > sum(left.values()):
        return None
    spent = [time for seconds in finished.values() for time in seconds]
    seconds = sum(number * known.get(rule, mean(spent)) for rule, number in left.items())
    jobs_at_once = sum(spent) / elapsed
    return seconds / jobs_at_once / 60


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
