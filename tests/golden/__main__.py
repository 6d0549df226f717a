"""Record the files of all scripts, or compare the present files with an earlier record.

python -m tests.golden record FILE [--names]
python -m tests.golden compare FILE
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.golden.commands import EVERYTHING, NAMED, Commands
from tests.golden.records import Record, differences, failures, names_of, record


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path, help="the record")
    parser.add_argument(
        "--names",
        action="store_true",
        help="exit codes, names and columns of the quick commands alone, which hold on every machine",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="run in this empty folder and keep it (default: a temporary one)",
    )
    options = parser.parse_args()
    commands = NAMED if options.names else EVERYTHING
    earlier = json.loads(options.file.read_text()) if options.action == "compare" else None
    found = _record(commands, options.folder)
    if earlier is None:
        if failed := failures(found):
            sys.exit("\n".join(failed))
        found = names_of(found) if options.names else found
        options.file.write_text(_written(found))
        print(f"{len(found['commands'])} commands, {len(found['files'])} files: {options.file}")
        return 0
    if options.names:
        found = names_of(found)
    lines = list(differences(earlier, found))
    print(*lines, f"{len(lines)} differences", sep="\n")
    return int(bool(lines))


def _written(found: Record) -> str:
    """Return JSON with a line for each command and each file."""
    sections = [
        f"{json.dumps(section)}: {{\n"
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(of)}" for name, of in entries.items())
        + "\n}"
        for section, entries in found.items()
    ]
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _record(commands: Commands, folder: Path | None) -> Record:
    """Return the record of a run in ``folder``, or in a temporary folder."""
    if folder:
        folder.mkdir(parents=True)
        return record(commands, folder.resolve())
    with tempfile.TemporaryDirectory() as temporary:
        return record(commands, Path(temporary).resolve())


if __name__ == "__main__":
    sys.exit(main())
