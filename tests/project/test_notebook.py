"""The notebook was executed, runs again in another folder, and finds what its text claims."""

import fnmatch
import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "tour.ipynb"
SAY_RESULTS = """
import json
print(json.dumps([table["success %"].tolist(), table["after"].tolist(), low]))
"""


def code_cells() -> list[dict]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_was_executed_from_top_to_bottom_and_is_small():
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert {"stream", "execute_result", "display_data"} == set(kinds)
    assert NOTEBOOK.stat().st_size < 200_000


@pytest.mark.slow
def test_the_cells_run_in_another_folder(tmp_path, python):
    code = "\n".join("".join(cell["source"]) for cell in code_cells()) + SAY_RESULTS
    env = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [python.program, "-"],
        input=code,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    (pgd, noise), (attacked, control), low = json.loads(run.stdout.splitlines()[-1])
    assert pgd > 50 > noise
    assert attacked > control and low > 0
    assert not list(tmp_path.iterdir())


def test_the_package_has_two_names_and_all_files_of_the_rooms():
    """``pip install`` must not leave top-level modules such as attacks and cli."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["packages"]["find"]["include"]
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("[!.]*/**/__init__.py")
    }
    found = {name for name in packages if any(fnmatch.fnmatch(name, of) for of in patterns)}
    assert {name.partition(".")[0] for name in found} == {"src", "audits"}
    kept = {
        path
        for package, wanted in settings["package-data"].items()
        for pattern in wanted
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    data = {path for path in (ROOT / "src").rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert data == kept
