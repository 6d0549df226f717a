"""Report: its content agrees with the stages' results, and the page needs no other file."""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from src.artifacts.classes import Classes, write_attacked_classes, write_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.tables import write_table
from src.measures.comparison import comparisons_of
from src.measures.runs import list_runs
from src.measures.summary import summarise
from src.metrics.significance import Estimate
from src.report.estimates import decimals_of, estimate_text, fixed, number, signed
from src.report.gallery import ShownAttack, evenly_spaced_items
from src.report.names import attack_labels
from src.report.plots import Curve, Plot, draw_curves, styles_of
from src.report.study import Study
from src.report.tables import Table
from tests.scripts import run_script
from tests.small_shops import write_run

N_ITEMS, N_USERS, TOP = 12, 8, 4
NUMBERS = np.repeat([7, 8, 9], 4)
LABELS = {7: "<b>sandal</b> & co", 8: "jeans", 9: "running shoe"}
PGD_8 = "pgd_7_9_eps8.0_eps_it8.0_nb_it10_linf"
PGD_4 = "pgd_7_9_eps4.0_eps_it4.0_nb_it10_linf"
NOISE = "noise_7_9_eps8.0_linf"
ATTACKED = np.arange(4)
CLEAN_HITS = (0, 1, 0, 0, 1, 0, 0, 1)
VOID = {"meta", "link", "img", "source", "br", "input"}


class Page(HTMLParser):
    """Parser of elements and their text, which raises for tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def classes(ids, numbers):
    return Classes(
        np.asarray(ids), np.asarray(numbers), [LABELS[n] for n in numbers], np.full(len(ids), 0.75)
    )


def write_images(layout, name, hits=(9, 9, 9, 7)):
    """Write the images of an experiment, clean ones first; ``hits`` are the attacked ones' classes."""
    experiment, rng = Experiment.parse(name), np.random.default_rng(0)
    clean = layout.experiment(experiment.clean)
    if not layout.images.is_dir():
        layout.images.mkdir(parents=True)
        for item in range(N_ITEMS):
            pixels = rng.integers(10, 240, (6, 6, 3), np.uint8)
            Image.fromarray(pixels).save(layout.images / f"{item}.png")
    clean.mkdir(parents=True, exist_ok=True)
    write_classes(layout.classes(experiment.clean), classes(range(N_ITEMS), NUMBERS))
    write_features(layout.features(experiment.clean), np.zeros((N_ITEMS, 2)))
    folder = layout.attacked_images(experiment)
    folder.mkdir(parents=True)
    for item in ATTACKED:
        with Image.open(layout.images / f"{item}.png") as image:
            pixels = np.asarray(image) + np.uint8(item)
        Image.fromarray(pixels).save(folder / f"{item}.tiff")
    write_attacked_classes(
        layout.classes(experiment), classes(ATTACKED, hits), classes(ATTACKED, [7] * 4)
    )
    features = np.zeros((N_ITEMS, 2))
    features[:4, 0] = [1, 1, 2, 2]
    write_features(layout.features(experiment), features)
    rows = {"image": ATTACKED, "success": 1, "linf": [1.0, 2, 3, 4], "l2": [1.0, 2, 3, 4]}
    write_table(layout.attack_report(experiment), pd.DataFrame(rows))
    manifest = Manifest.of("classify_extract_attack", {"resize": 0, "seed": 0}, [])
    manifest.write([layout.classes(experiment)])


def more(*further, seed=0):
    """Return the clean hits of a seed and ``further`` ones."""
    return np.add(np.roll(CLEAN_HITS, seed), further)


def write_lists(layout, name, hits, seed=0, protocol="retrained"):
    """Write lists in which user u gets ``hits[u]`` items 0, 1, ... of class 7 first, then class 8."""
    run = Run(Experiment.parse(name), "VBPR", 10, TOP, seed, protocol)
    items = np.array([[*range(n), *range(4, 8 - n)] for n in hits])
    write_run(layout, run, items, hits)
    return run


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Three attacks; seeds 0 and 1 retrained, 2 and 3 for their control, seed 0 also at test time."""
    layout = Layout("toy", tmp_path)
    attack = [
        "classify_extract_attack.py",
        "--dataset",
        "toy",
        "--root",
        str(tmp_path),
        "--eps",
        "4",
    ]
    monkeypatch.setattr(sys, "argv", attack)
    for name in (PGD_8, PGD_4, NOISE):
        write_images(layout, name, (7, 7, 7, 7) if name == NOISE else (9, 9, 9, 7))
    for seed in range(4):
        write_lists(layout, "original", more(seed == 2, seed=seed), seed)
    for seed in (0, 1):
        write_lists(layout, PGD_8, more(1, 0, 1, 1, 1, 0, 1, seed, seed=seed), seed)
    write_lists(layout, PGD_8, more(2, 0, 1, 1, 2, 0, 0, 1), protocol="test_time")
    write_lists(layout, PGD_4, more(1, 0, 1, 0, 0, 0, 0, 0), protocol="test_time")
    write_lists(layout, NOISE, more(0, 0, 1, 0, 0, 0, 0, 0), protocol="test_time")
    return layout


def make(layout, *options):
    """Run report.py; return (exit code, the page's text or None)."""
    common = ("--dataset", "toy", "--root", layout.root, "--topk", 4)
    code = run_script("report", *common, *options)
    page = layout.results / "report.html"
    return code, page.read_text() if page.is_file() else None


def table(layout, name):
    return pd.read_csv(layout.results / "tables" / f"{name}.tsv", sep="\t")


@pytest.fixture
def undrawn(monkeypatch):
    """Replace plots by empty files, for tests of all other parts."""
    files = property(lambda plot: {end: plot.name.encode() for end in ("svg", "png", "pdf")})
    monkeypatch.setattr("src.report.plots.Plot.light", files)
    monkeypatch.setattr("src.report.plots.Plot.page", property(lambda plot: plot.name.encode()))


def test_page_stands_by_itself_and_is_made_equal_again(layout):
    code, text = make(layout)
    assert code == 0
    page = Page(text)
    policy = next(of["content"] for of in page.of("meta") if "http-equiv" in of)
    [script] = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not re.search(r"<[^>]+ on[a-z]+=", text), "handlers beside the script"
    for tag, attribute in (("img", "src"), ("link", "href")):
        assert all(of[attribute].startswith("data:") for of in page.of(tag))
    assert not re.search(r"(src|href)=.?https?:", text)
    assert all(len(of["alt"]) > 10 for of in page.of("img"))
    ids = {of["id"] for _, of in page.elements if "id" in of}
    assert {of["href"].removeprefix("#") for of in page.of("a")} <= ids
    assert "@media print" in text and "prefers-color-scheme: dark" in text
    figures = sorted(path.name for path in (layout.results / "figures").iterdir())
    assert {name.rsplit(".")[-1] for name in figures} == {"png", "pdf"}
    assert len(figures) == 2 * text.count("data:image/svg+xml,")
    assert "success_rate_against_eps_7_9.pdf" in figures
    with Image.open(layout.results / "figures" / figures[1]) as image:
        assert image.width > 800
    files = [path for path in layout.results.rglob("*.*") if path.suffix != ".json"]
    before = {path: path.read_bytes() for path in files}
    assert make(layout, "--force")[0] == 0
    assert before == {path: path.read_bytes() for path in before}


def test_values_are_those_of_the_summary(layout, undrawn):
    _, text = make(layout)
    runs = [Run.parse(path.stem) for path in layout.recommendations_dir.glob("*.tsv")]
    expected = summarise(comparisons_of([layout], [runs], [4])).set_index(
        ["attack", "protocol", "metric"]
    )
    for protocol in ("test_time", "retrained"):
        for metric in ("chr", "ncdcg"):
            for _, row in table(layout, f"summary_{metric}_{protocol}").iterrows():
                of = expected.loc[row["attack"], protocol, metric]
                for name in ("before", "after", "change", "noise_effect", "net_effect"):
                    assert row[name] == pytest.approx(of[name], rel=1e-4, nan_ok=True)
    row = table(layout, "summary_chr_retrained").iloc[0]
    changes = np.array([5, 5 + 1 - 0]) / N_USERS
    assert row["change"] == pytest.approx(changes.mean(), rel=1e-5)
    low, high = stats.t.interval(0.95, 1, changes.mean(), stats.sem(changes))
    assert row["change_low"] <= low + 1e-5 and row["change_high"] >= high - 1e-5  # users add to it
    test_time = table(layout, "summary_chr_test_time").set_index("attack").loc[PGD_8]
    assert test_time[["change_low", "change_high"]].isna().all()  # one run
    said = Page(text).text
    assert f"{test_time['after']:.3f}" in said and "+0.875" in said
    assert "net +0.750" in said  # noise brings one user of eight one more


def test_attacks_have_intervals_and_labels_are_escaped(layout, undrawn):
    _, text = make(layout)
    assert "<b>" not in text and "&lt;b&gt;sandal&lt;/b&gt; &amp; co" in text
    latex = (layout.results / "tables" / "attacks.tex").read_text()
    assert r"$<$b$>$sandal$<$/b$>$ \& co $\to$ running shoe" in latex
    row = table(layout, "attacks").set_index("experiment").loc[PGD_8]
    interval = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert row["success_rate"] == 75 and row["images"] == 4
    assert row["success_rate_low"] == pytest.approx(100 * interval.low, rel=1e-5)
    assert row["success_rate_high"] == pytest.approx(100 * interval.high, rel=1e-5)
    assert row["feature_loss"] == pytest.approx((1 + 1 + 4 + 4) / 4 / 2)
    assert row["feature_loss_low"] < row["feature_loss"] < row["feature_loss_high"]
    assert row["largest_change"] == 4  # of the image that changed most; the mean is 2.5
    assert row["l2"] == 2.5 and "mean L2 of the change" in Page(text).text


def test_lists_of_several_trainings_are_pooled_with_verdicts(layout, undrawn):
    other = Layout("toy_1", layout.root)
    for name in (PGD_8, NOISE):
        write_images(other, name, (9, 9, 9, 9))
    write_lists(other, "original", CLEAN_HITS)
    write_lists(other, PGD_8, more(3, 1, 1, 1, 1, 1, 1, 2), protocol="test_time")
    write_lists(other, NOISE, more(0, 0, 0, 0, 0, 0, 0, 1), protocol="test_time")
    code, text = make(layout, "--trainings", "toy_1")
    assert code == 0 and "2 trainings of the extractors" in Page(text).text
    runs = [
        [run for run in list_runs(of) if run.protocol == "test_time" or not run.experiment.attack]
        for of in (layout, other)
    ]
    summary = summarise(comparisons_of([layout, other], runs, [4]))
    summary = summary[summary["metric"] == "chr"].set_index("attack")
    shown = table(layout, "summary_chr_test_time").set_index("experiment")
    columns = ["before", "after", "net_effect", "net_low", "net_high", "extractor_seeds"]
    for name in (PGD_8, NOISE, PGD_4):
        for column in columns:
            assert shown.loc[name, column] == pytest.approx(
                summary.loc[name, column], rel=1e-5, nan_ok=True
            )
        assert shown.loc[name, "after_low"] <= shown.loc[name, "after"]
    assert shown.loc[[PGD_8, PGD_4], "extractor_seeds"].tolist() == [2, 1]
    verdict = summary.loc[PGD_8, "verdict"]
    assert shown.loc[PGD_8, "verdict"] == verdict
    cells = (layout.results / "tables" / "summary_chr_test_time.tex").read_text()
    assert cells.count(verdict) == 1, "in the cell of the attack that both trainings have"


def test_trainings_of_unlike_interactions_are_no_report(layout, capsys):
    other = Layout("toy_1", layout.root)
    write_images(other, PGD_8)
    for of, rows in ((layout, "0\t1\n"), (other, "0\t2\n")):
        of.training_set.write_text(rows)
    code, _ = make(layout, "--trainings", "toy_1")
    assert code == 2 and "hold other interactions" in capsys.readouterr().err
    code, _ = make(layout, "--trainings", "toy")
    assert code == 2 and "named twice" in capsys.readouterr().err


def test_accuracy_beside_an_attack_is_the_summarys(layout, undrawn):
    """Clean runs of further seeds, the controls of retraining, are left out."""
    make(layout)
    runs = [Run.parse(path.stem) for path in layout.recommendations_dir.glob("*.tsv")]
    expected = summarise(comparisons_of([layout], [runs], [4])).set_index(
        ["attack", "protocol", "metric"]
    )["before"]
    tradeoff = table(layout, "tradeoff")
    assert set(tradeoff["protocol"]) == {"test_time", "retrained"}
    for _, row in tradeoff.iterrows():
        for metric in ("hr", "auc"):
            assert row[metric] == pytest.approx(expected[row["attack"], row["protocol"], metric])
    outcomes = (
        summarise(comparisons_of([layout], [runs], [4]))
        .drop_duplicates("attack")
        .set_index("attack")
    )
    for _, row in table(layout, "attacks").iterrows():
        for name in ("success_rate", "feature_loss"):
            assert row[name] == pytest.approx(outcomes.loc[row["experiment"], name])


def test_gallery_shows_the_ranks_that_users_see(layout):
    study = Study.find(layout, 4, None, None)
    attack = ShownAttack(study, Experiment.parse(PGD_8))
    [card] = attack.gallery([0], [0, 1]).cards
    assert card.succeeded
    # User 0: item 0 comes first, and was not listed; user 1 had it first before.
    [ranks] = card.ranks
    assert ranks.users == ((0, "beyond 4", "1"), (1, "1", "1"))
    assert ranks.reach == "in the top 4 of 3 → 6 of 8 users"
    assert ranks.recommender == "VBPR at test time"
    original, attacked, difference = card.pictures
    assert original.caption == "<b>sandal</b> & co, 75.0\xa0%"
    assert attacked.caption == "running shoe, 75.0\xa0%" and original.source == attacked.source
    assert difference.caption == "at most 0 levels"
    [failure] = attack.gallery([3], [0]).cards
    assert not failure.succeeded and failure.pictures[2].title == "difference ×\xa042"
    assert attack.gains() == {0: 3, 1: 3, 2: 1, 3: 0}


def test_evenly_spaced_items_go_from_the_largest_gain_to_the_smallest():
    gains = {10: 0, 11: 5, 12: -1, 13: 0, 14: 7, 15: 0, 16: 2}
    assert evenly_spaced_items(gains) == [14, 16, 13, 12]
    assert evenly_spaced_items({3: 1.0, 4: 2.0}) == [4, 3] and evenly_spaced_items({}) == []


def test_a_study_of_noise_alone_has_a_report(layout, undrawn):
    for path in layout.recommendations_dir.rglob("*pgd*"):
        path.unlink()
    for name in (PGD_4, PGD_8):
        shutil.rmtree(layout.experiment(Experiment.parse(name)))
    code, text = make(layout)
    assert code == 0
    assert "classify_extract_attack.py --attack_type pgd" in Page(text).text


def test_prices_in_names_are_no_formulas():
    plot = Plot("p", "Under $20 → $50 {off}", "alt", lambda axes: axes.plot([1], label="a_$b$"))
    assert plot.light["png"].startswith(b"\x89PNG")
    assert b"Under $20" in plot.light["svg"] and b"Under $20" in plot.page
    assert replace(plot).light == plot.light


def test_legends_of_many_extractors_fit_and_tell_them_apart(monkeypatch):
    names = [f"fashion_extractor_{n}, VBPR" for n in range(7)]
    styles = styles_of(names)
    seen = {(of["color"], of.get("fillstyle", "full")) for of in styles.values()}
    assert len(seen) == len(names)
    figures = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *of, **how: figures.append(figure.draw_without_rendering())
        or figures.append(figure),
    )  # fmt: skip
    one = np.ones(1)
    curves = [Curve(name, one, one, one, one, styles[name]) for name in names]
    assert not Plot("p", "t", "alt", lambda axes: draw_curves(axes, curves, "x", "y")).light["svg"]
    figure = figures[-1]
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0
    assert figure.axes[0].get_window_extent().height > 0.5 * page.height


def test_items_and_users_can_be_chosen(layout, undrawn, capsys):
    said = Page(make(layout, "--items", "3", "--users", "5")[1]).text
    assert "Item 3" in said and "Item 0" not in said
    assert make(layout, "--users", "99")[0] == 2
    assert "user 99 has no list" in capsys.readouterr().err
    assert make(layout, "--items", "3", "7")[0] == 2
    assert "item 7 is not among the attacked ones" in capsys.readouterr().err
    with pytest.raises(UserError, match="item 7 is not among the attacked ones"):
        ShownAttack(Study.find(layout, 4, None, None), Experiment.parse(PGD_8)).gallery([7], [])


def test_second_time_is_skipped_and_stale_files_go(layout, undrawn, capsys):
    make(layout)
    capsys.readouterr()
    make(layout)
    assert "is up to date" in capsys.readouterr().out
    foreign = layout.results / "figures" / "mine.png"
    foreign.write_text("")
    for path in layout.recommendations_dir.glob("*testtime*"):
        path.unlink()
    make(layout)
    assert "report:" in capsys.readouterr().out
    left = {path.name for path in layout.results.rglob("*.*")}
    assert "mine.png" in left and "summary_chr_retrained.tsv" in left
    assert not any("test_time" in name for name in left)


def test_without_lists_sections_name_the_command_that_makes_them(layout, undrawn):
    for path in layout.recommendations_dir.glob("*.tsv"):
        path.unlink()
    code, text = make(layout)
    said = Page(text).text
    assert code == 0 and "Single items" in said
    absent = said.split("These commands make what further sections need.")[1]
    assert f"rec_generator.py --dataset toy --experiment_name {PGD_4}" in absent
    assert "audits.images score --dataset toy" in absent
    assert "python -m audits.attention --dataset toy --eps 4" in absent


def test_nothing_but_a_catalogue(tmp_path, undrawn):
    layout = Layout("toy", tmp_path)
    layout.data.mkdir(parents=True)
    code, text = make(layout)
    assert code == 0 and "classify_extract_attack.py --dataset toy" in Page(text).text


def test_tables_of_other_studies_are_known_by_their_columns(layout, undrawn):
    layout.results.mkdir(parents=True)
    rows = [("plain", "pgd20", 0, 200, 3.5, 1.7, 7.0)]
    columns = ["recipe", "attack", "seed", "n", "accuracy", "low", "high"]
    pd.DataFrame(rows, columns=columns).to_csv(layout.result("mine.tsv"), sep="\t", index=False)
    quality = {"experiment": [PGD_8], "psnr": 33.0, "psnr_low": 30.5, "psnr_high": 35.5}
    pd.DataFrame(quality).to_csv(layout.result("image_quality.tsv"), sep="\t", index=False)
    said = Page(make(layout)[1]).text
    assert "Robust accuracy" in said and "3.5 (1.7 to 7)" in said
    assert "33 (30.5 to 35.5)" in said
    assert "audits.parameters --dataset toy" in said


def test_commands_are_shown_without_the_place_of_the_tree(layout, undrawn):
    _, text = make(layout)
    assert "python classify_extract_attack.py --dataset toy --eps 4" in text
    assert str(layout.root) not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--topk", "5"], "K = 5 is not within the lists"), (["--epoch", "3"], "no attacked run")],
)
def test_bad_options(layout, capsys, options, message):
    assert make(layout, *options) == (2, None)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_no_data_set(tmp_path, capsys):
    assert make(Layout("toy", tmp_path))[0] == 2
    assert "no data set at" in capsys.readouterr().err


def test_numbers_in_words():
    assert [number(x) for x in (0.12345, -2, 1e-7, np.nan)] == ["0.123", "−2", "1e−7", "–"]
    assert [signed(x) for x in (0.5, -0.5, 0.0)] == ["+0.5", "−0.5", "0"]
    assert [fixed(x, 2, sign=True) for x in (0.001, -0.001, -0.5)] == ["+0.00", "+0.00", "−0.50"]
    assert estimate_text(Estimate(1, 0.5, 2)) == "1 (0.5 to 2)"
    assert estimate_text(Estimate(1)) == "1"
    assert [decimals_of(pd.Series(of)) for of in ([0.36], [0.0162, 1], [12.0], [0.0])] == [
        3,
        4,
        1,
        3,
    ]


def test_commands_in_latex_have_room_for_their_lines_and_their_hyphens():
    shown = pd.DataFrame({"stage": ["1"], "command": ["python x.py --gpu 0" + 50 * " word"]})
    latex = Table("t", "Commands", shown, shown).latex
    assert latex.startswith(r"\begin{longtable}{l>{\raggedright\arraybackslash}p{.42\linewidth}}")
    assert "x.py -{}-gpu 0" in latex


def test_tables_know_what_does_not_fit():
    shown = pd.DataFrame(
        {"name": ["of " * 10], **{f"column {n}": ["1.2 (1.1 to 1.3)"] for n in range(9)}}
    )
    assert Table("t", "T", shown, shown).has_long_names
    wide, narrow = (Table("t", "T", of, of) for of in (shown, shown[["column 1"]]))
    assert wide.print_zoom < 1 == narrow.print_zoom and not narrow.has_long_names
    assert r"\resizebox" in wide.latex and r"\resizebox" not in narrow.latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_understands_the_tables(tmp_path):
    signs = "a_b & 50 % <x> −1 ± ∞ ε Δ † – … × → ~ ^ \\ { } # $"
    shown = pd.DataFrame({"a": ["_"], "b": ["1\n2"], "c": [f"--{signs} " * 9]})
    wide = pd.DataFrame({f"column {n}": ["1.234 (1.2 to 1.3)"] for n in range(9)})
    tables = [
        *(Table("one", "T", shown, shown), Table("two", signs, shown[["a", "b"]], shown)),
        Table("three", "Wide", wide, wide),
    ]
    packages = r"\usepackage{array,booktabs,graphicx,longtable}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}"
    text = document + "\n".join(table.latex for table in tables) + r"\end{document}"
    (tmp_path / "t.tex").write_text(text)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout


def test_latex_escapes_and_stacks_the_lines_of_a_cell():
    shown = pd.DataFrame({"a_b": ["50 %"], "ε": ["1\n−2"]})
    latex = Table("t", "Title & more", shown, shown).latex
    assert r"a\_b & $\varepsilon$ \\" in latex
    assert r"50 \% & \begin{tabular}[t]{@{}r@{}}1 \\ $-$2\end{tabular} \\" in latex
    assert r"\caption{Title \& more.}" in latex and latex.count("{") == latex.count("}")


def test_seeds_of_an_attack_show_in_labels_of_the_later_ones():
    names = [PGD_8, f"{PGD_8}_seed1"]
    labels = attack_labels([Experiment.parse(name) for name in names])
    assert list(labels.values()) == ["PGD ε 8", "PGD ε 8, seed 1"]
