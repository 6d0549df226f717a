"""Every kind of fault in a process of its own, whose user folders and source are watched.

All trees stand in a folder of the run. What else appears or changes, in the folders of the user, among
the temporary files, beside the trees or in the source, is written outside the tree.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from tests.faults import kills, space
from tests.faults.cases import Figures, build_whole, damage_all, faults, fuzz

SOURCE = Path(__file__).parents[2]
USER_FOLDERS = (
    *("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
    "MPLCONFIGDIR",
)
"""Environment variables that say where programs keep files of their own."""
_LOCKS = f"var-{os.getuid()}.locks"
"""Empty file of all locks (``src/artifacts/locks.py``), which stays."""
_LIBRARIES = (
    *("HOME/.keras", "MPLCONFIGDIR/fontlist-*.json", "TMPDIR/torchinductor_*"),
    "XDG_CACHE_HOME/torch",
)
"""Settings and caches of Keras, Matplotlib and torch, which makes its folder before it downloads."""

Snapshot = dict[Path, tuple[int, int]]
"""Size in bytes and time of change in ns by path; (0, 0) for a folder."""


def watched(
    work: Callable[..., Iterator[Figures]], *arguments: object, source: Path = SOURCE
) -> Iterator[Figures]:
    """Yield the figures of ``work(trees, *arguments)``, then those of what it wrote outside ``trees``.

    ``work`` runs in a new process and must leave the folder ``trees`` empty.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("trees", *USER_FOLDERS):
            (place / name).mkdir()
        before = snapshot(place, source)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, work, place / "trees", *arguments))
        with pytest.MonkeyPatch.context() as patch:
            for name in USER_FOLDERS:
                patch.setenv(name, str(place / name))
            process.start()
        sender.close()
        try:
            while (figures := receiver.recv()) is not None:
                yield figures
        except EOFError as error:
            raise AssertionError("the run died before its last figures") from error
        finally:
            process.join()
        yield _outside(before, snapshot(place, source), place)


def _send(
    sender: Connection, work: Callable[..., Iterator[Figures]], trees: Path, *arguments: object
) -> None:
    """Send the figures of ``work``, and None after the last of them."""
    for figures in work(trees, *arguments):
        sender.send(figures)
    sender.send(None)


def snapshot(*folders: Path) -> Snapshot:
    """Return the state of all files and folders but hidden ones and compiled modules."""
    found: Snapshot = {}
    for top in folders:
        for parent, names, files in os.walk(top):
            if Path(parent) == SOURCE:
                names[:] = [name for name in names if not name.startswith(".")]
            names[:] = [name for name in names if name != "__pycache__"]
            found |= {Path(parent, name): (0, 0) for name in names}
            for path in (Path(parent, name) for name in files):
                status = path.lstat()
                found[path] = status.st_size, status.st_mtime_ns
    return found


def _outside(before: Snapshot, after: Snapshot, place: Path) -> Figures:
    """Count what appeared, changed or disappeared; the empty file of the locks may appear.

    What libraries keep for themselves is counted apart.
    """
    figures = Figures()
    figures.counts["bytes written outside the tree"] = 0
    figures.counts["bytes that libraries keep for themselves"] = 0
    for path in sorted(path for path in {*before, *after} if before.get(path) != after.get(path)):
        size = after.get(path, (0, 0))[0]
        name = path.relative_to(place) if path.is_relative_to(place) else path
        if name == Path("TMPDIR", _LOCKS) and not size:
            continue
        if any(of.match(kept) for of in (name, *name.parents) for kept in _LIBRARIES):
            figures.counts["bytes that libraries keep for themselves"] += size
            continue
        what = f"{size} bytes" if path in after else "removed"
        figures.wrong.append(f"outside the tree: {name} ({what})")
        figures.counts["bytes written outside the tree"] += size
    return figures


def every_fault(trees: Path, options: argparse.Namespace) -> Iterator[Figures]:
    """Yield the figures of each kind of fault that the options ask for.

    The options are numbers: ``kills``, ``limits``, ``damages`` (None: all), ``calls``, and a ``seed``.
    """
    seed = options.seed
    if options.kills or options.limits:
        with tempfile.TemporaryDirectory(dir=trees) as folder:
            start = kills.build(Path(folder) / "start")
            names = list(kills.STAGES)
            if options.kills:
                yield kills.kill_all(start, names, options.kills, seed)
                yield kills.run_twice_at_once(start, names, seed)
            if options.limits:
                yield space.fill_the_disk(start, list(space.STAGES), options.limits, seed)
    if options.damages != 0:
        with tempfile.TemporaryDirectory(dir=trees) as folder:
            whole = build_whole(Path(folder) / "whole")
            cases = list(faults(whole, seed))
            n_damages = len(cases) if options.damages is None else min(options.damages, len(cases))
            chosen = np.random.default_rng(seed).choice(len(cases), n_damages, replace=False)
            yield damage_all(whole, (cases[at] for at in sorted(chosen)))
    if options.calls:
        with tempfile.TemporaryDirectory(dir=trees) as folder:
            yield fuzz(Path(folder), options.calls, seed)
