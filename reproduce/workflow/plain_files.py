"""Check of the files of a study: ``python -m reproduce.workflow.plain_files FILE ...``.

Snakemake evaluates the Python expressions of a YAML file that asks for it, and JSON has none. A study is
data and runs nothing.
"""

import json
import sys
from pathlib import Path
from typing import NoReturn

import yaml

CODE_KEY = "__use_yte__"
"""Key by which a file asks Snakemake to evaluate its expressions."""


def main() -> None:
    for file in sys.argv[1:]:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        try:
            json.loads(text)
        except ValueError:
            if CODE_KEY in _of_yaml(text, file):
                stop(f"{file} holds code, which a study does not run: remove {CODE_KEY}")


def _of_yaml(text: str, file: str) -> dict[object, object]:
    """Return the entries of a YAML file; end with one line if it has none."""
    try:
        entries = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        stop(f"{file} is no YAML file: {' '.join(str(error).split())}")
    if not isinstance(entries, dict):
        stop(f"{file}: a study holds names and entries")
    return entries


def stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
