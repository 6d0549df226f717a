"""Steps from raw feedback to training and test rows: binarise, iterated k-core, leave one out."""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from src.datasets.mapping import IdMap


@dataclass(frozen=True)
class Feedback:
    """Positive feedback in the order of its source, one row for each event.

    ``users`` and ``items`` (n,) int64 are positions in ``user_ids`` and ``item_ids``, the ids of the
    source (text). ``times`` (n,) float64 is None for a source without times; then file order counts.
    """

    users: np.ndarray
    items: np.ndarray
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    times: np.ndarray | None = None

    @classmethod
    def of(
        cls, users: Sequence[str], items: Sequence[str], times: np.ndarray | None = None
    ) -> "Feedback":
        """Make feedback from parallel columns of ids."""
        user_codes, user_ids = pd.factorize(np.asarray(users, dtype=object))
        item_codes, item_ids = pd.factorize(np.asarray(items, dtype=object))
        return cls(user_codes, item_codes, user_ids.tolist(), item_ids.tolist(), times)

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, which: np.ndarray) -> "Feedback":
        """Return the rows that ``which`` (positions or a mask) selects, with all ids."""
        times = None if self.times is None else self.times[which]
        return replace(self, users=self.users[which], items=self.items[which], times=times)

    def pairs(self, users: IdMap, items: IdMap) -> np.ndarray:
        """Return (user, item) numbers (n, 2) int64 of the rows; the maps must hold all ids."""
        numbers = (
            users.numbers(self.user_ids)[self.users],
            items.numbers(self.item_ids)[self.items],
        )
        return np.stack(numbers, axis=1)

    def with_items(self, known: Collection[str]) -> "Feedback":
        """Return the rows whose item is in ``known`` (source ids)."""
        is_known = pd.Index(self.item_ids).isin(list(known))
        return self.rows(is_known[self.items])

    def with_users(self, known: Collection[str]) -> "Feedback":
        """Return the rows whose user is in ``known`` (source ids)."""
        is_known = pd.Index(self.user_ids).isin(list(known))
        return self.rows(is_known[self.users])

    @property
    def present_users(self) -> list[str]:
        """Ids of the users that have a row, in the order of ``user_ids``."""
        return [self.user_ids[code] for code in np.unique(self.users)]

    @property
    def present_items(self) -> list[str]:
        """Ids of the items that have a row, in the order of ``item_ids``."""
        return [self.item_ids[code] for code in np.unique(self.items)]


@dataclass(frozen=True)
class Split:
    """Training and held-out rows. Each part numbers its ids separately; the ids themselves join them."""

    train: Feedback
    test: Feedback
    validation: Feedback | None = None
    """Second held-out row of the users, or None if the split has no validation part."""

    @property
    def parts(self) -> dict[str, Feedback]:
        """Parts of the split by kind: ``training``, ``test`` and, if there is one, ``validation``."""
        parts = {"training": self.train, "test": self.test}
        return parts if self.validation is None else parts | {"validation": self.validation}

    @property
    def present_users(self) -> list[str]:
        """Ids of the users that have a row in any part."""
        return _distinct(part.present_users for part in self.parts.values())

    @property
    def present_items(self) -> list[str]:
        """Ids of the items that have a row in any part."""
        return _distinct(part.present_items for part in self.parts.values())

    def with_items(self, known: Collection[str]) -> "Split":
        """Return the rows whose item is in ``known``; users without training rows lose held-out rows."""
        train, *held_out = (part.with_items(known) for part in self.parts.values())
        return Split(train, *(part.with_users(train.present_users) for part in held_out))


def _distinct(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(lists)))


def chronological(feedback: Feedback) -> np.ndarray:
    """Return row positions (n,) int64 from oldest to newest; equal times keep file order."""
    if feedback.times is None:
        return np.arange(len(feedback))
    return np.argsort(feedback.times, kind="stable")


def binarise(feedback: Feedback) -> Feedback:
    """Keep the newest row of each (user, item) pair and sort rows from oldest to newest."""
    newest_first = chronological(feedback)[::-1]
    pairs = feedback.users * len(feedback.item_ids) + feedback.items
    _, first = np.unique(pairs[newest_first], return_index=True)
    return feedback.rows(newest_first[np.sort(first)[::-1]])


def k_core(feedback: Feedback, core: int) -> Feedback:
    """Return the largest part in which every user and every item has at least ``core`` rows.

    Removing a user can bring an item below ``core`` and vice versa, so the removal repeats until nothing
    changes. ``feedback`` must be binarised; ``core`` 0 or 1 keeps everything.
    """
    rows = np.arange(len(feedback))
    while True:
        users, items = feedback.users[rows], feedback.items[rows]
        kept = (np.bincount(users)[users] >= core) & (np.bincount(items)[items] >= core)
        if kept.all():
            return feedback.rows(rows)
        rows = rows[kept]


def leave_one_out(feedback: Feedback) -> tuple[Feedback, Feedback]:
    """Hold out the newest row of every user with at least two; return (remaining, held-out) rows."""
    newest_first = chronological(feedback)[::-1]
    _, first, counts = np.unique(
        feedback.users[newest_first], return_index=True, return_counts=True
    )
    held_out = np.zeros(len(feedback), bool)
    held_out[newest_first[first[counts >= 2]]] = True
    return feedback.rows(~held_out), feedback.rows(held_out)


def hold_out(feedback: Feedback, *, validation: bool = False) -> Split:
    """Hold out one row per user for the test and, with ``validation``, one more for validation."""
    split = Split(*leave_one_out(feedback))
    return hold_out_validation(split) if validation else split


def hold_out_validation(split: Split) -> Split:
    """Move the newest training row of every user with at least two to a validation part."""
    train, validation = leave_one_out(split.train)
    return Split(train, split.test, validation)
