"""Exception for mistakes of the user."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: its message is one line that says what is wrong, where, and what to do.

    Scripts print it on stderr and exit with code 2 (see ``src.cli.run``); no traceback is shown.
    """


def choose_from(word: str, known: Iterable[str]) -> str:
    """Return ``choose from fgsm, pgd (did you mean pgd?)`` for the word ``pdg``."""
    known = tuple(known)
    return f"choose from {', '.join(known)}{did_you_mean(word, known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean --eps?)`` for the known word nearest to ``word``; empty if none is near."""
    nearest = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
