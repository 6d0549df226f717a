"""List the audits, each with the first line of its module."""

import ast
import sys
from pathlib import Path

from src.cli import Parser, run

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def purpose(name: str) -> str:
    """Return the first line of the docstring of an audit without importing it."""
    source = Path(__file__).with_name(f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def overview() -> str:
    width = max(map(len, NAMES))
    return "\n".join(f"  python -m audits.{name:{width}}  {purpose(name)}" for name in NAMES)


def main() -> None:
    parser = Parser("", prog="python -m audits", add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.parse_args()
    print(f"Audits, each with a --help of its own:\n\n{overview()}")


if __name__ == "__main__":
    sys.exit(run(main))
