"""One line for Ctrl-C while a script still imports libraries, instead of their trace.

Scripts import this module before all others. ``src.cli.run`` answers Ctrl-C once ``main`` has begun.
"""

import sys
from types import TracebackType

EXIT_INTERRUPTED = 130
INTERRUPTED = "interrupted: run the same command again to continue"


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End with one line after Ctrl-C, and show the trace of any other error that nothing caught.

    Libraries in C call it too, before they raise an ``ImportError`` in place of the interrupt.
    """
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)


sys.excepthook = _end
