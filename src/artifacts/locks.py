"""Locks by which one process at a time makes an output, while others wait for it.

The kernel ends the locks of a process with the process, so a kill leaves none. All locks are bytes of
one empty file in the machine's folder of temporary files, so nothing stands beside the outputs. They
hold off processes of the same user on the same machine.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_held: set[tuple[int, int]] = set()
"""Pairs (process, byte) of the locks that are held; a forked process holds none of its parent's."""


def hold(output: Path) -> None:
    """Take the lock of ``output`` until ``release`` or the end of the process.

    Waits, and says so on stderr, while another process holds it. A process that holds it already goes
    on. Process 0 of ``torchrun`` holds it for all.
    """
    if (lock := _lock_of(output)) in _held or _is_follower():
        return
    file = _lock_file()
    # A machine that offers no locks works as if there were one process.
    with contextlib.suppress(OSError):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, lock[1])
        except BlockingIOError:
            print(f"waiting for another process that makes {output}", file=sys.stderr)
            fcntl.lockf(file, fcntl.LOCK_EX, 1, lock[1])
        _held.add(lock)


def release(output: Path) -> None:
    """Release the lock of ``output``, if this process holds it."""
    if (lock := _lock_of(output)) in _held:
        _held.remove(lock)
        fcntl.lockf(_lock_file(), fcntl.LOCK_UN, 1, lock[1])


@contextlib.contextmanager
def sole_maker(output: Path) -> Iterator[None]:
    """Hold the lock of ``output`` inside the block; a lock that is held before stays held after it."""
    before = _lock_of(output) in _held
    hold(output)
    try:
        yield
    finally:
        if not before:
            release(output)


def _lock_of(output: Path) -> tuple[int, int]:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(output))).digest()
    return os.getpid(), int.from_bytes(digest[:7])


@functools.cache
def _lock_file() -> int:
    """Open the file of all locks, and return its descriptor; -1 if that fails.

    It is never closed, since the kernel would end all locks of the process with it.
    """
    path = Path(tempfile.gettempdir()) / f"var-{os.getuid()}.locks"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return -1


def _is_follower() -> bool:
    """Return whether ``torchrun`` started this process and it is not process 0."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"
