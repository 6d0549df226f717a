"""Runs of audits.rankings from checkpoint and images to table and record, and its reports."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from audits import rankings
from src.artifacts.item_classes import write_item_categories
from src.attacks.profiles import PROFILES, parse_attack
from src.attacks.ranking.command import add_ranking_options, attacks_of
from src.cli import Parser
from src.measures.ranking_attacks import Benign, RankingOutcome, overview
from src.metrics.ranking_robustness import TERMS, empirical_robustness_score
from tests.scripts import run_script

N_IMAGES, N_CLASSES = 30, 3
QUICK = ("--pgditer", "2", "--batch", "16", "--gpu", "-1")
CANDIDATE = "CA:pm=+:W=1:eps=8/255:alpha=3/255:pgditer=2"


@pytest.fixture
def call(capsys):
    """Return a function ``call(*options)`` that returns (exit code, stdout, stderr)."""
    return lambda *options: (run_script(rankings, *options), *capsys.readouterr())


@pytest.fixture
def pictures(tmp_path, draw_images) -> tuple[str, ...]:
    """Options that name 30 labelled images of 32 x 32 pixels."""
    folder = draw_images(tmp_path / "images", N_IMAGES, 32)
    labels = [f"kind {number}" for number in range(N_CLASSES)]
    write_item_categories(tmp_path / "labels.csv", np.arange(N_IMAGES) % N_CLASSES, labels)
    return ("--images", str(folder), "--labels", str(tmp_path / "labels.csv"))


@pytest.fixture
def quick(pictures, tiny_checkpoint, tmp_path) -> tuple[str, ...]:
    out = ("--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "out" / "attacks.tsv"))
    return (*pictures, *out, *QUICK)


def test_a_profile_gives_the_ten_terms_and_their_score(call, quick, tmp_path):
    code, printed, err = call(*quick, "--repeats", 2, "--max_images", 20)
    assert code == 0, err
    table = pd.read_csv(tmp_path / "out" / "attacks.tsv", sep="\t")
    assert len(table) == 10
    assert list(dict.fromkeys(table["attack"])) == [
        str(spec).replace("pgditer=32", "pgditer=2") for spec in PROFILES["rob224"]
    ]
    assert list(table["term"]) == list(TERMS)
    assert (table["repeats"] == 2).all()
    assert (table["ci_low"] <= table["after"]).all()
    assert (table["after"] <= table["ci_high"]).all()

    record = json.loads((tmp_path / "out" / "attacks.json").read_text())
    assert record["options"]["max_images"] == 20
    assert set(record["benign"]) >= {"r1", "r2", "map", "map_r", "map_10", "nmi", "spread"}
    (robustness,) = record["robustness"]
    terms = dict(zip(table["term"], table["after"], strict=True))
    assert robustness["ers"] == pytest.approx(empirical_robustness_score(terms), abs=1e-4)
    assert robustness["ers_low"] <= robustness["ers"] <= robustness["ers_high"]
    assert f"ERS {robustness['ers']:.1f} (95 %" in printed

    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "attacks.tsv",
        "attacks.json",
        "attacks.tsv.manifest.json",
    }


def test_a_finished_run_is_kept_and_repeats_exactly(call, quick, tmp_path):
    more = ("--attack", CANDIDATE, "LTM", "--no_nmi")
    first_printed = call(*quick, *more)[1]
    table = tmp_path / "out" / "attacks.tsv"
    first = table.read_bytes()
    code, printed, _ = call(*quick, *more)
    assert code == 0
    assert "up to date" in printed
    assert first_printed.split("written")[0].strip() in printed
    call(*quick, *more, "--force")
    assert table.read_bytes() == first
    assert "up to date" not in call(*quick, *more, "--seed", 1)[1]
    assert table.read_bytes() != first


def test_an_interrupted_run_continues(call, quick, tmp_path, monkeypatch):
    from src.attacks.ranking.evaluation import RankingTask

    more = ("--attack", CANDIDATE, "ES", "--no_nmi")
    call(*quick, *more)
    table = tmp_path / "out" / "attacks.tsv"
    whole = table.read_bytes()
    shutil.rmtree(table.parent)

    attack, attacked = RankingTask.run, []

    def stop_at_es(task, spec, *arguments):
        attacked.append(spec.kind)
        if attacked == ["CA", "ES"]:
            raise KeyboardInterrupt
        return attack(task, spec, *arguments)

    monkeypatch.setattr(RankingTask, "run", stop_at_es)
    assert call(*quick, *more)[0] == 130
    assert not table.exists()
    assert call(*quick, *more)[0] == 0
    assert attacked == ["CA", "ES", "ES"]
    assert table.read_bytes() == whole


def test_images_are_saved_within_their_budget(call, quick, pictures, tmp_path):
    saved = tmp_path / "adversarial"
    code, _, err = call(
        *quick, "--attack", "ES:eps=2.5/255", "TMA", "--max_images", 8, "--save_images", saved
    )
    assert code == 0, err
    folders = sorted(path.name for path in (saved / "repeat_0").iterdir())
    assert folders == [
        "ES_eps=0.00980392_alpha=3-255_pgditer=2",
        "TMA_eps=8-255_alpha=3-255_pgditer=2",
    ]
    for folder, budget in zip(folders, (2, 8), strict=True):
        files = sorted((saved / "repeat_0" / folder).glob("*.png"))
        assert len(files) == 8
        for file in files:
            clean = Image.open(Path(pictures[1]) / f"{file.stem}.jpg")
            change = np.asarray(Image.open(file), np.int16) - np.asarray(clean, np.int16)
            assert 0 < np.abs(change).max() <= budget


@pytest.mark.parametrize(
    "options",
    [("--nes",), ("--compat", "paper"), ("--restarts", "2"), ("--precision", "bf16")],
    ids=str,
)
def test_ways_to_attack_change_the_result(call, quick, options, tmp_path):
    table = tmp_path / "out" / "attacks.tsv"
    more = ("--attack", "ES", "--no_nmi", "--max_images", 6)
    call(*quick, *more)
    plain = pd.read_csv(table, sep="\t")["after"]
    code, _, err = call(*quick, *more, *options)
    assert code == 0, err
    assert (pd.read_csv(table, sep="\t")["after"] != plain).any()


def test_a_surrogate_attacks_another_network(call, quick, tmp_path):
    import torch

    from src.extractors.architectures import build_extractor
    from src.extractors.checkpoints import save_extractor

    torch.manual_seed(1)
    surrogate = tmp_path / "surrogate.pt"
    save_extractor(surrogate, build_extractor("shufflenet_v2_x0_5", ["a", "b"]))
    more = ("--attack", "ES", "--no_nmi")
    table = tmp_path / "out" / "attacks.tsv"
    call(*quick, *more)
    own = pd.read_csv(table, sep="\t").set_index("measure")["after"]["distance"]
    code, _, err = call(*quick, *more, "--transfer", surrogate)
    assert code == 0, err
    assert 0 < pd.read_csv(table, sep="\t").set_index("measure")["after"]["distance"] < own


def test_a_catalogue_with_categories_and_a_model_by_the_usual_options(
    call, tiny_checkpoint, draw_images, tmp_path
):
    data = tmp_path / "data" / "shop"
    draw_images(data / "original" / "images", N_IMAGES, 32)
    rows = [f"{item},{item % N_CLASSES}" for item in range(N_IMAGES)]
    (data / "items.csv").write_text("\n".join(["item,category", *rows]) + "\n")
    models = tmp_path / "models" / "robust"
    models.mkdir(parents=True)
    shutil.copy(tiny_checkpoint, models / "tiny.pt")
    model = ("--defense", 1, "--model_dir", "robust", "--model_file", "tiny.pt", "--resize", 32)
    where = ("--dataset", "shop", "--root", tmp_path)
    code, _, err = call(*where, *model, *QUICK, "--attack", "GTM", "--no_nmi")
    assert code == 0, err
    table = tmp_path / "results" / "shop" / "attack_ranking.tsv"
    assert list(pd.read_csv(table, sep="\t")["kind"]) == ["GTM"]
    assert json.loads(table.with_suffix(".json").read_text())["robustness"] == []  # not ten terms


def test_a_retrieval_set_and_an_embedder(call, tmp_path):
    import torch

    from src.extractors.architectures import build_extractor
    from src.extractors.checkpoints import save_extractor

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 10
    pixels = rng.integers(0, 256, (60, 28, 28), np.uint8)
    arrays = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    np.savez(tmp_path / "fashion.npz", **arrays)
    torch.manual_seed(0)
    save_extractor(tmp_path / "c2f2.pt", build_extractor("c2f2+512", list("abcdefghij")))
    options = ("--dataset", "fashion", "--data", tmp_path / "fashion.npz", "--root", tmp_path)
    saved = tmp_path / "png"
    code, _, err = call(
        *options, "--checkpoint", tmp_path / "c2f2.pt", *QUICK, "--attack", "TMA:eps=77/255",
        "--max_images", 5, "--no_nmi", "--save_images", saved,
    )  # fmt: skip
    assert code == 0, err
    assert len(list(saved.rglob("*.png"))) == 5
    assert (tmp_path / "results" / "fashion" / "attack_ranking.json").is_file()

    larger = {name: np.zeros((60, 32, 32), np.uint8) for name in ("x_train", "x_test")}
    np.savez(tmp_path / "fashion.npz", **arrays | larger)
    code, _, err = call(*options, "--checkpoint", tmp_path / "c2f2.pt", *QUICK)
    assert (code, "cannot read images of 32x32 pixels" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--attack", "XY"), "no such kind"),
        (("--profile", "rob1"), "invalid choice"),
        (("--repeats", "0"), "--repeats must be at least 1"),
        (("--max_images", "0"), "--max_images must be at least 1"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--seed", "-1"), "--seed"),
        (("--eps", "256"), "fractions"),
        (("--data", "somewhere"), "either --data or"),
        (("--transfer", "none.pt"), "missing file"),
        (("--attack", "QA:pm=-:M=25"), "too few"),
    ],
)
def test_what_cannot_be_run_is_one_line(call, quick, options, problem, tmp_path):
    code, _, err = call(*quick, *options)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert problem in last
    assert not (tmp_path / "out" / "attacks.tsv").exists()


def test_images_without_labels_are_refused(call, pictures, tiny_checkpoint):
    code, _, err = call(*pictures[:2], "--checkpoint", tiny_checkpoint, *QUICK)
    assert (code, "belong together" in err) == (2, True)


def test_options_change_the_budget_of_every_attack():
    parser = Parser("")
    add_ranking_options(parser)

    def attacks(text: str) -> list[str]:
        return [str(spec) for spec in attacks_of(parser.parse_args(text.split()))]

    assert attacks("") == [str(spec) for spec in PROFILES["rob224"]]
    assert attacks("--attack ES LTM ES") == [str(parse_attack("ES")), str(parse_attack("LTM"))]
    assert len(attacks("--profile rob28 --attack FOA:M=2")) == 10
    assert set(attacks("--profile qccurve28 --eps 16/255 --alpha 2 --restarts 3")) == {
        f"{kind}:pm={sign}:{letter}=1:eps=16/255:alpha=2/255:pgditer=32:restarts=3"
        for kind, letter in (("CA", "W"), ("QA", "M"))
        for sign in "+-"
    }
    assert attacks("--attack TMA --pgditer 1") == ["TMA:eps=8/255:alpha=8/255:pgditer=1"]
    assert attacks("--attack TMA --pgditer 1 --alpha 2") == ["TMA:eps=8/255:alpha=2/255:pgditer=1"]


def benign(spread: float = 1.0) -> Benign:
    return Benign({"r1": 80.0, "r2": 90.0}, 10.0, spread)


def test_unknown_recalls_are_left_out_of_means():
    spec = parse_attack("LTM")
    before, after = {"r1": np.array([100.0, np.nan, 0])}, {"r1": np.array([0.0, np.nan, 0])}
    outcome = RankingOutcome.of(benign(), {spec: [(before, after)]})
    row = outcome.table().iloc[0]
    assert (row["before"], row["after"], row["score"]) == (50, 0, 0)
    assert np.isnan(row["ci_low"])
    assert outcome.record({})["attacks"][0]["ci_low"] is None


def test_scores_belong_to_a_budget():
    """The table has two budgets with ten terms each and a third with one."""
    scores = {}
    for eps, value in ((8, 10.0), (16, 5.0)):
        for spec in PROFILES["rob224"]:
            text = str(spec).replace("eps=8", f"eps={eps}")
            names = {"ES": ("distance", "r1"), "TMA": ("cosine",), "GTT": ("retained",)}
            kind = spec.kind
            measures = names.get(kind, ("r1",) if kind in ("LTM", "GTM") else ("percentile",))
            measured = {name: np.array([value]) for name in measures}
            scores[parse_attack(text)] = [(measured, measured)]
    scores[parse_attack("LTM:eps=4/255")] = [({"r1": np.ones(1)}, {"r1": np.ones(1)})]
    robustness = RankingOutcome.of(benign(), scores).robustness()
    assert list(robustness["budget"]) == [
        "eps=8/255:alpha=3/255:pgditer=32",
        "eps=16/255:alpha=3/255:pgditer=32",
    ]
    expected = [empirical_robustness_score(dict.fromkeys(TERMS, value)) for value in (10.0, 5.0)]
    assert list(robustness["ers"]) == pytest.approx(expected)


def test_larger_sets_of_candidates_are_no_terms():
    spec = parse_attack("CA:pm=+:W=5")
    measured = {"percentile": np.ones(3)}
    table = RankingOutcome.of(benign(), {spec: [(measured, measured)]}).table()
    assert table["term"].isna().all()


def test_a_collapsed_embedder_is_called_so():
    spec = parse_attack("LTM")
    measured = {"r1": np.ones(3)}
    for spread, collapsed in ((1.0, False), (0.01, True)):
        record = RankingOutcome.of(benign(spread), {spec: [(measured, measured)]}).record({})
        assert record["collapsed"] is collapsed
        assert ("collapsed" in overview(record)) is collapsed


def test_embedders_stand_in_one_table_in_the_order_of_their_first_run(call, quick, tmp_path):
    table = tmp_path / "compared.tsv"
    for name in ("none", "act", "none"):
        code, printed, err = call(*quick, "--max_images", 10, "--compare", table, name)
        assert code == 0, err
        assert f"row {name} of {table}" in printed
    rows = pd.read_csv(table, sep="\t")
    assert list(rows) == ["recipe", "r1", "r2", "map", "nmi", *TERMS, "ers"]
    assert list(rows["recipe"]) == ["none", "act"]
    record = json.loads((tmp_path / "out" / "attacks.json").read_text())
    terms = rows.loc[0, list(TERMS)].to_dict()
    assert rows["ers"][0] == pytest.approx(empirical_robustness_score(terms), abs=1e-3)
    assert rows["r1"][0] == pytest.approx(record["benign"]["r1"], rel=1e-5)


def test_without_a_second_image_of_a_class_there_is_no_ers(call, quick, pictures, tmp_path):
    labels, table = Path(pictures[3]), tmp_path / "compared.tsv"
    of_one = [f"kind {item}" for item in range(N_IMAGES)]
    write_item_categories(labels, np.arange(N_IMAGES), of_one)
    for name in ("measured", "read back"):
        code, printed, err = call(*quick, "--max_images", 3, "--no_nmi", "--compare", table, name)
        assert code == 0, err
        assert "no ERS at eps=8/255" in printed
        assert "there is no es:r, ltm, gtm where no attacked image has another one" in printed
    known = pd.read_csv(table, sep="\t").set_index("recipe")
    assert list(known.index) == ["measured", "read back"]
    assert known[["ers", "es:r", "nmi"]].isna().all(axis=None)
    assert known[["ca+", "gtt"]].notna().all(axis=None)


def test_a_table_of_embedders_needs_one_ers_each(call, quick, tmp_path):
    table = tmp_path / "compared.tsv"
    code, _, err = call(*quick, "--attack", CANDIDATE, "--compare", table, "none")
    assert code == 2 and "one budget" in err
    table.write_text("a\tb\n1\t2\n")
    code, _, err = call(*quick, "--max_images", 10, "--compare", table, "none")
    assert code == 2 and "compared.tsv is not a table of embedders" in err
