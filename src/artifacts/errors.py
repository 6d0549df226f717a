"""Exception for mistakes of the user."""


class UserError(Exception):
    """Bad input: its message is one line that says what is wrong, where, and what to do.

    Scripts print it on stderr and exit with code 2 (see ``src.cli.run``); no traceback is shown.
    """
