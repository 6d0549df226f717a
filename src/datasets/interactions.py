"""Interactions of users with items: training positives and held-out items."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from src.artifacts.columns import require_dense
from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.tables import read_pairs
from src.datasets.mapping import IdMap


def _no_pairs() -> np.ndarray:
    return np.empty((0, 2), np.int64)


@dataclass(frozen=True)
class Interactions:
    """Implicit feedback over users 0..n_users-1 and items 0..n_items-1.

    ``train`` (n, 2), ``test`` (m, 2) and ``validation`` (v, 2) hold (user, item) pairs, int64, sorted by
    user and then item. No pair is in two of them. A user has any number of rows in ``test`` and in
    ``validation``, which is empty if the data set has no such part.
    """

    train: np.ndarray
    test: np.ndarray
    n_users: int
    n_items: int
    validation: np.ndarray = field(default_factory=_no_pairs)

    @cached_property
    def first(self) -> np.ndarray:
        """Bounds (n_users + 1,) int64: user u's training pairs are ``train[first[u]:first[u + 1]]``."""
        return np.searchsorted(self.train[:, 0], np.arange(self.n_users + 1))

    @cached_property
    def degrees(self) -> np.ndarray:
        """Number of training items of each user, (n_users,) int64."""
        return np.diff(self.first)

    @cached_property
    def popularity(self) -> np.ndarray:
        """Number of users who have each item in training, (n_items,) int64."""
        return np.bincount(self.train[:, 1], minlength=self.n_items)

    def items_of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the training items of ``users`` (n,), who may repeat, one user after the other.

        The first array has the position in ``users`` that each item belongs to, the second the items;
        both are int64.
        """
        lengths = self.degrees[users]
        at = np.repeat(self.first[users] - np.cumsum(lengths) + lengths, lengths)
        return np.repeat(np.arange(len(users)), lengths), self.train[at + np.arange(len(at)), 1]

    def of_users(self, users: np.ndarray) -> "Interactions":
        """Return the rows of some ``users`` (ascending), who become users 0, 1, ... in that order."""
        number = np.full(self.n_users, -1)
        number[users] = np.arange(len(users))

        def kept(pairs: np.ndarray) -> np.ndarray:
            pairs = pairs[number[pairs[:, 0]] >= 0]
            return np.stack([number[pairs[:, 0]], pairs[:, 1]], axis=1)

        parts = kept(self.train), kept(self.test)
        return Interactions(*parts, len(users), self.n_items, kept(self.validation))

    def block(self, users: slice) -> "Interactions":
        """Return the rows of consecutive ``users``, who become users 0, 1, ...; reads only these rows."""
        n_users = users.stop - users.start

        def kept(pairs: np.ndarray) -> np.ndarray:
            rows = slice(*np.searchsorted(pairs[:, 0], (users.start, users.stop)))
            return pairs[rows] - (users.start, 0)

        parts = kept(self.train), kept(self.test)
        return Interactions(*parts, n_users, self.n_items, kept(self.validation))


@dataclass(frozen=True)
class Part:
    """Rows of one part of a split, with the path that messages name."""

    kind: str
    """Part: ``training``, ``test`` or ``validation``."""
    path: Path
    pairs: np.ndarray
    """Pairs of (user, item) numbers, (n, 2) int64, in any order."""


def load_interactions(layout: Layout, n_items: int | None) -> Interactions:
    """Read and check ``trainingset.tsv``, ``testset.tsv`` and, if it exists, ``validationset.tsv``.

    ``n_items`` is the size of the catalogue; None stands for a data set without images, whose items
    are the rows of ``item_ids.tsv`` or, if that is missing, the ids in use. Rows may be in any order.

    Raises ``UserError`` for ids beyond the catalogue, for user ids of which fewer than half are in use,
    for gaps in ids without an ``item_ids.tsv``, and as ``check_split`` does.
    """
    train = _read("training", layout.training_set)
    held_out = [_read("test", layout.test_set)]
    if layout.validation_set.exists():
        held_out.append(_read("validation", layout.validation_set))
    if n_items is None:
        n_items = _count_items(layout, [train, *held_out])
    n_users = 1 + max(int(part.pairs[-1, 0]) for part in (train, *held_out))
    for part in (train, *held_out):
        if (beyond := part.pairs[:, 1] >= n_items).any():
            user, item = part.pairs[np.argmax(beyond)]
            raise UserError(
                f"{part.path}: user {user} has item {item}, but the catalogue ends at {n_items - 1}"
            )
    check_split(train, held_out, range(n_users), range(n_items))
    require_dense(train.path, "user", train.pairs[:, 0])
    test, *validation = (part.pairs for part in held_out)
    return Interactions(train.pairs, test, n_users, n_items, *validation)


def check_split(
    train: Part, held_out: Sequence[Part], users: Sequence[object], items: Sequence[object]
) -> None:
    """Raise ``UserError`` unless a recommender trained on ``train`` can rank ``held_out``.

    Errors are repeated rows, rows that another part has too, and users without training rows. Messages
    call a user ``users[number]`` and an item ``items[number]``; numbers must be below ``len(users)`` and
    ``len(items)``.
    """
    earlier: dict[str, np.ndarray] = {}
    for part in (train, *held_out):
        keys = part.pairs[:, 0] * len(items) + part.pairs[:, 1]
        clashes = {"appears twice": _repeated(keys)}
        clashes |= {f"is also a {kind} row": _among(keys, seen) for kind, seen in earlier.items()}
        for problem, wrong in clashes.items():
            if wrong.any():
                user, item = part.pairs[np.argmax(wrong)]
                raise UserError(f"{part.path}: user {users[user]}, item {items[item]} {problem}")
        earlier[part.kind] = keys if _is_rising(keys) else np.sort(keys)
    trained = np.zeros(len(users), bool)
    trained[train.pairs[:, 0]] = True
    for part in held_out:
        owners = part.pairs[:, 0]
        if not (known := trained[owners]).all():
            user = users[owners[np.argmin(known)]]
            raise UserError(f"{part.path}: user {user} has no row in {train.path.name}")


def _read(kind: str, path: Path) -> Part:
    pairs = read_pairs(path)
    step = np.diff(pairs, axis=0)
    if ((step[:, 0] > 0) | ((step[:, 0] == 0) & (step[:, 1] >= 0))).all():
        return Part(kind, path, pairs)
    return Part(kind, path, pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def _is_rising(values: np.ndarray) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _among(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Mark the values that an ``ascending`` array holds: (n,) bool."""
    # np.isin hashes both arrays, which takes a minute for the rows of a million users.
    place = np.searchsorted(ascending, values)
    found = place < len(ascending)
    found[found] = ascending[place[found]] == values[found]
    return found


def _repeated(values: np.ndarray) -> np.ndarray:
    """Mark the values that occur earlier in the array: (n,) bool."""
    if _is_rising(values):  # sorting a large table anew takes seconds
        return np.zeros(len(values), bool)
    repeated = np.ones(len(values), bool)
    repeated[np.unique(values, return_index=True)[1]] = False
    return repeated


def _count_items(layout: Layout, parts: Sequence[Part]) -> int:
    """Return the number of items of a data set without images."""
    if layout.item_map.exists():
        return len(IdMap.read(layout.item_map))
    users, items = np.concatenate([part.pairs for part in parts]).T
    for name, ids in (("user", users), ("item", items)):
        n_used, last = len(np.unique(ids)), int(ids.max())
        if n_used <= last:
            raise UserError(
                f"{layout.data}: only {n_used} of the {last + 1} {name} ids 0..{last} are in use; "
                f"number them without gaps: {_command_that_numbers(layout, parts)}"
            )
    return int(items.max()) + 1


def _command_that_numbers(layout: Layout, parts: Sequence[Part]) -> str:
    options = {"training": "--train", "test": "--test", "validation": "--validation"}
    tables = [f"{options[part.kind]} {part.path}" for part in parts]
    root = [] if layout.root == Path() else [f"--root {layout.root}"]
    command = ["python prepare_dataset.py interactions", f"--dataset {layout.dataset}_numbered"]
    return " ".join([*command, *tables, *root])
