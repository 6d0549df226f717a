"""Stages on the undamaged tree, which stand for those that read no damaged file.

A stage is determined by the files that it opens. If these are as in the undamaged tree, the stage would
write there what it has written here, and need not run again.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults import tree

Files = dict[str, tuple[int, int]]
"""Device and inode of each file of a tree, by its path in the tree; links are left out."""

_opened: set[str] | None = None
"""Paths that were opened inside the block of ``_noting``; None outside."""


def _note(event: str, arguments: tuple[object, ...]) -> None:
    # Files are opened by number, too, after they were opened by name.
    if event == "open" and _opened is not None and not isinstance(arguments[0], int):
        _opened.add(f"{Path.cwd() / os.fsdecode(arguments[0])}")


sys.addaudithook(_note)


@contextmanager
def _noting() -> Iterator[set[str]]:
    """Yield the set of the paths that this process opens inside the block."""
    global _opened
    _opened = set()
    try:
        yield _opened
    finally:
        _opened = None


@dataclass(frozen=True)
class Step:
    """Stage of ``tree.STAGES`` on the undamaged tree."""

    name: str
    command: str
    before: Path
    after: Path
    read: frozenset[str]
    """Paths, in the tree, of the files that it opened or tried to open."""

    files_before: Files
    files_after: Files

    def stands_for(self, place: Path) -> bool:
        """Return whether the stage would do the same in the tree ``place``.

        It would if both trees have files of the same names, and those that it opens are equal.
        """
        here, there = files(place), self.files_before
        return here.keys() == there.keys() and all(
            name not in self.read
            or (place / name).read_bytes() == (self.before / name).read_bytes()
            for name in here
            if here[name] != there[name]
        )

    def repeat(self, place: Path) -> None:
        """Put the files that the stage wrote into ``place``."""
        for name, file in self.files_after.items():
            if file != self.files_before.get(name):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).unlink(missing_ok=True)
                (place / name).hardlink_to(self.after / name)


def files(root: Path) -> Files:
    """Return the files of a tree."""
    found: Files = {}
    for folder, _, names in os.walk(root):
        inside = f"{folder}/".removeprefix(f"{root}/")
        for name in names:
            status = os.lstat(f"{folder}/{name}")
            if stat.S_ISREG(status.st_mode):
                found[f"{inside}{name}"] = status.st_dev, status.st_ino
    return found


def steps(whole: Path, place: Path, recorded: bool) -> list[Step]:
    """Run all stages on copies of the tree below ``place``, with or without manifests."""
    before, found = tree.copy(whole, place / "undamaged"), []
    if not recorded:
        tree.remove_records(before)
    for name, command in tree.STAGES.items():
        after = tree.copy(before, place / name)
        for path in files(after):
            (after / path).touch()  # stages open a file once for each time of change, and hash it
        with _noting() as opened:
            outcome = tree.call(after, command)
        assert outcome.code == 0, (name, outcome)
        read = frozenset(path.removeprefix(f"{after}/") for path in opened)
        found.append(Step(name, command, before, after, read, files(before), files(after)))
        before = after
    return found
