"""Sections and their blocks, beside tables, plots and galleries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.report.tables import Table


@dataclass(frozen=True)
class Facts:
    """Short list of names and their meanings."""

    entries: Mapping[str, str]
    kind = "facts"


@dataclass(frozen=True)
class Folded:
    """Long table that opens on demand."""

    table: Table
    kind = "folded"


@dataclass(frozen=True)
class Hidden:
    """Table that is too long for a page or a paper, and is written as TSV alone."""

    table: Table
    kind = "hidden"


@dataclass(frozen=True)
class Section:
    """Section: a heading, paragraphs, and blocks (tables, plots, galleries and pictures)."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    blocks: Sequence[Any] = ()
    missing: str = ""
    """Command that makes the missing results; then nothing else is shown."""
    notes: Sequence[str] = ()
    """Lines under the blocks."""
