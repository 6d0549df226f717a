"""Lines that a running study prints: one a job, and its errors last."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.common import LogEvent

from reproduce.workflow.duration import minutes_left

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

UP_TO_DATE = "all results are up to date"
PREAMBLE = (
    "Assuming unrestricted",
    "Building DAG",
    "Using shell",
    "Provided ",
    "Rules claiming",
    "Reasons:",
)
"""Beginnings of Snakemake's records about itself, which users do not need."""
REPEATED = (
    "RuleException",
    "Cannot restore",
    "Restored previous",
    "--keep-incomplete",
    "Exiting because",
    "WorkflowError:\nAt least",
)
"""Beginnings of Snakemake's records about a failed job, which has a line of its own."""


class JobLines(logging.Formatter):
    """Formatter of Snakemake's records: a line for each finished job, nothing for other progress.

    Dry runs and runs on a cluster keep Snakemake's own lines, without its preamble. An empty text is
    not printed.
    """

    def __init__(self, workflow: "Workflow") -> None:
        super().__init__()
        self.workflow, self.usual = workflow, logging.Formatter()
        self.total, self.begin = 0, 0.0
        self.left: Counter[str] = Counter()
        """Number of each rule's jobs that have not finished."""
        self.seconds: dict[str, list[float]] = defaultdict(list)
        """Times of each rule's finished jobs."""
        self.running: dict[int, tuple[str, str, float]] = {}
        """Rule, message and start of each running job."""
        self.logs_of: dict[str, list[str]] = {}
        self.has_counts = False

    @property
    def counts(self) -> bool:
        """True where jobs run on this machine, as is known once Snakemake has built its graph."""
        return self.workflow.local_exec and not self.workflow.dryrun

    def start(self, rules: Iterable[str]) -> None:
        """Begin to count jobs, each of which is named by its rule."""
        self.left.update(rules)
        self.total, self.begin = self.left.total(), monotonic()

    def keep(self, record: logging.LogRecord) -> bool:
        """Note the start of a job, for which nothing is printed; keep all other records."""
        started = self.counts and getattr(record, "event", None) == LogEvent.JOB_INFO
        if started and record.rule_msg:
            message = record.rule_msg.split("; log:")[0]
            self.running[record.jobid] = record.rule_name, message, monotonic()
        return not started

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if message == NOTHING_TO_BE_DONE_MSG:
            return UP_TO_DATE
        if message.startswith(PREAMBLE):
            return ""
        event = getattr(record, "event", None)
        if not self.counts:
            counts_jobs = event == LogEvent.RUN_INFO
            repeats = counts_jobs and self.has_counts  # the end of a dry run repeats its beginning
            self.has_counts |= counts_jobs
            makes_nothing = event == LogEvent.JOB_INFO and not (record.output or record.shellcmd)
            return "" if repeats or makes_nothing else self.usual.format(record)
        if event == LogEvent.JOB_FINISHED:
            return self._finished(record.job_id)
        if event == LogEvent.JOB_ERROR:
            error, logs = last_error(record.rule_name, record.log)
            self.logs_of.setdefault(error, []).extend(logs)
            return f"failed: {self.running.pop(record.jobid, ('', record.rule_name))[1]}"
        told = self.total and message.startswith(REPEATED)
        return "" if told or record.levelno < logging.WARNING else message

    @property
    def errors(self) -> list[str]:
        """Lines of the failed jobs' errors, each error once with all of its logs."""
        logs = {error: ", ".join(dict.fromkeys(paths)) for error, paths in self.logs_of.items()}
        return [f"{error} (log: {paths})" if paths else error for error, paths in logs.items()]

    def _finished(self, job: int) -> str:
        if job not in self.running:
            return ""
        now = monotonic()
        rule, message, start = self.running.pop(job)
        self.left[rule] -= 1
        self.seconds[rule].append(now - start)
        line = f"{self.total - self.left.total()} of {self.total}, {message}, {now - start:.0f} s"
        left = minutes_left(self.left, self.seconds, now - self.begin)
        return line if left is None else f"{line}, {left:.0f} min left"


def last_error(rule: str, logs: list[str]) -> tuple[str, list[str]]:
    """Return the last line of the logs that begins with ``error:``, and the path of its log in a list."""
    for path in map(Path, logs):
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()
            said = next((line for line in reversed(lines) if line.startswith("error:")), None)
            return said or f"error: {rule} failed", [str(path)]
    return f"error: {rule} failed", []


def print_lines(workflow: "Workflow") -> JobLines:
    """Make Snakemake print ``JobLines`` to its stream until the process ends, and return them.

    Snakemake also starts itself for single jobs on a cluster; their logs keep its own lines.
    """
    lines = JobLines(workflow)
    if workflow.is_main_process:
        for handler in logging.getLogger("snakemake.logging").handlers:
            if handler.name == "DefaultStreamHandler":
                lines.usual = handler.formatter or lines.usual
                handler.setFormatter(lines)
                handler.addFilter(lines.keep)
    return lines
