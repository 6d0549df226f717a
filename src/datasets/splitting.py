"""Steps from raw feedback to training and held-out rows: binarise, iterated k-core, split."""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from src.artifacts.errors import UserError
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
    """Held-out rows that choose epochs and options, or None if the split has no validation part."""
    cold_items: Sequence[str] = ()
    """Items that were held out of training altogether; all their rows are test rows."""
    dropped_users: int = 0
    """Users who lost all their rows, since they had no training row."""

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

    @property
    def item_ids(self) -> list[str]:
        """Ids of the items that the source names, with or without a row in a part."""
        return _distinct(part.item_ids for part in self.parts.values())

    def with_items(self, known: Collection[str]) -> "Split":
        """Return the rows whose item is in ``known``, of users with training rows."""
        parts = (part.with_items(known) for part in self.parts.values())
        return Split(*parts, dropped_users=self.dropped_users).of_known_users()

    def of_known_users(self) -> "Split":
        """Return the rows of users with training rows: of the others nothing is known."""
        known = self.train.present_users
        return replace(
            self,
            test=self.test.with_users(known),
            validation=self.validation and self.validation.with_users(known),
            dropped_users=self.dropped_users + len(self.present_users) - len(known),
        )


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


RATIO = (8.0, 1.0, 1.0)


@dataclass(frozen=True)
class Splitting:
    """Rule by which feedback becomes training, validation and test rows."""

    kind: Literal["leave_one_out", "ratio", "temporal"] = "leave_one_out"
    """Rule: the newest row of each user; random shares of each user's rows; all rows after a time."""
    ratio: tuple[float, ...] = RATIO
    """Training, validation and test shares of ``ratio`` and ``temporal``; two leave validation out."""
    validation: bool = False
    """True if ``leave_one_out`` holds out a second row of each user as validation row."""
    cold_share: float = 0.0
    """Share of the items that are held out of training altogether."""
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.ratio) not in (2, 3) or min(self.ratio) <= 0:
            raise UserError(
                "--ratio takes 2 or 3 positive numbers, for training, validation and test, like 8 1 1"
            )
        if not 0 <= self.cold_share < 1:
            raise UserError(f"--cold_items must be at least 0 and below 1, not {self.cold_share:g}")

    @property
    def has_validation(self) -> bool:
        return self.validation if self.kind == "leave_one_out" else len(self.ratio) == 3

    def split(self, feedback: Feedback) -> Split:
        """Split binarised feedback; ``UserError`` for a temporal split of feedback without times.

        Users without training rows lose their held-out rows, since nothing is known of them.
        """
        rng = np.random.default_rng(self.seed)
        cold = np.zeros(len(feedback), bool)
        if self.cold_share:
            present = np.unique(feedback.items)
            n_cold = max(round(self.cold_share * len(present)), 1)
            cold = np.isin(feedback.items, rng.choice(present, n_cold, replace=False))
        warm = feedback.rows(~cold)
        if self.kind == "leave_one_out":
            split = hold_out(warm, validation=self.validation)
        else:
            parts = (
                parts_by_ratio(warm, self.ratio, rng)
                if self.kind == "ratio"
                else parts_by_time(warm, self.ratio)
            )
            train, *validation, test = (warm.rows(parts == part) for part in range(len(self.ratio)))
            split = Split(train, test, *validation)
        if self.cold_share:
            out = feedback.rows(cold).with_users(split.train.present_users)
            test = _joined(split.test, feedback.rows(cold))
            split = replace(split, test=test, cold_items=out.present_items)
        return split.of_known_users()


def parts_by_ratio(
    feedback: Feedback, ratio: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return the part (n,) int64 of each row, 0 for training, in random shares of each user's rows.

    A held-out part gets the whole rows of its share, or one row where its share is less, the last part
    first; a user keeps at least one training row. These are RecBole's counts.
    """
    shares = np.asarray(ratio, np.float64) / sum(ratio)
    totals = np.bincount(feedback.users)
    counts = np.floor(np.outer(shares, totals) + 1e-9).astype(np.int64)
    counts[0] = totals - counts[1:].sum(axis=0)
    for part in range(len(ratio) - 1, 0, -1):
        too_few = (shares[part] * totals < 1 - 1e-9) & (counts[0] > 1)
        counts[part] += too_few
        counts[0] -= too_few
    order = np.lexsort((rng.random(len(feedback)), feedback.users))
    owners = feedback.users[order]
    place = np.arange(len(order)) - (np.cumsum(totals) - totals)[owners]
    parts = np.empty(len(order), np.int64)
    parts[order] = (place >= np.cumsum(counts, axis=0)[:-1, owners]).sum(axis=0)
    return parts


def parts_by_time(feedback: Feedback, ratio: Sequence[float]) -> np.ndarray:
    """Return the part (n,) int64 of each row, 0 for training, cut at times that all users share.

    Rows of equal time are in one part, the later one where a cut falls among them.
    """
    if feedback.times is None:
        raise UserError("--split temporal needs times, and the table has no column of them")
    ends = np.cumsum(ratio)[:-1] / sum(ratio)
    in_order = np.sort(feedback.times)
    starts = in_order[np.minimum((ends * len(in_order)).astype(int), len(in_order) - 1)]
    return np.searchsorted(starts, feedback.times, side="right")


def _joined(first: Feedback, second: Feedback) -> Feedback:
    """Return the rows of both parts of one feedback, which share their ids."""
    times = None if first.times is None else np.concatenate([first.times, second.times])
    return replace(
        first,
        users=np.concatenate([first.users, second.users]),
        items=np.concatenate([first.items, second.items]),
        times=times,
    )
