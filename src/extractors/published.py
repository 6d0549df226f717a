"""Table of published networks, ``published.tsv``: where their weights are, and what they reach."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from src.artifacts.errors import UserError

TABLE = Path(__file__).with_name("published.tsv")


@dataclass(frozen=True)
class PublishedNetwork:
    """Row of the table; a text is empty, and a number None, where nothing is published or known."""

    name: str
    arch: str
    """Value of ``--arch``; ``FILE.py:FUNCTION`` needs the authors' code."""
    data: str
    """Layout of the labelled set (``--dataset``) that the accuracies are measured on."""
    clean: float | None
    """Accuracy in percent."""
    robust: float | None
    """Accuracy in percent under ``attack`` within ``eps``."""
    attack: str
    """Name of the attack in ``audits.robustness``."""
    eps: float | None
    """L-inf budget in grey levels."""
    weights: str
    """Address of the checkpoint, or the command that fetches it."""
    sha256: str
    """First hexadecimal digits of the checkpoint's SHA-256, as many as are published."""
    licence: str
    """SPDX name, as ``licence_source`` states it."""
    licence_source: str
    """Page that states the licence of the weights, or of the repository that publishes them."""
    source: str
    """Publisher of the weights, and the set or table that the accuracies are from."""

    def check_file(self, path: Path) -> None:
        """Raise ``UserError`` if the checkpoint is missing or is not the published one."""
        if not path.is_file():
            raise UserError(f"missing file: {path}")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if not found.startswith(self.sha256):
            raise UserError(
                f"{path} is not the published checkpoint of {self.name}: its SHA-256 begins with "
                f"{found[: len(self.sha256)]}, not {self.sha256}"
            )


def published_networks() -> tuple[PublishedNetwork, ...]:
    """Return all rows of the table, in its order."""
    with TABLE.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    numbers = ("clean", "robust", "eps")
    return tuple(
        PublishedNetwork(**row | {key: float(row[key]) if row[key] else None for key in numbers})
        for row in rows
    )


def published_network(name: str) -> PublishedNetwork:
    """Return the row ``name``; ``UserError`` if there is none."""
    for row in published_networks():
        if row.name == name:
            return row
    raise UserError(f"the zoo has no network {name!r}: python -m audits.zoo lists all")
