"""Runs of rec_generator.py: both models, both protocols, resumption, and bad input."""

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evaluate_rec
import summarize
from src.artifacts.classes import Classes, write_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record, record_path
from src.artifacts.tables import read_pairs, read_test_ranks, read_top_k, write_pairs
from src.cli import add_fidelity_option
from src.datasets.interactions import Interactions
from src.measures.runs import list_runs
from src.recommenders import fitting
from src.recommenders.command import add_recommender_options, run_of, training_command
from src.recommenders.models import plain_run
from src.recommenders.registry import RECOMMENDERS
from tests.folders import contents
from tests.scripts import run_script
from tests.small_shops import write_data

ROOT = Path(__file__).parents[2]
N_USERS, N_ITEMS, N_FEATURES = 24, 16, 8
ATTACKED = "pgd_1_2_eps4.0_eps_it4.0_nb_it10_linf"
SHORT = ["--epoch", "6", "--emb1_K", "4", "--batch_size", "16", "--lr", "0.05", "--topk", "5"]
NAMED = "_K4_batch16_lr0.05"
"""Options of SHORT in names of VBPR and AMR."""
MF_NAMED = "_K4_batch16"
"""Options of SHORT in names of BPRMF and AMF, whose published learning rate is that of SHORT."""


@pytest.fixture
def layout(tmp_path) -> Layout:
    """Data set of a few users with clean and attacked features only."""
    rng = np.random.default_rng(0)
    layout = Layout("tiny", tmp_path)
    has = rng.random((N_USERS, N_ITEMS)) < 0.3
    has[:, 0], has[:, 1] = True, False
    test = np.stack([np.arange(N_USERS), np.where(has[:, 2], 1, 2)], 1)
    features = rng.random((N_ITEMS, N_FEATURES)).astype(np.float32)
    of = {"original": features, ATTACKED: features + np.eye(*features.shape)}
    return write_data(layout, np.argwhere(has), test, features=of)


@pytest.fixture
def generate(layout):
    """Run the script on the data set with few epochs; return its exit code."""

    def call(*arguments: str) -> int:
        short = SHORT[-2:] if "Pop" in arguments else SHORT  # baselines have no training
        common = ("--dataset", "tiny", "--root", layout.root, *short)
        return run_script("rec_generator", *common, *arguments)

    return call


def files(folder: Path) -> dict[str, bytes]:
    """Return all artifacts below a folder without the records, which contain the command."""
    return contents(folder, without=("manifest.json",))


def results(layout: Layout) -> dict[str, bytes]:
    return files(layout.root / "rec_model_weights") | files(layout.root / "rec_results")


def the_error(capsys) -> str:
    """Return the only error line on stderr, without progress bars."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]


def test_both_models_many_seeds_and_experiments_in_one_go(layout, generate, capsys):
    arguments = [
        "--model",
        "AMR",
        "VBPR",
        "--seed",
        "0",
        "1",
        "--experiment_name",
        "original",
        ATTACKED,
    ]
    assert generate(*arguments) == 0
    lists = {path.stem for path in layout.recommendations_dir.glob("*.tsv")}
    assert lists == {
        f"{experiment}_top5_ep6_{model}{NAMED}{seed}"
        for experiment in ("original", ATTACKED)
        for model in ("VBPR", "AMR")
        for seed in ("", "_seed1")
    }
    weights = {path.stem for path in (layout.root / "rec_model_weights/tiny").glob("*.npz")}
    assert weights == {
        f"{experiment}_step{of}{NAMED}{seed}"
        for experiment in ("original", ATTACKED)
        for of in ("3_VBPR", "6_VBPR", "6_AMR")
        for seed in ("", "_seed1")
    }
    output = capsys.readouterr().out
    assert output.count("AUC") == 8 and f"original_top5_ep6_VBPR{NAMED}.tsv: HR@20" in output

    train = read_pairs(layout.training_set)
    for name in lists:
        top_k = read_top_k(layout.recommendations(Run.parse(name)))
        ranks = read_test_ranks(layout.test_ranks(Run.parse(name)))
        assert top_k.items.shape == (N_USERS, 5)
        assert (np.diff(top_k.scores, axis=1) <= 0).all()
        for user, item in train:
            assert item not in top_k.items[user]
        np.testing.assert_array_equal(ranks.users, np.arange(N_USERS))
        in_list = (top_k.items == ranks.items[:, None]).argmax(1)[ranks.ranks < 5]
        np.testing.assert_array_equal(in_list, ranks.ranks[ranks.ranks < 5])


def test_an_up_to_date_run_is_skipped_and_force_redoes_the_same_bytes(layout, generate, capsys):
    assert generate() == 0
    before = results(layout)
    capsys.readouterr()
    assert generate() == 0
    assert (
        f"original_top5_ep6_VBPR{NAMED} is up to date (use --force to redo)"
        in capsys.readouterr().out
    )
    assert generate("--force") == 0
    assert results(layout) == before


def test_paper_fidelity_has_its_own_names_and_results(layout, generate):
    assert generate() == 0
    assert generate("--fidelity", "paper") == 0
    artifacts = results(layout)
    assert (
        artifacts[f"tiny/original_top5_ep6_VBPR{NAMED}.tsv"]
        != artifacts[f"tiny/original_top5_ep6_VBPR{NAMED}_paper.tsv"]
    )


def test_full_form_has_its_own_names_and_shapes(layout, generate):
    assert generate("--form", "full", "--model", "VBPR", "AMR") == 0
    names = set(results(layout))
    assert {
        f"tiny/original_top5_ep6_VBPRfull{NAMED}.tsv",
        f"tiny/original_top5_ep6_AMRfull{NAMED}.tsv",
    } <= names
    with np.load(
        layout.root / f"rec_model_weights/tiny/original_step6_AMRfull{NAMED}.npz"
    ) as archive:
        assert archive["P"].shape == (N_USERS, 8)
        assert archive["E"].shape == (N_FEATURES, 5)
        assert archive["epoch"] == 6


@pytest.mark.parametrize("model", ["VBPR", "AMR"])
@pytest.mark.parametrize("direction", ["grad", "rand"])
def test_a_killed_training_continues_to_the_same_bytes(
    layout, generate, monkeypatch, model, direction
):
    arguments = ["--model", "VBPR", model, "--verbose", "2", "--adv_type", direction]
    assert generate(*arguments) == 0
    uninterrupted = results(layout)
    for folder in ("rec_model_weights", "rec_results"):
        shutil.rmtree(layout.root / folder)

    stored = fitting.store

    def kill_after_epoch_4(training, weights):
        stored(training, weights)
        if training.run.model == model and weights.epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "store", kill_after_epoch_4)
    assert generate(*arguments) == 130
    assert f"tiny/original_step6_{model}{NAMED}.npz" not in results(layout)
    trained = []

    def record_epoch(training, weights):
        stored(training, weights)
        trained.append((training.run.model, weights.epoch))

    monkeypatch.setattr(fitting, "store", record_epoch)
    assert generate(*arguments) == 0
    assert trained == [(model, 6)]  # from the checkpoint, not from the start
    assert results(layout) == uninterrupted


def test_a_damaged_checkpoint_is_not_continued(layout, generate):
    assert generate("--verbose", "2") == 0
    uninterrupted = results(layout)
    weights = layout.root / "rec_model_weights/tiny"
    (weights / f"original_step6_VBPR{NAMED}.npz").unlink()
    (weights / f"original_step4_VBPR{NAMED}.npz").write_bytes(b"torn")
    layout.recommendations(Run.parse(f"original_top5_ep6_VBPR{NAMED}")).unlink()
    assert generate("--verbose", "2") == 0
    assert results(layout) == uninterrupted


def test_amr_continues_vbpr_of_half_the_epochs(layout, generate):
    """With lambda 0 and new accumulators, only the start and the schedule matter."""
    assert generate("--model", "VBPR", "AMR", "--lmd", "0") == 0
    record = read_record(layout.root / f"rec_model_weights/tiny/original_step6_AMR{NAMED}_lmd0.npz")
    assert f"tiny/original_step3_VBPR{NAMED}.npz" in record["inputs"]
    adversary = record["options"]["adversary"]
    assert (adversary["weight"], adversary["perturb"]) == (0.0, "features")
    assert (adversary["attack"]["kind"], adversary["attack"]["epsilon"]) == ("fgsm", 1.0)


MF = ("--model", "BPRMF", "AMF", "--adv_epochs", "2")


def weights_of(layout: Layout, stem: str) -> dict[str, np.ndarray]:
    with np.load(layout.root / "rec_model_weights" / "tiny" / f"{stem}.npz") as archive:
        return dict(archive)


def test_amf_trains_the_last_epochs_and_needs_no_features(layout, generate):
    shutil.rmtree(layout.data / "original")
    shutil.rmtree(layout.data / ATTACKED)
    assert generate(*MF) == 0
    stems = {path.stem for path in (layout.root / "rec_model_weights/tiny").glob("*.npz")}
    adversarial = f"AMF{MF_NAMED}_adv2"
    assert stems == {
        f"original_step4_BPRMF{MF_NAMED}",
        f"original_step6_BPRMF{MF_NAMED}",
        f"original_step6_{adversarial}",
    }
    assert {"P", "Q"} <= set(weights_of(layout, f"original_step6_{adversarial}"))
    assert "E" not in weights_of(layout, f"original_step6_{adversarial}")
    items = read_top_k(layout.root / f"rec_results/tiny/original_top5_ep6_{adversarial}.tsv").items
    train = read_pairs(layout.training_set)
    assert not (items[train[:, 0]] == train[:, 1:]).any()


def test_amf_without_weight_is_the_longer_bpr_mf(layout, generate):
    """AMF keeps Adagrad's accumulators unless they are to be reset."""
    assert generate(*MF, "--adv_reg", "0") == 0
    longer = weights_of(layout, f"original_step6_BPRMF{MF_NAMED}")
    for name, array in weights_of(layout, f"original_step6_AMF{MF_NAMED}_lmd0_adv2").items():
        np.testing.assert_array_equal(array, longer[name])
    assert generate(*MF, "--adv_reg", "0", "--accumulators", "reset") == 0
    reset = weights_of(layout, f"original_step6_AMF{MF_NAMED}_lmd0_accreset_adv2")
    assert (reset["P"] != longer["P"]).any()


@pytest.mark.parametrize(
    ("arguments", "label", "shown"),
    [
        (["--perturb", "full"], "AMF-full", ""),
        (["--adv_type", "rand"], "AMF-random", ""),
        (
            ["--adv_attack", "bim", "--adv_steps", "3", "--projection", "box"],
            "AMF-bim",
            "_advsteps3_projbox",
        ),
        (
            ["--perturb", "full", "--adv_attack", "pgd", "--adv_steps", "2"],
            "AMF-full-pgd",
            "_advsteps2",
        ),
        (
            ["--item_bias", "--negatives", "3", "--reg_reduction", "mean"],
            "AMFbias",
            "_reductionmean_neg3",
        ),
    ],
)
def test_variants_of_amf_have_names_of_their_own_and_repeat(
    layout, generate, arguments, label, shown
):
    assert generate(*MF, *arguments) == 0
    named = f"{label}{MF_NAMED}{shown}_adv2"
    weights = layout.root / f"rec_model_weights/tiny/original_step6_{named}.npz"
    record, lists = (
        read_record(weights),
        layout.root / f"rec_results/tiny/original_top5_ep6_{named}.tsv",
    )
    assert record["options"]["model"] == label
    before = weights.read_bytes()
    assert lists.is_file()
    assert generate(*MF, *arguments, "--force") == 0
    assert weights.read_bytes() == before


def test_published_amf_leaves_the_perturbation_in_the_clean_term(layout, generate):
    assert generate(*MF, "--perturb", "full") == 0
    assert generate(*MF, "--perturb", "full", "--fidelity", "paper", "--batch_size", "8") == 0
    stem = "original_step6_AMF-full_K4_batch8_adv2_paper"
    options = read_record(layout.root / f"rec_model_weights/tiny/{stem}.npz")["options"]
    assert options["adversary"]["stale_clean_term"] and options["drop_last_batch"]
    assert options["regulariser"] == "mean"


def test_the_same_amf_after_an_interruption(layout, generate, monkeypatch):
    assert generate(*MF, "--perturb", "full") == 0
    whole = results(layout)
    shutil.rmtree(layout.root / "rec_model_weights")
    shutil.rmtree(layout.root / "rec_results")
    stored = fitting.store

    def interrupt(training, weights):
        stored(training, weights)
        if training.adversary and weights.epoch == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "store", interrupt)
    assert generate(*MF, "--perturb", "full", "--verbose", "1") == 130
    monkeypatch.setattr(fitting, "store", stored)
    assert generate(*MF, "--perturb", "full") == 0
    continued = results(layout)
    for name, content in whole.items():
        assert continued[name] == content


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("epochs", ["--model", "Pop", "--epochs", "999999"]),
        ("lr", ["--model", "Pop", "Random", "--lr", "5", "5", "5"]),
        ("adv_reg", ["--model", "Pop", "--lmd", "0.5"]),
        ("item_bias", ["--model", "Pop", "--item_bias"]),
    ],
)
def test_baselines_refuse_options_of_trainings(layout, generate, capsys, name, arguments):
    assert generate(*arguments) == 2
    assert f"--{name}: Pop" in the_error(capsys) and not results(layout)


def test_baselines_rank_by_popularity_and_at_random(layout, generate):
    assert generate("--model", "Pop", "Random", "--seed", "0", "1") == 0
    train, test = read_pairs(layout.training_set), read_pairs(layout.test_set)
    popularity = np.bincount(train[:, 1], minlength=train[:, 1].max() + 1)
    ranks = read_test_ranks(layout.test_ranks(Run.parse("original_top5_ep0_Pop")))
    for (user, item), rank in zip(test, ranks.ranks, strict=True):
        others = np.setdiff1d(np.arange(N_ITEMS), [item, *train[train[:, 0] == user, 1]])
        assert rank == (popularity[others] >= popularity[item]).sum()
    lists = [
        read_top_k(layout.recommendations(Run.parse(f"original_top5_ep0_Random{seed}"))).items
        for seed in ("", "_seed1")
    ]
    assert (lists[0] != lists[1]).any()
    assert len(np.unique(lists[0], axis=0)) > N_USERS // 2  # not the same items for everyone


def test_validation_rows_choose_the_checkpoint_and_are_never_recommended(layout, generate, capsys):
    train = read_pairs(layout.training_set)
    _, last = np.unique(train[::-1, 0], return_index=True)
    held_out = len(train) - 1 - last
    write_pairs(layout.validation_set, train[held_out])
    write_pairs(layout.training_set, np.delete(train, held_out, axis=0))
    arguments = ["--model", "BPRMF", "--verbose", "1", "--lr", "0.5"]
    assert generate(*arguments, "--keep", "best") == 0
    best = int(re.search(r"epoch (\d+) of 6 checkpoints", capsys.readouterr().out)[1])
    lists = read_top_k(
        layout.recommendations(Run.parse("original_top5_ep6_BPRMF_K4_batch16_lr0.5_best1"))
    )
    for user, item in train:
        assert item not in lists.items[user]
    weights = weights_of(layout, f"original_step{best}_BPRMF_K4_batch16_lr0.5")
    expected = (weights["P"][:, None] * weights["Q"][lists.items]).sum(-1)
    shown = lists.items >= 0
    np.testing.assert_allclose(lists.scores[shown], expected[shown], rtol=1e-4, atol=1e-5)


def test_amr_without_vbpr_says_what_to_run(layout, generate, capsys):
    assert generate("--adv", "1", "--seed", "4") == 2
    message = the_error(capsys)
    assert (
        f"no weights at {layout.root}/rec_model_weights/tiny/original_step3_VBPR{NAMED}" in message
    )
    options = "--emb1_K 4 --batch 16 --lr 0.05 --epochs 6 --seed 4"
    assert f"--experiment_name original --model VBPR AMR {options}" in message
    assert not results(layout)


def test_amr_refuses_vbpr_of_other_features(layout, generate, capsys):
    assert generate() == 0
    write_features(layout.data / "original/features.npy", np.ones((N_ITEMS, N_FEATURES)))
    capsys.readouterr()
    assert generate("--adv", "1") == 2
    assert f"original_step3_VBPR{NAMED}.npz was trained on other data" in the_error(capsys)


def test_test_time_protocol_scores_attacked_features_with_clean_weights(layout, generate):
    assert generate() == 0
    before = results(layout)
    assert generate("--experiment_name", ATTACKED, "--load_weights_from", "original") == 0
    added = set(results(layout)) - set(before)
    name = f"{ATTACKED}_top5_ep6_VBPR_testtime{NAMED}"
    assert added == {f"tiny/{name}.tsv", f"tiny/test_ranks/{name}.tsv"}  # nothing was trained

    weights = weights_of(layout, f"original_step6_VBPR{NAMED}")
    p, q, e, scale = (weights[key] for key in ("P", "Q", "E", "scale"))
    clean = np.load(layout.data / "original/features.npy")
    attacked = np.load(layout.data / ATTACKED / "features.npy")
    assert scale == np.abs(clean).max() < np.abs(attacked).max()
    scores = p @ (q + attacked / scale @ e).T
    top_k = read_top_k(layout.recommendations(Run.parse(name)))
    expected = np.take_along_axis(scores, top_k.items, 1)
    np.testing.assert_allclose(top_k.scores, expected, rtol=1e-4, atol=1e-6)


TUNED = "fare_original"


@pytest.fixture
def tuned(layout) -> np.ndarray:
    """Clean features of another extractor, a little apart from those of the first one."""
    with (layout.data / "original" / "features.npy").open("rb") as stream:
        features = np.load(stream)
    features = features + 0.02 * np.random.default_rng(1).standard_normal(features.shape)
    (layout.data / TUNED).mkdir()
    write_features(layout.data / TUNED / "features.npy", features.astype(np.float32))
    return features.astype(np.float32)


def test_a_deployed_recommender_stays_as_it_is(layout, generate, tuned, capsys):
    assert generate() == 0
    before = read_test_ranks(layout.test_ranks(Run.parse(f"original_top5_ep6_VBPR{NAMED}")))
    capsys.readouterr()
    deploy = ["--experiment_name", TUNED, "--deployed", "original"]
    assert generate(*deploy) == 0
    run_name = f"{TUNED}_top5_ep6_VBPR{NAMED}_of-original"
    printed = capsys.readouterr().out
    assert f"before: HR@20 {(before.ranks < 20).mean():.4f}" in printed
    assert f"{run_name}.tsv: HR@20" in printed

    weights = weights_of(layout, f"{TUNED}_step6_VBPR{NAMED}_of-original")
    original = weights_of(layout, f"original_step6_VBPR{NAMED}")
    for name, values in original.items():
        np.testing.assert_array_equal(weights[name], values)
    users, items = original["P"], original["Q"] + tuned / original["scale"] @ original["E"]
    top_k = read_top_k(layout.recommendations(Run.parse(run_name)))
    expected = np.take_along_axis(users @ items.T, top_k.items, axis=1)
    np.testing.assert_allclose(top_k.scores, expected, rtol=1e-4, atol=1e-5)
    assert generate(*deploy) == 0
    assert "is up to date" in capsys.readouterr().out

    attacked = f"fare_{ATTACKED}"
    (layout.data / attacked).mkdir()
    write_features(layout.data / attacked / "features.npy", tuned + 1)
    assert generate(*deploy[:1], attacked, *deploy[2:]) == 0
    lists = read_top_k(
        layout.recommendations(Run.parse(f"{attacked}_top5_ep6_VBPR_testtime{NAMED}_of-original"))
    )
    items = original["Q"] + (tuned + 1) / original["scale"] @ original["E"]
    expected = np.take_along_axis(users @ items.T, lists.items, axis=1)
    np.testing.assert_allclose(lists.scores, expected, rtol=1e-4, atol=1e-5)
    assert not list((layout.root / "rec_model_weights" / "tiny").glob(f"{attacked}*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment_name", TUNED], "no weights at"),
        (["--experiment_name", "original"], "for features of another extractor"),
        (["--experiment_name", ATTACKED], "for features of another extractor"),
        (["--experiment_name", TUNED, "--model", "BPRMF"], "its weights read no images"),
        (["--experiment_name", TUNED, "--keep", "best"], "--deployed goes without"),
        (
            ["--experiment_name", TUNED, "--load_weights_from", "original"],
            "--deployed goes without",
        ),
    ],
)
def test_what_cannot_be_deployed_is_one_line(generate, tuned, capsys, arguments, message):
    assert generate("--deployed", "original", *arguments) == 2
    assert message in the_error(capsys)


def test_test_time_on_clean_features_changes_nothing(layout, generate):
    assert generate() == 0
    assert generate("--load_weights_from", "original") == 0
    artifacts = results(layout)
    lists = "tiny/original_top5_ep6_VBPR{}" + NAMED + ".tsv"
    assert artifacts[lists.format("_testtime")] == artifacts[lists.format("")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--load_weights_from", "original"], "no weights at"),
        (["--load_weights_from", "madry_original"], "features of different extractors"),
        (["--experiment_name", "nonsense"], "is not an experiment name"),
        (["--experiment_name", "madry_original"], "missing file"),
        (["--lr", "[0.1,x]"], "--lr"),
        (["--lr", "0.1", "0.2"], "--lr takes 3 numbers or 1, not 2"),
        (["--lr", "__import__('os').getcwd()"], "--lr"),
        (["--regs", "-1"], "must not be negative"),
        (["--adv", "1", "--epoch", "1"], "--epochs must be 2 or more"),
        (["--fidelity", "paper", "--batch_size", "9999"], "fewer rows than one batch"),
        (["--lr", "1e38"], "the loss became"),
        (["--load_weights_from", "original", "--model", "Pop"], "images has no test time"),
        (["--load_weights_from", "original", "--model", "BPRMF"], "images has no test time"),
        (["--load_weights_from", "original", "--keep", "best"], "with the last weights"),
    ],
)
def test_bad_options_end_in_one_line(layout, generate, capsys, arguments, message):
    assert generate(*arguments) == 2
    assert message in the_error(capsys)
    assert not results(layout)


@pytest.mark.parametrize("option", ["--epoch", "--topk", "--batch_size", "--emb1_K", "--verbose"])
def test_counts_below_one_are_refused(generate, capsys, option):
    assert generate(option, "0") == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda layout: layout.test_set.unlink(), "missing file"),
        (lambda layout: layout.training_set.write_text("a\tb\n"), "row 1"),
        (lambda layout: write_pairs(layout.test_set, np.array([[0, 0]])), "also a training row"),
        (lambda layout: damage_features(layout, lambda f: f[:-5]), "the catalogue ends at"),
        (lambda layout: damage_features(layout, lambda f: f * np.nan), "row 0 holds NaN"),
        (lambda layout: shutil.rmtree(layout.data), "no data set at"),
        (lambda layout: add_images(layout, N_ITEMS + 3), "belongs to another data set"),
    ],
)
def test_bad_data_end_in_one_line(layout, generate, capsys, damage, message):
    damage(layout)
    assert generate() == 2
    assert message in the_error(capsys)
    assert not results(layout)


def damage_features(layout: Layout, change) -> None:
    path = layout.data / "original/features.npy"
    np.save(path, change(np.load(path)))


def add_images(layout: Layout, n_images: int) -> None:
    layout.images.mkdir()
    for item in range(n_images):
        (layout.images / f"{item}.jpg").touch()


def test_weights_of_other_options_or_interactions_are_refused(layout, generate, capsys):
    assert generate() == 0
    capsys.readouterr()
    test_time = ["--experiment_name", ATTACKED, "--load_weights_from", "original"]
    assert generate(*test_time, "--emb1_K", "5") == 2
    assert "no weights at" in the_error(capsys)
    write_pairs(layout.training_set, read_pairs(layout.training_set)[1:])
    assert generate(*test_time) == 2
    assert "was trained on other data than" in the_error(capsys)
    assert not list(layout.recommendations_dir.glob("*testtime*"))


def test_no_gpu_falls_back_to_the_cpu_and_says_so(layout, generate, capsys):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    assert generate("--gpu", "0") == 0
    assert "TensorFlow sees no CUDA device: using the CPU" in capsys.readouterr().out


def test_other_options_leave_what_is_there_untouched(layout, generate):
    study = ["--model", "VBPR", "AMR", "--seed", "0", "1"]
    assert generate(*study) == 0
    assert generate(*study, "--experiment_name", ATTACKED) == 0
    before = results(layout)
    others = ["--emb1_K", "3", "--lr", "0.01", "--negatives", "2", "--regs", "0.5"]
    assert generate(*study, *others, "--experiment_name", ATTACKED) == 0
    adversarial = ["--epoch", "7", "--epsilon", "0.1", "--verbose", "6"]
    assert generate("--model", "VBPR", "AMR", *adversarial) == 0  # leaves weights after epoch 6
    after = results(layout)
    assert before == {name: after[name] for name in before}
    assert f"tiny/{ATTACKED}_top5_ep6_AMR_K3_batch16_lr0.01_regs0.5_neg2_seed1.tsv" in after
    assert f"tiny/original_step6_AMR{NAMED}_eps0.1.npz" in after


def test_unit_features_are_an_option_of_recommenders_that_read_them(layout, generate, capsys):
    assert generate("--model", "VBPR", "BPRMF", "--features", "unit") == 0
    lists = {path.stem for path in layout.recommendations_dir.glob("*.tsv")}
    assert lists == {
        f"original_top5_ep6_VBPR{NAMED}_featuresunit",
        f"original_top5_ep6_BPRMF{MF_NAMED}",
    }
    test_time = ["--experiment_name", ATTACKED, "--load_weights_from", "original"]
    assert generate("--model", "VBPR", *test_time) == 2  # no weights of raw features
    assert "no weights at" in capsys.readouterr().err
    assert generate("--model", "VBPR", *test_time, "--features", "unit") == 0
    weights = weights_of(layout, f"original_step6_VBPR{NAMED}_featuresunit")
    features = np.load(layout.data / "original" / "features.npy")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert weights["unit"] and weights["scale"] == pytest.approx(unit.max())
    named = Run.parse(f"original_top5_ep6_VBPR{NAMED}_featuresunit")
    assert "--features unit" in training_command(layout, named)


def test_options_at_the_published_defaults_add_nothing_to_names(layout, generate):
    published = ["--emb1_K", "64", "--batch_size", "512", "--lr", "[0.01,1e-4,1e-3]"]
    published += ["--regs", "1e-1,1e-3,0", "--lmd", "0.1", "--epsilon", "1", "--adv_epochs", "3"]
    assert generate(*published, "--model", "VBPR", "AMR") == 0
    lists = {path.stem for path in layout.recommendations_dir.glob("*.tsv")}
    assert lists == {"original_top5_ep6_VBPR", "original_top5_ep6_AMR"}
    weights = {path.stem for path in (layout.root / "rec_model_weights/tiny").glob("*.npz")}
    assert weights == {"original_step3_VBPR", "original_step6_VBPR", "original_step6_AMR"}


@given(
    st.sampled_from(["VBPR", "AMR", "BPRMF", "AMF"]),
    st.fixed_dictionaries(
        {},
        optional={
            "--emb1_K": st.integers(1, 999),
            "--lr": st.floats(1e-9, 1e9) | st.just("[0.05,1e-5,0.1]"),
            "--regs": st.floats(0, 1),
            "--reg_reduction": st.sampled_from(["sum", "mean"]),
            "--epoch": st.integers(2, 99),
            "--lmd": st.floats(0, 9),
            "--epsilon": st.floats(0.01, 9),
            "--adv_type": st.sampled_from(["grad", "rand"]),
            "--accumulators": st.sampled_from(["keep", "reset"]),
            "--adv_epochs": st.integers(1, 99),
            "--fidelity": st.sampled_from(["corrected", "paper"]),
        },
    ),
)
def test_the_command_that_a_run_names_makes_that_run(model, given_options):
    """Names contain all options, and plain weights have the options that the plain model reads."""
    words = [str(word) for pair in given_options.items() for word in pair]
    run = named_by(model, *words)
    assert Run.parse(run.name) == run
    command = training_command(Layout("tiny"), run).split()
    assert named_by(model, *command[command.index(model) + 1 :]) == run
    assert plain_run(run) == named_by(RECOMMENDERS[model].continues or model, *words)


def named_by(model: str, *arguments: str) -> Run:
    """Return the run that these options describe."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    add_recommender_options(parser)
    add_fidelity_option(parser)
    options = parser.parse_args(arguments)
    return run_of(options, model, Experiment(), 150, options.seed)


def edit_record(path: Path, **options) -> None:
    record = json.loads(record_path(path).read_text())
    record["options"] |= options
    record_path(path).write_text(json.dumps(record))


@pytest.mark.parametrize("model", ["VBPR", "AMR"])
def test_weights_of_other_options_are_not_loaded(layout, generate, capsys, model):
    """The names are equal, and the manifests differ."""
    assert generate("--model", "VBPR", "AMR") == 0
    weights = layout.weights(Run.parse_weights_name(f"original_step6_{model}{NAMED}"))
    edit_record(weights, penalties=[0.5, 0.5, 0.5])
    test_time = ["--experiment_name", ATTACKED, "--load_weights_from", "original"]
    assert generate(*test_time, "--model", model) == 2
    error = the_error(capsys)
    assert weights.name in error and "--regs is 0.5 0.5 0.5 and 0.1 0.001 0.0" in error
    assert not list(layout.recommendations_dir.glob("*testtime*"))


def test_amr_does_not_start_from_weights_of_other_options(layout, generate, capsys):
    assert generate() == 0
    start = layout.weights(Run.parse_weights_name(f"original_step3_VBPR{NAMED}"))
    edit_record(start, negatives=5)
    assert generate("--adv", "1") == 2
    error = the_error(capsys)
    assert start.name in error and "--negatives is 5 and 1" in error


def test_amr_that_continues_another_vbpr_is_not_loaded(layout, generate, capsys):
    assert generate("--model", "VBPR", "AMR") == 0
    weights = layout.weights(Run.parse_weights_name(f"original_step6_AMR{NAMED}"))
    record = json.loads(record_path(weights).read_text())
    start = f"tiny/original_step3_VBPR{NAMED}.npz"
    record["inputs"][start.replace("step3", "step2")] = record["inputs"].pop(start)
    record_path(weights).write_text(json.dumps(record))
    assert generate("--model", "AMR", "--load_weights_from", "original") == 2
    assert "does not continue" in the_error(capsys)


def test_a_training_leaves_every_checkpoint_though_later_ones_are_there(layout, generate):
    assert generate("--verbose", "2") == 0
    whole = results(layout)
    start = layout.weights(Run.parse_weights_name(f"original_step3_VBPR{NAMED}"))
    start.unlink()
    layout.recommendations(Run.parse(f"original_top5_ep6_VBPR{NAMED}")).unlink()
    assert generate("--verbose", "2") == 0
    assert results(layout) == whole


def test_unlike_runs_are_not_compared(layout, generate, capsys):
    write_classes(
        layout.classes(Experiment()),
        Classes(np.arange(N_ITEMS), np.arange(N_ITEMS) % 3, ["of"] * N_ITEMS, np.ones(N_ITEMS)),
    )
    assert generate() == 0
    assert generate("--experiment_name", ATTACKED) == 0
    attacked = layout.recommendations(Run.parse(f"{ATTACKED}_top5_ep6_VBPR{NAMED}"))
    common = ("--dataset", "tiny", "--root", layout.root, "--list_of_k", 5)

    def call(script, *arguments):
        return run_script(script, *common, *arguments)

    assert call(summarize) == 0
    summary = layout.summary.read_bytes()
    edit_record(attacked, factors=8, learning_rates=[0.01, 0.01, 0.01])
    capsys.readouterr()
    assert call(summarize) == 2
    error = the_error(capsys)
    assert f"original_top5_ep6_VBPR{NAMED}.tsv and {attacked}" in error
    assert "--emb1_K is 4 and 8" in error
    assert layout.summary.read_bytes() == summary
    assert call(evaluate_rec, "--topk", "5", "--metric", "chr") == 2
    assert "--emb1_K is 4 and 8" in the_error(capsys)
    record_path(attacked).unlink()  # lists of another system
    assert call(summarize) == 0


def test_lists_as_arrays_are_those_of_the_text_and_replace_it(layout, generate):
    run_ = Run.parse(f"original_top5_ep6_VBPR{NAMED}")
    assert generate("--model", "VBPR") == 0
    as_text, text = read_top_k(layout.recommendations(run_)), layout.recommendations(run_)
    ranks = layout.test_ranks(run_).read_bytes()
    assert generate("--model", "VBPR", "--lists", "npz") == 0
    assert layout.recommendations(run_).suffix == ".npz" and not text.exists()
    as_arrays = read_top_k(layout.recommendations(run_))
    np.testing.assert_array_equal(as_arrays.items, as_text.items)
    np.testing.assert_array_equal(as_arrays.scores, as_text.scores)
    assert [found.name for found in list_runs(layout)] == [run_.name]
    assert layout.test_ranks(run_).read_bytes() == ranks


def test_without_lists_later_stages_say_that_they_need_them(layout, generate, capsys):
    def error_of(script: str, *options: str) -> str:
        assert run_script(script, "--dataset", "tiny", "--root", layout.root, *options) == 2
        return the_error(capsys)

    assert generate("--model", "Pop", "--lists", "none") == 0
    assert "AUC" in capsys.readouterr().out
    assert {path.name for path in layout.recommendations_dir.iterdir()} == {"test_ranks"}
    for script in ("evaluate_rec", "summarize"):
        assert "holds ranks but no lists" in error_of(script)
    assert generate("--model", "VBPR", "--lists", "none", "--experiment_name", ATTACKED) == 0
    assert generate("--model", "VBPR") == 0
    needs = f"{layout.recommendations_dir}, only ranks: run rec_generator.py with --lists"
    assert needs in error_of("evaluate_rec", "--topk", "5", "--experiment_name", ATTACKED)
    assert needs in error_of("summarize")
    assert "only ranks" not in error_of("evaluate_rec", "--topk", "7")


def test_a_file_that_holds_no_arrays_is_named(tmp_path):
    path = tmp_path / "lists.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"lists\.npz is not an archive"):
        read_top_k(path)


@pytest.mark.slow
def test_processes_of_torchrun_rank_to_the_same_bytes(layout, tmp_path, python):
    def torchrun(n: int, *arguments: str) -> subprocess.CompletedProcess:
        command = [python.program, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={n}", str(ROOT / "rec_generator.py")]
        command += ["--dataset", "tiny", "--root", str(layout.root), *SHORT, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    two = torchrun(2, "--model", "VBPR")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("AUC") == 1  # process 0 alone prints
    shared = files(layout.root / "rec_results")
    assert not [name for name in shared if name.startswith(".")]
    shutil.rmtree(layout.root / "rec_results")
    one = torchrun(1, "--model", "VBPR")
    assert one.returncode == 0, one.stderr
    assert files(layout.root / "rec_results") == shared


def test_accuracy_between_epochs_is_of_a_fixed_sample_of_many_users():
    def reported(n_users: int) -> np.ndarray:
        nothing = np.empty((0, 2), np.int64)
        return fitting.reported_users(Interactions(nothing, nothing, n_users, 1))

    assert reported(20_000).tolist() == list(range(20_000))
    users = reported(50_000)
    assert (np.diff(users) > 0).all() and len(users) == 20_000 and users[-1] < 50_000
    np.testing.assert_array_equal(reported(50_000), users)
