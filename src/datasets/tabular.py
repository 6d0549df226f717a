"""Tables of interactions from a user: all feedback in one table, or a ready split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from src.artifacts.experiments import Experiment
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.datasets.feedback_table import read_feedback, read_given_split, read_sequences
from src.datasets.interactions import Part, check_split
from src.datasets.mapping import IdMap
from src.datasets.ready_features import ReadyFeatures
from src.datasets.splitting import (
    Feedback,
    Split,
    Splitting,
    binarise,
    hold_out_validation,
    k_core,
)
from src.datasets.writing import write_dataset

Rows = TypeVar("Rows", Feedback, Split)


class Tables(Protocol[Rows]):
    """Tables of a user. Between ``read`` and ``split`` the caller may drop items without an image."""

    @property
    def core(self) -> int:
        """Fewest interactions of every user and item; 0 keeps all."""

    @property
    def paths(self) -> Sequence[Path]: ...

    def read(self) -> Rows: ...

    def split(self, rows: Rows) -> Split: ...


@dataclass(frozen=True)
class AllFeedback:
    """Single table, which is binarised, reduced to its k-core and split."""

    table: Path
    header: bool = False
    min_rating: float | None = None
    core: int = 0
    splitting: Splitting = field(default_factory=Splitting)
    sequences: bool = False
    """True if each line has a user and all the user's items, from oldest to newest."""

    @property
    def paths(self) -> Sequence[Path]:
        return [self.table]

    def read(self) -> Feedback:
        if self.sequences:
            return binarise(read_sequences(self.table))
        return binarise(read_feedback(self.table, min_rating=self.min_rating, header=self.header))

    def split(self, rows: Feedback) -> Split:
        return self.splitting.split(k_core(rows, self.core))


@dataclass(frozen=True)
class GivenSplit:
    """Single table whose column ``x_label`` gives the part of each row, as in MMRec."""

    table: Path
    core: ClassVar[int] = 0

    @property
    def paths(self) -> Sequence[Path]:
        return [self.table]

    def read(self) -> Split:
        split = read_given_split(self.table)
        check_parts(split, [self.table] * len(split.parts))
        return split

    def split(self, rows: Split) -> Split:
        return rows


@dataclass(frozen=True)
class ReadySplit:
    """Tables with a user and an item column; ``validation_split`` also needs the times of ``train``.

    Every row is a positive. Raises ``UserError`` as ``check_split`` does, with the source's ids.
    """

    train: Path
    test: Path
    validation: Path | None = None
    header: bool = False
    validation_split: bool = False
    core: ClassVar[int] = 0

    @property
    def paths(self) -> Sequence[Path]:
        return [path for path in (self.train, self.test, self.validation) if path]

    def read(self) -> Split:
        train = read_feedback(self.train, ratings=self.validation_split, header=self.header)
        held_out = (
            read_feedback(path, ratings=False, header=self.header) for path in self.paths[1:]
        )
        split = Split(train, *held_out)
        check_parts(split, self.paths)
        return split

    def split(self, rows: Split) -> Split:
        return hold_out_validation(rows) if self.validation_split else rows


def check_parts(split: Split, paths: Sequence[Path]) -> None:
    """Raise ``UserError`` as ``check_split`` does, with the source's ids and the parts' ``paths``."""
    users, items = IdMap.of(split.present_users), IdMap.of(split.present_items)
    train, *held_out = (
        Part(kind, path, feedback.pairs(users, items))
        for (kind, feedback), path in zip(split.parts.items(), paths, strict=True)
    )
    check_split(train, held_out, users.originals, items.originals)


def prepare_tables(staged: Layout, tables: Tables, features: ReadyFeatures | None = None) -> None:
    """Write a data set without images, whose items are those of all parts of the split.

    With ``features`` the items are their rows, and the clean features of stage 1 are theirs.
    """
    rows = tables.read()
    if features is None:
        write_dataset(staged, tables.split(rows))
        return
    items, matrix = features.read(rows.item_ids)
    split = tables.split(rows)
    write_dataset(staged, split, catalogue=items)
    path = staged.features(Experiment())
    path.parent.mkdir(parents=True)
    write_features(path, matrix)
