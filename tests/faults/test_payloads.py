"""Nothing that is handed in is executed: tags of YAML, names of files, cells of tables, words of studies.

Pickles are in ``tests/faults/damage.py``, and where checkpoints and published sets are read.
"""

import ast
import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from reproduce.workflow.entries import Entries
from reproduce.workflow.leaderboard import Entry
from src.artifacts.errors import UserError
from src.artifacts.manifest import read_record
from src.extractors.checkpoints import load_extractor, load_state
from tests.faults import tree
from tests.faults.cases import build_whole
from tests.faults.damage import DAMAGES, EXECUTED, PAYLOAD

ROOT = Path(__file__).parents[2]
TAG = f"!!python/object/apply:os.system ['{PAYLOAD}']"
CODE = f"__use_yte__: true\nrules:\n  ?__import__('os').system('{PAYLOAD}')\n"
SHELL = (f"$({PAYLOAD})", f"`{PAYLOAD}`", f"; {PAYLOAD} #", f"' {PAYLOAD} '")
FORMULAS = ("=SYSTEM(1)", "+1+1", "-1", "@SUM(A1)", "=HYPERLINK(1)")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Working folder in which a payload that is executed leaves its mark."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.rglob(EXECUTED))


def test_the_tag_would_run():
    yaml.unsafe_load(TAG)
    Path(EXECUTED).unlink()


@pytest.mark.parametrize("text", [TAG, f"name: {TAG}\n", "? " + TAG, f"[{TAG}]"])
def test_a_tag_in_an_entry_of_the_leaderboard(folder, text):
    (folder / "entry.yaml").write_text(text)
    with pytest.raises(UserError, match=r"entry\.yaml"):
        Entry.read(folder / "entry.yaml")


@pytest.fixture
def studies(folder) -> Path:
    """Folder of studies beside ``study.sh``, without the programs that it needs after its checks."""
    (folder / "reproduce/studies").mkdir(parents=True)
    shutil.copy(ROOT / "reproduce/study.sh", folder / "reproduce")
    for name in ("workflow", "profiles"):
        (folder / "reproduce" / name).symlink_to(ROOT / "reproduce" / name)
    programs = f"{Path(sys.executable).parent}:$PATH"
    (folder / "reproduce/setup.sh").write_text(
        f'export PATH="{programs}"\nsnakemake() {{ echo studied; }}\nexec() {{ "$@"; }}\n'
    )
    return folder / "reproduce/studies"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"rules: {TAG}\n", "shop.yaml is no YAML file"),
        (CODE, "shop.yaml holds code"),
        (CODE.replace("__use_yte__", r'"__use\x5fyte__"'), "shop.yaml holds code"),
        ("- rules\n", "a study holds names"),
        ("", "a study holds names"),
        ("rules: catalogue\n", None),
        ('{"rules": "catalogue"}', None),
    ],
)
def test_code_in_a_study(folder, studies, text, message):
    (studies / "shop.yaml").write_text(text)
    done = subprocess.run(
        ["bash", "reproduce/study.sh", "shop"], cwd=folder, capture_output=True, text=True
    )
    if message is None:
        assert (done.returncode, done.stdout, done.stderr) == (0, "studied\n", "")
    else:
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: ") and message in done.stderr


@pytest.mark.parametrize("name", [*SHELL, "a b", "", "a|b"])
def test_names_of_a_study_are_words_of_a_shell(name):
    with pytest.raises(UserError, match=r"recipes: .* has a meaning in a shell"):
        Entries({"recipes": {name: "--eps 4"}}).named_texts("recipes")
    with pytest.raises(UserError, match=r"networks: .* has a meaning in a shell"):
        Entries({"networks": {name: {"attacks": ""}}}).mapping("networks")


@pytest.mark.parametrize("name", SHELL)
def test_names_of_pictures_and_tables_are_no_commands(folder, name):
    pictures = folder / f"pictures {name}"
    pictures.mkdir()
    for number in range(3):
        image = Image.fromarray(np.full((8, 8, 3), number, np.uint8))
        image.save(pictures / f"{number}{name}.png")
    table = folder / f"{name}.tsv"
    table.write_text("".join(f"{user}\t{item}{name}\n" for user in "ab" for item in range(3)))
    command = ["prepare_dataset", "folder", "--dataset", "shop", "--images", pictures.name]
    outcome = tree.call(folder, [*command, "--interactions", table.name])
    assert outcome.code == 0, outcome
    recorded = read_record(folder / "data/shop/trainingset.tsv")["command"]
    printed = subprocess.run(
        ["bash", "-c", f"python() {{ printf '%s\\n' \"$@\"; }}; {recorded}"],
        capture_output=True,
        text=True,
    )
    assert printed.stdout.splitlines()[-4:] == [
        "--images",
        pictures.name,
        "--interactions",
        table.name,
    ]


def test_cells_that_a_spreadsheet_would_compute_are_text(folder):
    """Labels and identifiers come out as they came in, and the report shows them as text."""
    root = build_whole(folder / "shop")
    classes = root / "data/shop/original/classes.csv"
    tree.remove_records(root)
    rows = list(csv.reader(classes.open()))
    at = rows[0].index("ClassStr")
    for row in rows[1:]:
        row[at] = FORMULAS[int(row[rows[0].index("ClassNum")])]
    classes.unlink()
    with classes.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for name in ("lists", "success", "summary"):
        assert tree.call(root, f"{tree.STAGES[name]} --force").code == 0
    assert tree.call(root, "report --dataset shop --topk 5").code == 0
    [table] = root.glob("chr/shop/original_top5_ep0_Pop.tsv")
    names = {row["className"] for row in csv.DictReader(table.open(), delimiter="\t")}
    assert names == set(FORMULAS[:3])


@pytest.mark.parametrize("name", [name for name in DAMAGES if name.startswith("a pickle")])
def test_a_pickle_in_the_place_of_a_checkpoint(folder, name):
    path = folder / "net.pt"
    path.write_bytes(DAMAGES[name](b"", np.random.default_rng(0)))
    with pytest.raises(UserError, match=r"net\.pt"):
        load_extractor(None, path)
    assert load_state(path, "cpu") is None


RUNNING = {
    *("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pd.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "marshal.loads"),
}
"""Calls that can execute what they are given."""
EXPECTED = {
    ("src/extractors/conversion.py", "weights_only=False"),  # its unpickler builds stand-ins
}


def calls_that_can_run(path: Path) -> set[str]:
    """Return calls, or arguments of calls, in a file of Python that can execute what it reads."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords}
        found |= {name} & RUNNING
        found |= given & {"shell=True", "allow_pickle=True", "weights_only=False"}
        if name == "torch.load" and not any(word.startswith("weights_only=") for word in given):
            found.add("torch.load without weights_only")
    return found


def test_no_file_of_the_project_calls_what_can_execute_its_input():
    files = [
        path
        for folder in ("src", "audits", "reproduce", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 100
    found = {
        (path.relative_to(ROOT).as_posix(), call)
        for path in [*files, *ROOT.glob("*.py")]
        for call in calls_that_can_run(path)
    }
    assert found == EXPECTED
