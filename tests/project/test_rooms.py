"""Rooms of ``src/`` import only downward, and only one of them imports TensorFlow."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
SCRIPTS = sorted([*ROOT.glob("*.py"), *ROOT.glob("audits/*.py")])

FLOORS = (
    {"report"},
    {"measures"},
    {"leaks"},
    {"training"},
    {"attacks"},
    {"recommenders", "defences"},
    {"extractors"},
    {"datasets"},
    {"cli"},
    {"artifacts", "interrupts"},
)
"""From top to bottom: a room may import what stands on lower floors. ``MODULES`` are no folders."""
MODULES = {"cli", "interrupts"}
ALONE = {"metrics"}
"""Imports nothing of ours. What measures imports it, and scripts."""


"""File of a room without torch that ranks with it: it is loaded for a GPU only."""
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "cleverhans"}


def room_of(path: Path) -> str:
    """Return ``attacks`` for ``src/attacks/pgd.py``, ``cli`` for ``src/cli.py``, else ``commands``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "src" else "commands"


def imported_modules(source: str) -> Iterator[str]:
    """Return the absolute names of all modules that the source imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the arrows can be read"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    return set(imported_modules(path.read_text()))


def rooms_imported(path: Path) -> set[str]:
    """Return the other rooms that a file imports."""
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("src.")}
    rooms = {room for floor in FLOORS for room in floor} | ALONE
    return (ours & rooms) - {room_of(path)}


def libraries_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def may_import(room: str) -> set[str]:
    if room in ALONE:
        return set()
    floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
    lower = set().union(*FLOORS[floor + 1 :])
    return lower | ALONE if room in {"leaks", "measures", "recommenders", "report"} else lower


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_folder_is_a_room_that_says_what_it_holds():
    folders = {path.parent.name for path in (ROOT / "src").glob("*/__init__.py")}
    assert folders == {room for floor in FLOORS for room in floor} - MODULES | ALONE
    for folder in folders:
        assert ast.get_docstring(ast.parse((ROOT / "src" / folder / "__init__.py").read_text()))


@pytest.mark.parametrize("path", [p for p in SOURCES if room_of(p) != "__init__"], ids=relative)
def test_rooms_import_only_downward(path):
    assert rooms_imported(path) <= may_import(room_of(path))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_in_src_imports_a_script(path):
    assert not libraries_imported(path) & {"audits", *(script.stem for script in SCRIPTS)}


@pytest.mark.parametrize("path", SOURCES + SCRIPTS, ids=relative)
def test_torch_and_tensorflow_stay_in_their_rooms(path):
    room, libraries = room_of(path), libraries_imported(path)
    if libraries & {"tensorflow", "keras"}:
        assert room == "recommenders"
    if libraries & {"torch", "torchvision", "cleverhans"}:
        rooms = {
            "extractors",
            "recommenders",
            "defences",
            "attacks",
            "training",
            "leaks",
            "commands",
        }
        assert room in rooms


def loaded_at_once(path: Path, seen: set[Path]) -> set[str]:
    """Return the libraries that the import of a file loads, also through modules of the project."""
    seen.add(path)
    statements = ast.parse(path.read_text()).body
    top = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    names = set(imported_modules("\n".join(map(ast.unparse, top))))
    libraries = {name.split(".")[0] for name in names}
    for name in names:
        module = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if module.is_file() and module not in seen:
            libraries |= loaded_at_once(module, seen)
    return libraries


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_help_and_bad_options_answer_before_a_framework_is_loaded(path):
    assert not loaded_at_once(path, set()) & FRAMEWORKS


@pytest.mark.parametrize("path", [*ROOT.glob("*.py"), ROOT / "audits/__init__.py"], ids=relative)
def test_scripts_answer_ctrl_c_before_they_import_libraries(path):
    first = next(
        node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Expr)
    )
    assert ast.unparse(first) == "import src.interrupts"


def test_the_reader_of_imports_sees_all_of_them():
    source = "import a.b\nfrom c import d\ndef f():\n    from e.f import g, h\n"
    assert set(imported_modules(source)) == {"a.b", "c", "c.d", "e.f", "e.f.g", "e.f.h"}
    assert "ast" in imports_of(Path(__file__)) and "ast" in sys.modules
