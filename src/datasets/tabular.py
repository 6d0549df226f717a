"""Tables of interactions from a user: all feedback in one table, or a ready split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from src.artifacts.layout import Layout
from src.datasets.feedback_table import read_feedback
from src.datasets.interactions import Part, check_split
from src.datasets.mapping import IdMap
from src.datasets.splitting import (
    Feedback,
    Split,
    binarise,
    hold_out,
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
    """Single table, which is binarised, reduced to its k-core and split by leave one out."""

    table: Path
    header: bool = False
    min_rating: float | None = None
    core: int = 0
    validation_split: bool = False

    @property
    def paths(self) -> Sequence[Path]:
        return [self.table]

    def read(self) -> Feedback:
        return binarise(read_feedback(self.table, min_rating=self.min_rating, header=self.header))

    def split(self, rows: Feedback) -> Split:
        return hold_out(k_core(rows, self.core), validation=self.validation_split)


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
        self._check(split)
        return split

    def split(self, rows: Split) -> Split:
        return hold_out_validation(rows) if self.validation_split else rows

    def _check(self, split: Split) -> None:
        users, items = IdMap.of(split.present_users), IdMap.of(split.present_items)
        train, *held_out = (
            Part(kind, path, feedback.pairs(users, items))
            for (kind, feedback), path in zip(split.parts.items(), self.paths, strict=True)
        )
        check_split(train, held_out, users.originals, items.originals)


def prepare_tables(staged: Layout, tables: Tables) -> None:
    """Write a data set without images, whose items are those of all parts of the split."""
    write_dataset(staged, tables.split(tables.read()))
