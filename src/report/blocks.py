"""What a section is made of, beside tables, plots and galleries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.report.tables import Table


@dataclass(frozen=True)
class Facts:
    """A short list of names and what they stand for."""

    entries: Mapping[str, str]
    kind = "facts"


@dataclass(frozen=True)
class Folded:
    """A long table that opens on demand."""

    table: Table
    kind = "folded"


@dataclass(frozen=True)
class Hidden:
    """A table that is too long for a page or a paper: written as TSV alone."""

    table: Table
    kind = "hidden"


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, and blocks: tables, plots, galleries and pictures."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    blocks: Sequence[Any] = ()
    missing: str = ""
    """The command that makes what is not there; nothing else is shown then."""
    notes: Sequence[str] = ()
    """Lines under the blocks."""
