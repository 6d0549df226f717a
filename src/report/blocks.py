"""Sections and their blocks, beside tables, plots and galleries."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """Blocks that open on demand."""

    title: str
    blocks: Sequence[Any]
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
    folded: bool = False
    """True shows the heading alone until a reader opens it."""


def flat(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield blocks, and in the place of folded ones those inside them."""
    for block in blocks:
        if isinstance(block, Folded):
            yield from flat(block.blocks)
        else:
            yield block
