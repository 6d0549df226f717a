"""The blocks of docs/tour.md run from top to bottom and print the quoted lines."""

import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TOUR = (DOCS / "tour.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?")
MARK = "==== block"


def steps() -> list[tuple[str, str]]:
    """Return (commands, quoted output or nothing) in the order of the page."""
    found: list[tuple[str, str]] = []
    for kind, text in BLOCK.findall(TOUR):
        if kind == "text":
            found[-1] = (found[-1][0], text)
        else:
            found.append((text if kind == "bash" else f"python - <<'END'\n{text}END\n", ""))
    return found


STEPS = steps()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Copy of the repository's folder without data."""
    folder = tmp_path_factory.mktemp("tour")
    for file in (*ROOT.glob("*.py"), ROOT / "audits", ROOT / "src"):
        (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="module")
def printed(folder, python) -> list[str]:
    """Return the output of each step; all steps run in one shell."""
    script = "".join(f"echo '{MARK}'\n{commands}" for commands, _ in STEPS)
    path = os.pathsep.join([str(Path(python.program).parent), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split(f"{MARK}\n")[1:]


def words(line: str) -> str:
    """Return a line without its numbers and their padding."""
    return " ".join(NUMBER.sub("#", line).split())


@pytest.mark.slow
def test_every_quoted_line_is_printed(printed):
    """Numbers are from a trained network and are not compared, since they differ between processors."""
    for (commands, quoted), output in zip(STEPS, printed, strict=True):
        lines = {words(found) for found in output.splitlines()}
        for line in quoted.splitlines():
            assert words(line) in lines, f"{commands}\n{line}\n{lines}"


@pytest.mark.slow
def test_what_nothing_is_trained_for_is_exact(printed):
    assert STEPS[0][1].strip() == printed[0].strip()


@pytest.mark.slow
def test_the_figures_are_what_the_commands_draw(printed, folder):
    names = re.findall(r"]\((tour/\w+\.png)\)", TOUR)
    assert len(names) == 2 and all((DOCS / name).is_file() for name in names)
    figures = folder / "results/tour/figures"
    assert (figures / "chr_normalised_test_time_original_VBPR_0_1.png").is_file()
    [attacked] = folder.glob("data/tour/pgd_*")
    assert (attacked / "attention_panels.png").is_file()


def test_no_measured_number_stands_in_the_prose():
    assert not re.findall(r"\d+\.\d+", BLOCK.sub("", TOUR))


def test_links_lead_somewhere():
    for page in ("tour.md", "extending.md"):
        for link in re.findall(r"\]\(([^)#:]+)", (DOCS / page).read_text()):
            assert (DOCS / link).exists(), link


def chr_of_classes(folder: Path) -> pd.Series:
    """Return CHR@20 of each class before the attack, by name."""
    (table,) = (folder / "chr/tour").glob("original_top50_ep100_VBPR*.tsv")
    rows = pd.read_csv(table, sep="\t")
    return rows[rows["k"] == 20].set_index("className")["score"]


@pytest.mark.slow
def test_what_the_page_concludes_holds(printed, folder):
    """Every claim of the text holds on any processor."""
    summary = pd.read_csv(folder / "results/tour/summary.tsv", sep="\t")
    chr_rows = summary[summary["metric"] == "chr"].assign(
        attack=summary["attack"].str.partition("_")[0]
    )
    rows = chr_rows.set_index(["attack", "protocol"])
    pgd, noise = rows.loc["pgd", "test_time"], rows.loc["noise", "test_time"]
    assert pgd["success_rate"] > 50 and noise["success_rate"] < 10
    assert pgd["after"] > 2 * pgd["before"] and pgd["p_within_run"] < 0.001
    assert abs(noise["change"]) < 0.1 * pgd["change"] and pgd["noise_effect"] == pytest.approx(
        noise["change"]
    )
    assert pgd["verdict"] == "effect" and pgd["weakest_level"] == "1 extractor training"
    assert noise["feature_loss"] < 0.1 * pgd["feature_loss"]
    assert abs(rows.loc["pgd", "retrained"]["change"]) < 0.2 * pgd["change"]
    accuracy = pd.read_csv(folder / "results/tour/robust_accuracy.tsv", sep="\t")
    assert accuracy["attack"].tolist() == ["clean", "fgsm", "pgd20"]
    assert accuracy["accuracy"].is_monotonic_decreasing
    assert accuracy["accuracy"].iloc[-1] < 0.5 * accuracy["accuracy"].iloc[0]
    places = chr_of_classes(folder)
    assert places["running shoe"] > 2 * places["sandal"]
