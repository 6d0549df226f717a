"""One line for Ctrl-C while a script still imports libraries, instead of their trace.

Scripts import this module before all others. ``src.cli.run`` answers Ctrl-C once ``main`` has begun.
"""

import sys
from types import TracebackType

EXIT_INTERRUPTED = 130
INTERRUPTED = "interrupted: run the same command again to continue"


def stems_from_interrupt(error: BaseException | None) -> bool:
    """Return whether ``error`` is Ctrl-C, or was raised in its place, as libraries do in an import."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End with one line after Ctrl-C, and show the trace of any other error that nothing caught."""
    if not stems_from_interrupt(error):
        sys.__excepthook__(kind, error, trace)
        return
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)


sys.excepthook = _end
