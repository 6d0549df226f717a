import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from src.artifacts.classes import Classes, write_attacked_classes, write_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, fingerprint, record_path
from src.measures.changes import changes_of
from src.measures.measures import category_values
from src.measures.summary import COLUMNS
from src.measures.verdicts import verdict_text
from src.metrics.effects import verdict
from tests.scripts import run_script
from tests.small_shops import write_run

N_ITEMS, N_USERS, TOP = 12, 8, 4
NUMBERS = np.repeat([7, 8, 9], 4)
PGD = "pgd_7_9_eps8.0_eps_it8.0_nb_it10_linf"
FGSM_2 = "fgsm_7_9_eps8.0_it1_l2_XX"
CW = "cw_7_9_conf0_lr0.005_c0.01_max_it1000"
NOISE = "noise_7_any_eps8.0_linf"


def run_of(experiment, seed=0, protocol="retrained", model="VBPR", **options):
    return Run(Experiment.parse(experiment), model, 10, TOP, seed, protocol, **options)


def write_lists(layout, run, hits, ranks=None):
    """Write lists in which user u gets ``hits[u]`` items of class 7 first, then items of class 8."""
    items = np.array([[*range(n), *range(4, 8 - n)] for n in hits])
    write_run(layout, run, items, hits if ranks is None else ranks)


def lists_with_mean(total):
    """Return hits of the users with the sum ``total``, distributed in turn."""
    return np.bincount(np.arange(total) % N_USERS, minlength=N_USERS)


def write_images(layout, experiment):
    clean = layout.classes(experiment.clean)
    clean.parent.mkdir(parents=True, exist_ok=True)
    predictions = Classes(
        np.arange(N_ITEMS), NUMBERS, [f"label {n}" for n in NUMBERS], np.ones(N_ITEMS)
    )
    write_classes(clean, predictions)
    write_features(layout.features(experiment.clean), np.zeros((N_ITEMS, 2)))
    if experiment.attack:
        layout.experiment(experiment).mkdir(exist_ok=True)
        ids = np.arange(4)
        attacked = Classes(ids, np.array([9, 9, 9, 8]), ["label"] * 4, np.ones(4))
        write_attacked_classes(layout.classes(experiment), attacked, predictions.rows(ids))
        features = np.zeros((N_ITEMS, 2))
        features[:4] = [[2, 0], [0, 2], [0, 0], [0, 0]]
        features[5] = 100  # of no attacked image
        write_features(layout.features(experiment), features)


@pytest.fixture
def layout(tmp_path):
    layout = Layout("toy", tmp_path)
    write_images(layout, Experiment.parse(PGD))
    return layout


def summarise(layout, *arguments):
    """Run summarize.py; return (exit code, the written table or None)."""
    common = ("--dataset", "toy", "--root", layout.root, "--list_of_k", 2, 4)
    code = run_script("summarize", *common, *arguments)
    return code, pd.read_csv(layout.summary, sep="\t") if layout.summary.is_file() else None


def row(table, metric="chr", k=4.0, **where):
    table = table[(table["metric"] == metric) & (table["k"].fillna(0) == (k or 0))]
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize("protocol", ["retrained", "test_time"])
def test_seeds_are_compared_with_seeds_and_noise_is_taken_off(layout, protocol):
    before, after, noise = [8, 10, 9], [16, 17, 19], [9, 11, 9]
    write_images(layout, Experiment.parse(NOISE))
    for seed in range(3):
        write_lists(layout, run_of("original", seed), lists_with_mean(before[seed]))
        write_lists(layout, run_of(PGD, seed, protocol), lists_with_mean(after[seed]))
        write_lists(layout, run_of(NOISE, seed, protocol), lists_with_mean(noise[seed]))
    write_lists(layout, run_of("original", 3), lists_with_mean(30))  # of no attack
    code, table = summarise(layout)
    assert code == 0
    assert tuple(table) == COLUMNS
    assert len(table) == 2 * (5 * 2 + 1)
    found = row(table, attack=PGD)
    assert found["extractor"] == "original"
    assert found["protocol"] == protocol and found["recommender"] == "VBPR"
    assert found["before"] == pytest.approx(np.mean(before) / N_USERS)
    assert found["after"] == pytest.approx(np.mean(after) / N_USERS, rel=1e-5)
    assert found["change"] == pytest.approx((np.mean(after) - np.mean(before)) / N_USERS, rel=1e-5)
    assert found["effect"] == found["change"]
    assert found["p_value"] == pytest.approx(stats.ttest_rel(after, before).pvalue, rel=1e-5)
    assert found["noise_effect"] == pytest.approx((1 + 1 + 0) / 3 / N_USERS, rel=1e-5)
    assert found["net_effect"] == pytest.approx((7 + 6 + 10) / 3 / N_USERS, rel=1e-5)
    assert found["net_low"] < found["net_effect"] < found["net_high"]
    assert found["margin"] == pytest.approx(0.1 * found["before"], rel=1e-5)
    assert found["verdict"] == "effect" and found["p_holm"] < 0.05
    assert found["weakest_level"] == "1 extractor training"
    assert (found["extractor_seeds"], found["recommender_seeds"], found["seeds"]) == (1, 3, 3)
    assert found["success_rate"] == 75
    assert found["feature_loss"] == pytest.approx((2 + 2) / 4)
    normalised = row(table, "chr_normalised", attack=PGD)
    assert normalised["before"] == pytest.approx(found["before"] / 4, rel=1e-5)
    control = row(table, attack=NOISE)
    assert control["change"] == found["noise_effect"]
    assert control[["net_effect", "verdict"]].isna().all()


def test_the_interval_of_seeds_alone_is_students(layout):
    """All users of a seed have equal changes, so that only the seeds differ."""
    for seed, hits in enumerate([2, 1, 3]):
        write_lists(layout, run_of("original", seed), np.zeros(N_USERS, int))
        write_lists(layout, run_of(PGD, seed), np.full(N_USERS, hits))
    found = row(summarise(layout)[1])
    low, high = stats.ttest_1samp([2, 1, 3], 0).confidence_interval(0.95)
    assert [found["low"], found["high"]] == pytest.approx([low, high], rel=1e-5)
    assert found["sd_recommender"] == 1 and found["sd_user"] == 0


def test_one_run_has_no_interval_and_its_users_only_agree(layout):
    clean, attacked = np.array([1, 0, 0, 1, 2, 0, 0, 1]), np.array([2, 2, 0, 1, 3, 1, 0, 2])
    write_lists(layout, run_of("original"), clean)
    write_lists(layout, run_of(PGD, protocol="test_time"), attacked)
    found = row(summarise(layout)[1])
    assert found["change"] == 0.75 and found["seeds"] == 1
    assert found[["p_value", "low", "high", "net_effect", "p_holm"]].isna().all()
    assert (found["verdict"], found["weakest_level"]) == ("undecided", "no noise control")
    expected = stats.ttest_rel(attacked, clean).pvalue
    assert found["p_within_run"] == pytest.approx(expected, rel=1e-5)


def test_noise_counts_with_the_seeds_of_the_attack(layout):
    """Only seeds with both are compared, since another seed changes the lists too."""
    write_images(layout, Experiment.parse(NOISE))
    for seed, total in enumerate([8, 16, 8]):
        write_lists(layout, run_of("original", seed), lists_with_mean(total))
    for seed, total in enumerate([16, 24]):
        write_lists(layout, run_of(PGD, seed), lists_with_mean(total))
    for seed, total in ((1, 17), (2, 9)):
        write_lists(layout, run_of(NOISE, seed), lists_with_mean(total))
    found = row(summarise(layout)[1], attack=PGD)
    assert found["noise_effect"] == 1 / N_USERS and found["net_effect"] == 7 / N_USERS
    assert (found["seeds"], found["recommender_seeds"]) == (2, 1)


def other_trainings(layout, totals, *, seed_of=lambda training: training):
    """Write data sets toy, toy_1, ... of ``totals`` (trainings, 3): before, after and under noise."""
    names = ["toy", *(f"toy_{n}" for n in range(1, len(totals)))]
    for training, (name, of_training) in enumerate(zip(names, totals, strict=True)):
        place = Layout(name, layout.root)
        for experiment in (PGD, NOISE):
            write_images(place, Experiment.parse(experiment))
        checkpoint = layout.root / "models" / "plain" / f"{name}.pt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_bytes(bytes([training]))
        Manifest.of("train_extractor", {"seed": seed_of(training)}, []).write([checkpoint])
        options = {"arch": "tiny", "weights": fingerprint(checkpoint), "resize": 0}
        Manifest.of("classify_extract", options, []).write([place.classes(Experiment())])
        for experiment, total in zip(("original", PGD, NOISE), of_training, strict=True):
            for seed in (0, 1):
                protocol = "retrained" if experiment == "original" else "test_time"
                run = run_of(experiment, seed, protocol)
                write_lists(place, run, lists_with_mean(total + seed))
    return names[1:]


def test_a_verdict_on_one_training_names_the_level_it_does_not_cover(layout, capsys):
    other_trainings(layout, [(8, 16, 8)])
    _, table = summarise(layout)
    found = row(table, attack=PGD)
    assert (found["verdict"], found["weakest_level"]) == ("effect", "1 extractor training")
    assert verdict_text(found) == "effect (1 extractor training)"
    said = capsys.readouterr().out
    assert "comparisons tested: 1 (CHR@4" in said and "with 2 recommender seeds" in said
    assert "nothing here is about another training" in said


def test_trainings_decide(layout, capsys):
    others = other_trainings(layout, [(8, 16, 8), (9, 18, 9), (7, 15, 7), (8, 17, 8)])
    code, table = summarise(layout, "--trainings", *others)
    assert code == 0
    found = row(table, attack=PGD)
    assert found["extractor_seeds"] == 4 and found["recommender_seeds"] == 2
    assert found["weakest_level"] == "4 extractor trainings"
    net = np.array([8, 9, 8, 9]) / N_USERS
    assert found["net_effect"] == pytest.approx(net.mean(), rel=1e-5)
    assert found["net_low"] > found["margin"] and found["verdict"] == "effect"
    assert 0 < found["p_holm"] < 0.05
    assert row(table, attack=PGD, k=2.0)[["p_holm"]].isna().all()
    assert "comparisons tested: 1 (CHR@4" in capsys.readouterr().out
    runs = pd.read_csv(layout.runs_table, sep="\t")
    assert len(runs) == 4 * 3 * 2
    of = runs[(runs["dataset"] == "toy_2") & (runs["seed"] == 1)].set_index("attack")
    assert of["extractor_seed"].tolist() == [2, 2, 2] and of["origin"].tolist() == [7, 7, 7]
    assert of["chr@4"].to_dict() == {"original": 1, PGD: 2, NOISE: 1}


def crossed(layout, gain):
    """Write attacks and noise on 7 -> 9, 8 -> 9 and 9 -> 7, each with attack seeds 0 and 1.

    ``gain[origin, attack seed]`` is what the attack adds to the hits of each user, seed by seed.
    """
    base = np.ones(N_USERS, int)
    write_lists(layout, run_of("original"), base)
    write_lists(layout, run_of("original", 1), base)
    for (origin, target), attack_seed in itertools.product([(7, 9), (8, 9), (9, 7)], [0, 1]):
        end = f"_seed{attack_seed}" if attack_seed else ""
        for name in (
            f"pgd_{origin}_{target}_eps8.0_eps_it8.0_nb_it10_linf{end}",
            f"noise_{origin}_{target}_eps8.0_linf{end}",
        ):
            write_images(layout, Experiment.parse(name))
            added = gain[origin, attack_seed] if name.startswith("pgd") else 0
            for seed in (0, 1):
                run = run_of(name, seed, "test_time")
                hits = base + added if origin == 7 else base - added
                write_lists(layout, run, hits)


def test_pairs_of_classes_and_attack_seeds_are_crossed(layout, capsys):
    """Class 8 has the places of a list that class 7 has not, so that it loses what 7 gains."""
    crossed(layout, {(7, 0): 1, (7, 1): 2, (8, 0): -1, (8, 1): 0, (9, 0): 0, (9, 1): 0})
    pairs = ["--pairs", "7:9", "8:9", "--placebos", "9:7"]
    code, table = summarise(layout, *pairs)
    assert code == 0
    one = row(table, attack=PGD)
    assert (one["pairs"], one["attack_seeds"]) == (1, 2) and one["net_effect"] == 1.5
    assert one["sd_attack"] == pytest.approx(0.5**0.5, rel=1e-5) and np.isnan(one["sd_pair"])
    both = row(table, attack="pgd_eps8.0_eps_it8.0_nb_it10_linf")
    assert (both["pairs"], both["attack_seeds"]) == (2, 2)
    eight = row(table, attack=PGD.replace("_7_", "_8_"))["net_effect"]
    assert both["net_effect"] == pytest.approx((1.5 + eight) / 2)
    assert both["sd_pair"] == pytest.approx(abs(1.5 - eight) / 2**0.5, rel=1e-5)
    assert both["weakest_level"] == "1 extractor training"
    assert not np.isnan(both["p_holm"]) and np.isnan(one["p_holm"]), "the rows over pairs are tests"
    placebo = row(table, attack="pgd_9_7_eps8.0_eps_it8.0_nb_it10_linf")
    assert placebo["placebo"] == "reversed" and np.isnan(placebo["p_holm"])
    assert "comparisons tested: 1" in capsys.readouterr().out
    assert summarise(layout, "--pairs", "7:9", "--placebos", "7:9")[0] == 2


def test_trainings_that_disagree_leave_it_undecided(layout):
    others = other_trainings(layout, [(8, 16, 8), (9, 9, 9), (7, 8, 7)])
    _, table = summarise(layout, "--trainings", *others)
    assert row(table, attack=PGD)["verdict"] == "undecided"
    assert row(table, attack=PGD)["p_within_run"] < 0.001


def test_an_attack_that_does_what_noise_does_is_equivalent_to_it(layout):
    others = other_trainings(layout, [(8, 10, 10), (9, 10, 10), (7, 10, 10)])
    _, table = summarise(layout, "--trainings", *others)
    found = row(table, attack=PGD)
    assert found["effect"] > 0 and found["net_effect"] == 0 and found["verdict"] == "equivalent"


def test_one_training_does_not_count_twice(layout, capsys):
    (other,) = other_trainings(layout, [(8, 16, 8), (9, 18, 9)])
    record = record_path(layout.classes(Experiment()))
    copy = record_path(Layout(other, layout.root).classes(Experiment()))
    copy.write_text(record.read_text())
    assert summarise(layout, "--trainings", other)[0] == 2
    assert "are of one training" in capsys.readouterr().err
    assert summarise(layout, "--trainings", "toy")[0] == 2
    assert "named twice" in capsys.readouterr().err


def test_trainings_on_other_interactions_are_refused(layout, capsys):
    (other,) = other_trainings(layout, [(8, 16, 8), (9, 18, 9)])
    for name in ("toy", other):
        Layout(name, layout.root).training_set.write_text(f"{len(name)}\n")
    assert summarise(layout, "--trainings", other)[0] == 2
    assert "hold other interactions" in capsys.readouterr().err


def test_ncdcg_hr_ndcg_and_auc(layout):
    hits, ranks = np.array([2, 1, 0, 0, 0, 0, 0, 0]), np.array([0, 1, 3, 4, 4, 4, 4, 4])
    write_lists(layout, run_of("original"), hits, ranks)
    write_lists(layout, run_of(PGD, protocol="test_time"), hits, ranks)
    _, table = summarise(layout)
    second = 1 / math.log2(3)
    assert row(table, "ncdcg", 2)["before"] == pytest.approx((1 + 1 / (1 + second)) / 8, rel=1e-5)
    assert row(table, "hr", 2)["before"] == pytest.approx(2 / 8)
    assert row(table, "ndcg", 4)["before"] == pytest.approx(
        (1 + second + 1 / math.log2(5)) / 8, rel=1e-5
    )
    area = row(table, "auc", None)
    assert area["before"] == pytest.approx(1 - 24 / 80) and area["p_within_run"] == 1


@pytest.mark.parametrize(("attack", "controlled"), [(FGSM_2, False), (CW, False), (PGD, True)])
def test_noise_is_the_control_of_attacks_with_its_budget(layout, attack, controlled):
    write_images(layout, Experiment.parse(attack))
    write_images(layout, Experiment.parse(NOISE))
    write_lists(layout, run_of("original"), lists_with_mean(8))
    for experiment in (attack, NOISE):
        write_lists(layout, run_of(experiment, protocol="test_time"), lists_with_mean(9))
    found = row(summarise(layout)[1], attack=attack)
    assert np.isnan(found["net_effect"]) != controlled


LIKE_CW = "noise_7_9_like_cw_conf0_lr0.005_c0.01_max_it1000"


@pytest.mark.parametrize(("attack", "controlled"), [(CW, True), (f"{CW}_search9", False)])
def test_noise_like_an_attack_without_a_budget_is_its_control(layout, attack, controlled):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    for experiment in (attack, NOISE, LIKE_CW):
        write_images(layout, Experiment.parse(experiment))
        write_lists(layout, run_of(experiment, protocol="test_time"), lists_with_mean(9))
    found = row(summarise(layout)[1], attack=attack)
    assert np.isnan(found["net_effect"]) != controlled


def test_the_budget_is_that_of_the_manifest(layout):
    """An attack without a budget in its name finds its control by the record of stage 3."""
    attack, noise = "other_7_9_mild", "noise_7_9_eps200.0_l2"
    write_lists(layout, run_of("original"), lists_with_mean(8))
    for experiment in (attack, noise, NOISE):
        write_images(layout, Experiment.parse(experiment))
        write_lists(layout, run_of(experiment, protocol="test_time"), lists_with_mean(9))
    assert np.isnan(row(summarise(layout)[1], attack=attack)["noise_effect"])
    classes = layout.classes(Experiment.parse(attack))
    options = {"budget": {"eps": 200.0, "norm": "2"}}
    Manifest.of("classify_extract_attack", options, []).write([classes])
    found = row(summarise(layout, "--force")[1], attack=attack)
    assert found["noise_effect"] == pytest.approx(1 / N_USERS)


def test_rows_of_all_extractors_and_recommenders_in_a_stable_order(layout):
    madry = f"madry_{PGD}"
    write_images(layout, Experiment.parse(madry))
    for model in ("VBPR", "AMR"):
        for clean, attacked in (("madry_original", madry), ("original", PGD)):
            write_lists(layout, run_of(clean, model=model), lists_with_mean(8))
            for protocol in ("test_time", "retrained"):
                run = run_of(attacked, protocol=protocol, model=model)
                write_lists(layout, run, lists_with_mean(16))
    _, table = summarise(layout)
    keys = table[["extractor", "attack", "recommender", "protocol"]].drop_duplicates()
    assert keys.to_numpy().tolist() == [
        [extractor, PGD, model, protocol]
        for extractor in ("original", "madry")
        for model in ("AMR", "VBPR")
        for protocol in ("retrained", "test_time")
    ]
    assert not table.duplicated(list(COLUMNS[:6])).any()
    assert table["metric"].drop_duplicates().tolist() == [
        "chr", "chr_normalised", "ncdcg", "hr", "ndcg", "auc",
    ]  # fmt: skip
    assert table["k"].tolist()[:4] == [2, 4, 2, 4]


def test_without_classes_or_features_the_outcome_is_empty(layout):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    write_lists(layout, run_of(PGD), lists_with_mean(16))
    layout.features(Experiment.parse(PGD)).unlink()
    found = row(summarise(layout)[1])
    assert found["success_rate"] == 75 and np.isnan(found["feature_loss"])
    layout.classes(Experiment.parse(PGD)).unlink()
    assert np.isnan(row(summarise(layout)[1])["success_rate"])


def test_an_attacked_run_without_its_clean_one_is_named(layout, capsys):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    for seed in (0, 1):
        write_lists(layout, run_of(PGD, seed), lists_with_mean(16))
    code, table = summarise(layout)
    assert code == 0 and row(table)["seeds"] == 1
    assert f"left out {PGD}_top4_ep10_VBPR_seed1" in capsys.readouterr().out
    layout.recommendations(run_of("original")).unlink()
    assert summarise(layout)[0] == 2
    assert "has its clean run beside it" in capsys.readouterr().err


def test_attacks_on_random_items_alone_have_no_summary(layout, capsys):
    for name in ("original", "fgsm_random4_1_eps4.0_it1_linf_XX"):
        write_lists(layout, run_of(name), lists_with_mean(8))
    assert summarise(layout)[0] == 2
    assert "no attack is on the items of one class" in capsys.readouterr().err


def test_several_configurations_must_be_chosen_from(layout, capsys):
    for epochs in (10, 20):
        for experiment in ("original", PGD):
            run = Run(Experiment.parse(experiment), "VBPR", epochs, TOP)
            write_lists(layout, run, lists_with_mean(epochs))
    code, table = summarise(layout)
    assert code == 2 and table is None
    error = capsys.readouterr().err
    assert "10 epochs, top 4, corrected, published; 20 epochs, top 4, corrected, published" in error
    assert "--epochs" in error and error.count("\n") == 1
    assert row(summarise(layout, "--epoch", "20")[1])["before"] == 20 / N_USERS


def test_options_are_part_of_a_configuration(layout, capsys):
    for options, total in (("", 8), ("_K8_lr0.05", 9)):
        for experiment in ("original", PGD):
            write_lists(layout, run_of(experiment, options=options), lists_with_mean(total))
    assert summarise(layout)[0] == 2
    error = capsys.readouterr().err
    assert "10 epochs, top 4, corrected, K8_lr0.05; 10 epochs, top 4, corrected, published" in error
    assert "--options" in error
    for options, total in (("published", 8), ("K8_lr0.05", 9)):
        code, table = summarise(layout, "--options", options)
        assert code == 0 and row(table)["before"] == total / N_USERS
    assert summarise(layout, "--options", "K9")[0] == 2
    assert "no attacked run of that configuration has lists" in capsys.readouterr().err


def test_recommenders_that_were_not_attacked_are_left_out(layout):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    write_lists(layout, run_of(PGD), lists_with_mean(16))
    for epochs in (50, 100):
        write_lists(layout, Run(Experiment(), "BPRMF", epochs, TOP), lists_with_mean(8))
    write_lists(layout, Run(Experiment(), "Pop", 0, 2), lists_with_mean(8))
    code, table = summarise(layout)
    assert code == 0
    assert table["recommender"].unique().tolist() == ["VBPR"]
    assert table["k"].max() == 4  # the shorter lists of Pop do not matter


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--list_of_k", "5"], "K = 5 is not within the lists: it must be 1 to 4"),
        (["--topk", "50"], "no attacked run of that configuration has lists"),
    ],
)
def test_bad_options(layout, capsys, arguments, message):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    write_lists(layout, run_of(PGD), lists_with_mean(16))
    code, table = summarise(layout, *arguments)
    assert code == 2 and table is None
    assert message in capsys.readouterr().err


def test_no_lists_at_all(layout, capsys):
    assert summarise(layout)[0] == 2
    assert "run rec_generator.py first" in capsys.readouterr().err


def test_unlike_users_are_not_compared(layout, capsys):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    write_lists(layout, run_of(PGD), lists_with_mean(16)[:5])
    assert summarise(layout)[0] == 2
    assert "hold different users" in capsys.readouterr().err


def test_second_time_is_skipped(layout, capsys):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    write_lists(layout, run_of(PGD), lists_with_mean(16))
    summarise(layout)
    first = capsys.readouterr().out
    summarise(layout)
    second = capsys.readouterr().out
    assert "written:" in first and "is up to date" in second
    assert first.splitlines()[2:] == second.splitlines()[2:]


def test_extractors_have_a_table_of_their_own(layout):
    write_lists(layout, run_of("original"), lists_with_mean(8))
    write_lists(layout, run_of(PGD, protocol="test_time"), lists_with_mean(16))
    layout.images.mkdir(parents=True)
    for item in range(N_ITEMS):
        Image.new("RGB", (4, 4)).save(layout.images / f"{item}.png")
    score = {"ers": 60.0, "ers_low": None, "ers_high": None}
    record = {"benign": {"r1": 90.0}, "collapsed": False, "robustness": [score]}
    layout.results.mkdir(parents=True)
    layout.result("attack_ranking_original.json").write_text(json.dumps(record))
    assert summarise(layout, "--extractors", "original")[0] == 0
    table = pd.read_csv(layout.result("robust_extractors.tsv"), sep="\t")
    assert table[
        ["extractor", "k", "ers", "items", "chr_before", "chr_change"]
    ].values.tolist() == [["original", 2, 60.0, 4, 1.0, 1.0]]
    code, _ = summarise(layout, "--extractors", "madry")
    assert code == 2


def test_auc_is_compared_only_where_all_runs_know_it():
    values = {("hr", 20): np.ones(3), ("auc", None): np.ones(3)}
    lists_only = {("hr", 20): np.zeros(3)}
    assert set(changes_of([[(values, lists_only)]])) == {("hr", 20)}


def test_noise_against_other_noise_is_rarely_an_effect_on_one_training():
    """Linear scores; noise moves features by a fifth of what tells items apart."""
    rng = np.random.default_rng(0)
    attacked, k, said = np.arange(200) < 20, 20, []
    for _ in range(100):
        clean, taste = np.abs(rng.standard_normal((200, 32))), rng.standard_normal((150, 32))
        noisy = [clean + 0.2 * attacked[:, None] * rng.standard_normal((200, 32)) for _ in range(2)]
        runs = []
        for _ in range(3):
            users = taste + 0.7 * rng.standard_normal((150, 32)) + 0.3 * rng.standard_normal(32)
            lists = [np.argsort(-users @ of.T, axis=1)[:, :k] for of in noisy]
            runs.append(tuple(category_values(of, attacked, [k]) for of in lists))
        change = changes_of([runs])["chr", k]
        said.append(verdict(change.low, change.high, 0.1 * change.before))
    assert said.count("effect") <= 10
