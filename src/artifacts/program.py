"""Words that started the running script."""

import sys
from pathlib import Path

AUDITS = Path(__file__).resolve().parents[2] / "audits"


def program() -> list[str]:
    """Return the words that start the running script, without its arguments.

    They are ``python report.py`` as the user named the script, or ``python -m audits.leaks``: Python puts
    the path of a module into ``sys.argv``, but an audit cannot be started by its path.
    """
    script = Path(sys.argv[0])
    if script.resolve().parent == AUDITS:
        return ["python", "-m", f"{AUDITS.name}.{script.stem}"]
    return ["python", sys.argv[0]]
