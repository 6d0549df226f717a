"""Lines that a running study prints: one a job, and its errors last."""

import logging
from pathlib import Path
from time import monotonic

from snakemake_interface_logger_plugins.common import LogEvent

REPEATED = (
    "RuleException",
    "Cannot restore",
    "--keep-incomplete",
    "Exiting because",
    "WorkflowError:\nAt least",
)
"""Beginnings of Snakemake's records about a failed job, which has a line of its own."""


class JobLines(logging.Formatter):
    """Formatter of Snakemake's records: a line for each finished job, nothing for other progress.

    ``total`` counts the jobs to run. An empty text is not printed.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total, self.done, self.start = total, 0, monotonic()
        self.running: dict[int, tuple[str, float]] = {}
        self.errors: list[str] = []

    def keep(self, record: logging.LogRecord) -> bool:
        """Note the start of a job, for which nothing is printed; keep all other records."""
        started = getattr(record, "event", None) == LogEvent.JOB_INFO
        if started and record.rule_msg:
            self.running[record.jobid] = (record.rule_msg.split("; log:")[0], monotonic())
        return not started

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_FINISHED:
            return self._finished(record.job_id)
        if event == LogEvent.JOB_ERROR:
            self.errors.append(last_error(record.rule_name, record.log))
            return f"failed: {record.rule_msg or record.rule_name}"
        if record.levelno < logging.WARNING or record.getMessage().startswith(REPEATED):
            return ""
        return record.getMessage()

    def _finished(self, job: int) -> str:
        if job not in self.running:
            return ""
        now = monotonic()
        what, start = self.running.pop(job)
        self.done += 1
        left = (now - self.start) / self.done * (self.total - self.done) / 60
        return f"{self.done} of {self.total}, {what}, {now - start:.0f} s, {left:.0f} min left"


def last_error(rule: str, logs: list[str]) -> str:
    """Return the last line of the logs that begins with ``error:``, and the path of its log."""
    for path in map(Path, logs):
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()
            said = next((line for line in reversed(lines) if line.startswith("error:")), None)
            return f"{said or f'error: {rule} failed'} (log: {path})"
    return f"error: {rule} failed"


def print_lines(total: int) -> JobLines:
    """Make Snakemake print ``JobLines`` to its stream until the process ends, and return them."""
    lines = JobLines(total)
    for handler in logging.getLogger("snakemake.logging").handlers:
        if handler.name == "DefaultStreamHandler":
            handler.setFormatter(lines)
            handler.filters = [lines.keep]
    return lines
