import functools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.artifacts.classes import Classes, write_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import record_path
from src.artifacts.tables import write_pairs
from src.measures.comparison import comparisons_of
from src.measures.pairs import attack_command, few_items, reversed_pair, suggest_pairs
from src.measures.runs import NOT_LISTED, read_held_out
from src.measures.summary import summarise
from src.measures.terminal import format_number, format_table
from src.report.estimates import number
from tests import small_shops
from tests.real_data import REAL_DATA
from tests.scripts import run_script

ATTACK = "pgd_7_9_eps8.0_eps_it8.0_nb_it10_linf"
NUMBERS = np.array([7, 7, 8, 8, 9, 9])
CLEAN = np.array([[0, 2, 4], [2, 3, 0], [4, 5, 2], [0, 1, 3]])
ATTACKED = np.array([[0, 1, 4], [0, 1, 2], [0, 4, 1], [0, 1, 3]])
HITS_BEFORE, HITS_AFTER = [1, 1, 0, 2], [2, 2, 2, 2]  # of class 7 in the top 3
RANKS_BEFORE, RANKS_AFTER = np.array([0, 1, 4, 2]), np.array([1, 3, 4, 2])
write_run = functools.partial(small_shops.write_run, negatives=4)
TRAIN = np.array([[0, 1], [0, 3], [1, 1], [1, 5], [2, 3], [3, 1], [3, 2], [3, 5]])
TEST = np.array([[0, 0], [1, 3], [2, 1], [3, 3]])
POPULARITY = np.array([0, 3, 1, 2, 0, 2])
TAIL = [0, 2, 4]  # items 1, 3 and 5 hold 7 of the 8 interactions, 1 and 3 only 5
MOVIELENS = REAL_DATA / "movielens-500"


@pytest.fixture
def layout(tmp_path):
    layout = Layout("toy", tmp_path)
    classes = layout.classes(Experiment())
    classes.parent.mkdir(parents=True)
    labels = [f"label {number}" for number in NUMBERS]
    write_classes(classes, Classes(np.arange(6), NUMBERS, labels, np.ones(6)))
    write_run(layout, Run(Experiment(), "VBPR", 10, 3), CLEAN, RANKS_BEFORE)
    write_run(layout, Run(Experiment.parse(ATTACK), "VBPR", 10, 3), ATTACKED, RANKS_AFTER)
    write_pairs(layout.training_set, TRAIN)
    write_pairs(layout.test_set, TEST)
    return layout


@pytest.fixture
def without_images(tmp_path):
    """Data set of interactions only, with lists of three items of two recommenders."""
    layout = Layout("films", tmp_path)
    layout.data.mkdir(parents=True)
    write_pairs(layout.training_set, TRAIN)
    write_pairs(layout.test_set, np.array([[0, 0], [1, 3], [2, 4], [3, 3]]))
    write_run(layout, Run(Experiment(), "BPRMF", 100, 3), CLEAN, RANKS_BEFORE)
    write_run(layout, Run(Experiment(), "Pop", 0, 3), ATTACKED, RANKS_AFTER)
    return layout


def evaluate(layout, *arguments):
    """Run ``evaluate_rec.py`` on the top-3 lists of ``layout``; return its exit code."""
    common = ("--dataset", layout.dataset, "--root", layout.root, "--topk", 3)
    return run_script("evaluate_rec", *common, *arguments)


def read(layout, metric, experiment, **options):
    run = Run(Experiment.parse(experiment), "VBPR", 10, 3, **options)
    return pd.read_csv(layout.metric(metric, run), sep="\t")


def row(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_chr_of_every_class_and_k(layout):
    assert evaluate(layout, "--metric", "chr", "--list_of_k", "1", "3") == 0
    table = read(layout, "chr", "original")
    assert list(table) == [
        "experiment", "classId", "className", "k", "position", "score", "score_normalised",
        "items", "ci_low", "ci_high",
    ]  # fmt: skip
    assert len(table) == 3 * 2
    assert row(table, classId=7, k=1)["score"] == 0.5
    assert row(table, classId=8, k=1)["score"] == 0.25
    at_3 = row(table, classId=7, k=3)
    assert at_3["score"] == 1.0 and at_3["position"] == 2
    assert at_3["score_normalised"] == pytest.approx(1 / 3)
    assert at_3["className"] == "label 7" and at_3["items"] == 2
    assert 0 <= at_3["ci_low"] < 1 < at_3["ci_high"] <= 2
    assert row(table, classId=8, k=3)["score"] == 5 / 4
    assert table[table["k"] == 3]["score"].sum() == 3
    assert table[table["k"] == 3]["position"].tolist() == [1, 2, 3]


def test_attacked_run_is_tested_against_the_clean_one(layout):
    assert evaluate(layout, "--metric", "chr", "--list_of_k", "1", "3") == 0
    origin = row(read(layout, "chr", ATTACK), classId=7, k=3)
    assert origin["score"] == 2 and origin["score_before"] == 1 and origin["change"] == 1
    expected = stats.ttest_rel(HITS_AFTER, HITS_BEFORE).pvalue
    assert origin["p_within_run_t"] == pytest.approx(expected)
    expected = stats.wilcoxon(HITS_AFTER, HITS_BEFORE, method="asymptotic").pvalue
    assert origin["p_within_run_wilcoxon"] == pytest.approx(expected)


def test_ncdcg_and_its_tests(layout):
    assert evaluate(layout, "--list_of_k", "3") == 0  # the default metric
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    ideal = 1 + second
    before = np.array([1, third, 0, 1 + second]) / ideal
    after = np.array([1 + second, 1 + second, 1 + third, 1 + second]) / ideal
    origin = row(read(layout, "ncdcg", ATTACK), classId=7)
    assert origin["score_before"] == pytest.approx(before.mean())
    assert origin["score"] == pytest.approx(after.mean())
    assert origin["p_within_run_t"] == pytest.approx(stats.ttest_rel(after, before).pvalue)
    expected = stats.wilcoxon(after, before, method="asymptotic").pvalue
    assert origin["p_within_run_wilcoxon"] == pytest.approx(expected)
    assert row(read(layout, "ncdcg", "original"), classId=7)["score"] == pytest.approx(
        before.mean()
    )


def test_the_summary_says_what_stage_2b_says(layout):
    assert evaluate(layout, "--metric", "all", "--list_of_k", "1", "3") == 0
    runs = [Run(Experiment.parse(name), "VBPR", 10, 3) for name in ("original", ATTACK)]
    summary = summarise(comparisons_of([layout], [runs], [1, 3])).set_index(["metric", "k"])
    measured = {}
    for metric in ("chr", "ncdcg"):
        table = read(layout, metric, ATTACK)
        for _, of in table[table["classId"] == 7].iterrows():
            measured[metric, of["k"]] = of["score_before"], of["score"]
    accuracy = read(layout, "accuracy", ATTACK)
    for _, of in accuracy[accuracy["k"].notna()].iterrows():
        measured[of["metric"], int(of["k"])] = of["before"], of["score"]
    assert len(measured) == 8
    for key, values in measured.items():
        assert summary.loc[key, ["before", "after"]].tolist() == pytest.approx(values)


def test_equal_lists_change_by_exactly_nothing(layout):
    lists = np.random.default_rng(0).permuted(np.tile(np.arange(6), (50, 1)), axis=1)[:, :3]
    for experiment in ("original", ATTACK):
        write_run(layout, Run(Experiment.parse(experiment), "VBPR", 10, 3), lists)
    assert evaluate(layout, "--metric", "ncdcg", "--list_of_k", "1", "2", "3") == 0
    table = read(layout, "ncdcg", ATTACK)
    assert (table["change"] == 0).all()
    attack = Experiment.parse(ATTACK)
    tested = table["classId"].isin([attack.origin, attack.target])
    for name in ("p_within_run_t", "p_within_run_wilcoxon"):
        assert (table.loc[tested, name] == 1).all() and table.loc[~tested, name].isna().all()
    assert 0 < tested.sum() < len(table)


def test_accuracy_of_the_held_out_items(layout):
    assert evaluate(layout, "--metric", "accuracy", "--list_of_k", "1", "3") == 0
    table = read(layout, "accuracy", ATTACK)
    assert table["metric"].tolist() == ["hr", "hr", "ndcg", "ndcg", "auc"]
    hit = row(table, metric="hr", k=3)
    assert hit["before"] == 0.75 and hit["score"] == 0.5 and hit["change"] == -0.25
    assert hit["p_within_run_t"] == pytest.approx(
        stats.ttest_rel([1, 0, 0, 1], [1, 1, 0, 1]).pvalue
    )
    gain = row(table, metric="ndcg", k=3)
    assert gain["score"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(4)) / 4)
    area = row(table, metric="auc")
    assert np.isnan(area["k"])
    assert area["score"] == pytest.approx(1 - (1 + 3 + 4 + 2) / 16)
    assert area["before"] == pytest.approx(1 - (0 + 1 + 4 + 2) / 16)


def test_accuracy_of_lists_without_ranks(layout):
    clean = Run(Experiment(), "VBPR", 10, 3)
    layout.test_ranks(clean).unlink()
    held_out = read_held_out(layout, clean)
    assert held_out.ranks.tolist() == [0, 1, NOT_LISTED, 2] and held_out.negatives is None
    assert evaluate(layout, "--metric", "accuracy", "--list_of_k", "1", "3") == 0
    table = read(layout, "accuracy", "original")
    assert table["metric"].tolist() == ["hr", "hr", "ndcg", "ndcg"]
    assert table["score"].tolist()[:2] == [0.25, 0.75]
    attacked = read(layout, "accuracy", ATTACK)  # AUC is known after the attack only
    assert row(attacked, metric="auc").isna()[["before", "change", "p_within_run_t"]].all()
    assert row(attacked, metric="hr", k=3)["before"] == 0.75


def test_bias_of_a_clean_run(layout):
    arguments = ("--metric", "bias", "--list_of_k", "1", "3", "--experiment_name", "original")
    assert evaluate(layout, *arguments) == 0
    table = read(layout, "bias", "original")
    assert list(table) == ["metric", "k", "score", "ci_low", "ci_high"]
    assert table["metric"].tolist() == [
        name for name in ("arp", "aplt", "coverage", "gini") for _ in range(2)
    ]
    assert table["k"].tolist() == [1, 3] * 4
    popular = row(table, metric="arp", k=3)
    assert popular["score"] == pytest.approx(POPULARITY[CLEAN].sum() / 12)
    assert 0 < popular["ci_low"] < popular["score"] < popular["ci_high"] <= 5 / 3
    assert row(table, metric="aplt", k=3)["score"] == pytest.approx((3 + 2 + 2 + 1) / 12)
    assert row(table, metric="aplt", k=1)["score"] == 1  # 0, 2, 4 and 0 come first
    assert row(table, metric="coverage", k=1)["score"] == 3 / 6
    assert row(table, metric="coverage", k=3)["score"] == 1
    assert row(table, metric="gini", k=1)["score"] == pytest.approx((1 + 3 + 2 * 5) / (6 * 4))
    assert table[table["metric"].isin(["coverage", "gini"])][["ci_low", "ci_high"]].isna().all(None)


def test_bias_of_an_attacked_run_is_tested_against_the_clean_one(layout, capsys):
    assert evaluate(layout, "--metric", "bias", "--list_of_k", "1", "3") == 0
    table = read(layout, "bias", ATTACK)
    for metric, of_item in (("arp", POPULARITY), ("aplt", np.isin(np.arange(6), TAIL))):
        before, after = of_item[CLEAN].mean(axis=1), of_item[ATTACKED].mean(axis=1)
        found = row(table, metric=metric, k=3)
        assert found["before"] == pytest.approx(before.mean())
        assert found["score"] == pytest.approx(after.mean())
        assert found["change"] == pytest.approx(after.mean() - before.mean())
        assert found["p_within_run_t"] == pytest.approx(stats.ttest_rel(after, before).pvalue)
        expected = stats.wilcoxon(after, before, method="asymptotic").pvalue
        assert found["p_within_run_wilcoxon"] == pytest.approx(expected)
    covered = row(table, metric="coverage", k=1)
    assert covered["before"] == 3 / 6 and covered["score"] == pytest.approx(1 / 6)
    assert covered["change"] == pytest.approx(-2 / 6)
    uneven = row(table, metric="gini", k=1)
    assert uneven["score"] == pytest.approx(1 - 1 / 6) and uneven["before"] < uneven["score"]
    assert uneven[["ci_low", "ci_high", "p_within_run_t", "p_within_run_wilcoxon"]].isna().all()
    shown = capsys.readouterr().out
    assert "bias, K = 3" in shown and "gini" in shown


def test_a_data_set_without_images(without_images, capsys):
    layout = without_images
    assert evaluate(layout, "--metric", "all", "--list_of_k", "1", "3") == 0
    shown = capsys.readouterr().out
    assert shown.count("no CHR and nCDCG: they need") == 1
    runs = {"original_top3_ep0_Pop", "original_top3_ep100_BPRMF"}
    for metric in ("accuracy", "bias"):
        assert {path.stem for path in (layout.root / metric / "films").glob("*.tsv")} == runs
    assert not (layout.root / "chr").exists() and not (layout.root / "ncdcg").exists()
    table = pd.read_csv(layout.metric("bias", Run(Experiment(), "BPRMF", 100, 3)), sep="\t")
    assert row(table, metric="coverage", k=1)["score"] == 3 / 6


@pytest.mark.parametrize("what", ["item_ids.tsv", "images"])
def test_items_that_nobody_interacted_with_count(without_images, what):
    layout = without_images
    if what == "images":
        layout.images.mkdir(parents=True)
        for item in range(8):
            (layout.images / f"{item}.jpg").touch()
    else:
        layout.item_map.write_text("id\toriginal\n" + "".join(f"{i}\tfilm {i}\n" for i in range(8)))
    assert evaluate(layout, "--metric", "bias", "--list_of_k", "3") == 0
    table = pd.read_csv(layout.metric("bias", Run(Experiment(), "BPRMF", 100, 3)), sep="\t")
    assert row(table, metric="coverage")["score"] == 6 / 8


@pytest.mark.parametrize("metric", ["chr", "ncdcg"])
def test_categories_need_classes(without_images, capsys, metric):
    assert evaluate(without_images, "--metric", metric) == 2
    error = capsys.readouterr().err
    assert f"{metric} needs {without_images.classes(Experiment())}" in error
    assert "classify_extract.py" in error and error.count("\n") == 1
    assert not (without_images.root / metric).exists()


@pytest.mark.skipif(not MOVIELENS.is_dir(), reason="needs movielens-500")
def test_bias_of_the_most_popular_films_against_pandas(tmp_path):
    layout = Layout("movielens-500", tmp_path)
    layout.data.parent.mkdir()
    layout.data.symlink_to(MOVIELENS)
    train = pd.read_csv(layout.training_set, sep="\t", header=None, usecols=[0, 1])
    popularity = train[1].value_counts().reindex(range(3172), fill_value=0)
    unseen = np.tile(popularity.to_numpy(np.float64), (500, 1))
    unseen[train[0], train[1]] = -1
    run = Run(Experiment(), "Pop", 0, 20)
    write_run(layout, run, np.argsort(-unseen, axis=1, kind="stable")[:, :20])
    assert evaluate(layout, "--metric", "bias", "--topk", "20") == 0

    lists = pd.read_csv(layout.recommendations(run), sep="\t", names=["user", "item", "score"])
    ranked = popularity.sort_values(ascending=False, kind="stable")
    head = ranked[ranked.cumsum().shift(fill_value=0) < 0.8 * len(train)].index
    shows = lists["item"].value_counts().reindex(range(3172), fill_value=0).sort_values()
    lorenz = np.append(0, shows.cumsum() / shows.sum())
    table = pd.read_csv(layout.metric("bias", run), sep="\t")
    expected = {
        "arp": lists["item"].map(popularity).mean(),
        "aplt": (~lists["item"].isin(head)).mean(),
        "coverage": lists["item"].nunique() / 3172,
        "gini": 1 - 2 * np.trapezoid(lorenz, dx=1 / 3172),
    }
    for metric, value in expected.items():
        assert row(table, metric=metric, k=20)["score"] == pytest.approx(value)


def test_all_runs_of_a_named_experiment_and_no_other(layout):
    seed, frozen = {"seed": 1}, {"protocol": "test_time"}
    attack = Experiment.parse(ATTACK)
    for options in (seed, frozen):
        write_run(layout, Run(attack, "VBPR", 10, 3, **options), ATTACKED, RANKS_AFTER)
    assert evaluate(layout, "--metric", "chr", "--experiment_name", ATTACK) == 0
    assert {path.stem for path in (layout.root / "chr" / "toy").glob("*.tsv")} == {
        f"{ATTACK}_top3_ep10_VBPR",
        f"{ATTACK}_top3_ep10_VBPR_seed1",
        f"{ATTACK}_top3_ep10_VBPR_testtime",
    }
    # Seed 1 has no clean run to be compared with; the test-time run has that of seed 0.
    assert "change" not in read(layout, "chr", ATTACK, **seed)
    assert row(read(layout, "chr", ATTACK, **frozen), classId=7, k=1)["change"] == 0.5


def test_second_time_is_skipped_unless_something_changed(layout, capsys):
    arguments = ("--metric", "all", "--experiment_name", "original")
    assert evaluate(layout, *arguments) == 0
    first = capsys.readouterr().out
    assert first.count("written:") == 4
    assert evaluate(layout, *arguments) == 0
    second = capsys.readouterr().out
    assert second.count("is up to date") == 4 and "written:" not in second
    assert [line for line in first.splitlines() if line.startswith("hr")] == [
        line for line in second.splitlines() if line.startswith("hr")
    ]
    write_run(layout, Run(Experiment(), "VBPR", 10, 3), ATTACKED, RANKS_BEFORE)
    assert evaluate(layout, *arguments) == 0
    third = capsys.readouterr().out
    assert (
        third.count("written:") == 3 and third.count("is up to date") == 1
    )  # the ranks are the same


def test_published_command_line(layout, capsys):
    assert (
        evaluate(
            layout, "--metric", "chr", "--experiment_name", "original",
            "--", "origin", "9", "--analyzed_k", "2",
        )
        == 0
    )  # fmt: skip
    assert read(layout, "chr", "original")["k"].unique().tolist() == [2]
    shown = capsys.readouterr().out.splitlines()
    first_row = shown[next(i for i, line in enumerate(shown) if line.startswith("---")) + 1]
    assert "label 9" in first_row


def test_default_ks_end_at_the_length_of_the_lists(layout):
    assert evaluate(layout, "--metric", "chr", "--experiment_name", "original") == 0
    assert read(layout, "chr", "original")["k"].unique().tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--analyzed_k", "4"], "K = 4 is not within the lists: it must be 1 to 3"),
        (["--list_of_k", "0", "2"], "K = 0 is not within the lists"),
        (["--experiment_name", "madry_original"], "no top-3 lists of madry_original"),
        (["--experiment_name", "nonsense"], "'nonsense' is not an experiment name"),
        (["--model", "AMR"], "no top-3 lists by AMR"),
        (["--origin", "834"], "no image is classified as class 834; classes: 7, 8, 9"),
        (["--dataset", "absent"], "no data set at"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(layout, capsys, arguments, message):
    assert evaluate(layout, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (layout.root / "ncdcg").exists()


def test_an_item_beyond_the_catalogue(layout, capsys):
    items = CLEAN.copy()
    items[2, 1] = 6
    write_run(layout, Run(Experiment(), "VBPR", 10, 3), items)
    assert evaluate(layout, "--metric", "chr") == 2
    assert "user 2 is recommended item 6, but the catalogue ends at 5" in capsys.readouterr().err


def test_unlike_users_are_not_compared(layout, capsys):
    write_run(layout, Run(Experiment(), "VBPR", 10, 3), CLEAN[:3], RANKS_BEFORE[:3])
    assert evaluate(layout, "--metric", "chr", "--experiment_name", ATTACK) == 2
    assert "hold different users" in capsys.readouterr().err


def test_without_clean_lists_it_says_that_there_are_no_changes(layout, capsys):
    missing = layout.recommendations(Run(Experiment(), "VBPR", 10, 3))
    missing.unlink()
    assert evaluate(layout, "--metric", "chr", "--list_of_k", 3, "--experiment_name", ATTACK) == 0
    assert f"note: no changes, since the clean run's lists are not there: {missing}" in (
        capsys.readouterr().err
    )
    assert "change" not in read(layout, "chr", ATTACK)


def test_users_without_a_list_are_not_counted(layout):
    padded = np.array([[0, 2, 4], [-1, -1, -1], [4, 5, -1]])
    write_run(layout, Run(Experiment(), "VBPR", 10, 3), padded)
    assert evaluate(
        layout, "--metric", "chr", "--list_of_k", "3", "--experiment_name", "original"
    ) == 0  # fmt: skip
    table = read(layout, "chr", "original")
    assert row(table, classId=9)["score"] == 1.5 and row(table, classId=7)["score"] == 0.5


def test_pairs_join_the_least_with_the_most_recommended_large_classes():
    table = pd.DataFrame(
        {
            "classId": [5, 3, 8, 1, 2, 5],
            "k": [20] * 5 + [10],
            "position": [1, 2, 3, 4, 5, 1],
            "items": [10, 50, 2, 40, 30, 10],
        }
    )
    assert suggest_pairs(table, 20, min_items=10) == [(2, 5), (1, 3)]
    assert suggest_pairs(table, 20, min_items=40) == [(1, 3)]
    assert suggest_pairs(table, 20, min_items=1000) == []
    named = few_items(table.assign(className=list("abcdea")), 1000)
    assert named.endswith(
        "(--min_items); the largest: 3 b (50), 1 d (40), 2 e (30), 5 a (10), 8 c (2)"
    )


def test_command_of_a_defended_extractor_names_its_model(tmp_path):
    command = attack_command(Layout("toy", tmp_path), Experiment("madry"), 774, 770)
    assert "--origin_class 774 --target_class 770 --defence 1 --model_dir madry" in command


def test_suggested_commands_have_the_options_of_stage_1_and_stand_there_once(layout, capsys):
    given = "--defense 0 --model_file 'my nets/a.pt' --gpu -1"
    record = {"options": {}, "inputs": {}, "outputs": {}}
    record["command"] = f"python -u classify_extract.py --dataset other --root x {given} --force"
    record_path(layout.classes(Experiment())).write_text(json.dumps(record))
    assert evaluate(layout, "--metric", "all", "--k", "3", "--min_items", "1") == 0
    commands = [line for line in capsys.readouterr().out.splitlines() if "attack_type" in line]
    pairs = [command.partition(" --attack_type pgd ")[2] for command in commands]
    assert pairs and len(set(pairs)) == len(pairs)
    for command, pair in zip(commands, pairs, strict=True):
        assert command.startswith("  python classify_extract_attack.py --dataset")
        assert pair.partition(" # label ")[0].endswith(f" {given}")
        assert "--force" not in command and "other" not in command


def test_tables_align_text_left_and_numbers_right():
    assert format_table(["name", "n"], [["a", 1], ["bcdef", 12.34567], ["", float("nan")]]) == (
        "name       n\n-----  -----\na          1\nbcdef  12.35\n"
    )


def test_what_rounding_leaves_of_zero_is_printed_as_zero():
    for value in (-5.551e-17, 1.42e-14, 0.0, -0.0):
        assert format_number(value) == "0" and number(value) == "0"
    assert format_number(-1.5e-9) == "-1.5e-09" and number(-1.5e-9) == "−1.5e−9"


def test_a_pair_from_popular_to_unpopular_is_warned_of(layout, capsys):
    # In the top 3 of clean lists there are 1.0 items of class 7, 1.25 of class 8 and .75 of class 9.
    upwards = Experiment.parse(ATTACK.replace("_7_9_", "_7_8_"))
    downwards, untargeted = Experiment.parse(ATTACK), Experiment.parse("pgd_7_any_eps8.0")
    assert downwards.origin == 7 and downwards.target == 9
    assert reversed_pair(layout, downwards) == ""  # no CHR of clean lists is there yet
    assert evaluate(layout, "--metric", "chr", "--list_of_k", "1", "3") == 0
    errors = capsys.readouterr().err
    assert errors.count("warning") == errors.count("\n") == 1
    assert "the origin class 7 is recommended more than the target 9 (CHR@3 1 and 0.75" in errors
    assert reversed_pair(layout, downwards) == errors.strip()
    assert reversed_pair(layout, upwards) == reversed_pair(layout, untargeted) == ""
