"""Searched hyperparameters: grids, their judgement on validation rows, and what takes their values."""

import argparse
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record
from src.cli import add_fidelity_option
from src.recommenders.command import add_recommender_options, run_of, training_command
from src.recommenders.grid import Grid
from src.recommenders.hyperparameters import Hyperparameters
from tests.scripts import run_script
from tests.small_shops import write_data

N_USERS, N_ITEMS, N_FEATURES = 24, 16, 8
ATTACKED = "pgd_1_2_eps4.0_eps_it4.0_nb_it10_linf"
SHORT = ["--epoch", "4", "--batch_size", "16", "--topk", "5", "--gpu", "-1"]
GRID = ["--search", "lr=0.02 0.5", "factors=3 6"]
NAMED = "search-factors3-6-lr0.02-0.5"


@pytest.fixture
def layout(tmp_path) -> Layout:
    """Data set with one test row and one validation row a user, clean and attacked features."""
    rng = np.random.default_rng(0)
    layout = Layout("tiny", tmp_path)
    has = rng.random((N_USERS, N_ITEMS)) < 0.4
    has[:, 0], has[:, 1:3] = True, False
    features = rng.random((N_ITEMS, N_FEATURES)).astype(np.float32)
    held_out = [np.stack([np.arange(N_USERS), np.full(N_USERS, item)], 1) for item in (1, 2)]
    of = dict.fromkeys(("original", ATTACKED), features)
    return write_data(layout, np.argwhere(has), *held_out, features=of)


@pytest.fixture
def generate(layout):
    """Run the script on the data set with few epochs; return its exit code."""
    common = ("--dataset", "tiny", "--root", layout.root, *SHORT)
    return lambda *words: run_script("rec_generator", *common, *words)


def weights(
    layout: Layout, model: str, options: str, seed: int = 0, name: str = "original"
) -> Path:
    of = Run(Experiment.parse(name), model, 4, seed=seed, options=f"_{options}")
    return layout.weights(of)


def ndcg_by_loops(layout: Layout, path: Path) -> float:
    """Return the mean over users of 1 / log2(2 + rank of the validation item), of a BPRMF."""
    tables = np.load(path)
    train = np.loadtxt(layout.training_set, dtype=int, delimiter="\t")
    total = 0.0
    for user in range(N_USERS):
        scores = tables["Q"] @ tables["P"][user]
        others = set(range(N_ITEMS)) - {item for of, item in train if of == user} - {2}
        total += 1 / np.log2(2 + sum(scores[other] >= scores[2] for other in others))
    return total / N_USERS


def test_the_point_that_ranks_the_validation_rows_best_is_used(layout, generate, capsys):
    assert generate("--model", "BPRMF", *GRID) == 0
    assert "; factors, lr at an end of the grid: values beyond" in capsys.readouterr().out
    table = pd.read_csv(layout.results / "search_BPRMF.tsv", sep="\t")
    assert table[["factors", "lr"]].to_numpy().tolist() == [
        *([3, 0.02], [3, 0.5], [6, 0.02], [6, 0.5])
    ]
    own = []
    for factors, rate in table[["factors", "lr"]].itertuples(index=False):
        words = ["--emb1_K", f"{factors:g}", "--lr", f"{rate:g}"]
        assert generate("--model", "BPRMF", "--epoch", "4", *words) == 0
        own.append(weights(layout, "BPRMF", f"K{factors:g}_batch16_lr{rate:g}"))
    quality = [ndcg_by_loops(layout, path) for path in own]
    np.testing.assert_allclose(table["ndcg"], quality, rtol=1e-6)
    best = int(np.argmax(quality))
    assert table["chosen"].tolist() == [int(of == best) for of in range(4)]
    searched = weights(layout, "BPRMF", f"batch16_{NAMED}")
    one, other = np.load(searched), np.load(own[best])
    assert all(one[name].tobytes() == other[name].tobytes() for name in other)
    options = read_record(searched)["options"]
    assert options["factors"] == table["factors"][best]
    assert options["learning_rates"] == [table["lr"][best]] * 3


def test_values_at_an_end_of_the_grid_are_said(layout, generate, capsys):
    """A penalty of 0 and a value alone are no ends."""
    assert (
        generate("--model", "BPRMF", "--search", "lr=0.02 0.1 0.5", "regs=0 0.5", "factors=3") == 0
    )
    table = pd.read_csv(layout.results / "search_BPRMF.tsv", sep="\t")
    ((rate, penalty),) = table[["lr", "regs"]][table["chosen"] == 1].to_numpy()
    ends = [axis for axis, is_end in (("lr", rate != 0.1), ("regs", penalty != 0)) if is_end]
    said = f"; {', '.join(ends)} at an end of the grid: values beyond may be better" if ends else ""
    assert f"are best on the validation rows{said}\n" in capsys.readouterr().out


def test_finished_trials_are_not_trained_again(layout, generate, capsys):
    assert generate("--model", "BPRMF", *GRID) == 0
    trials = sorted((layout.root / "rec_model_weights/tiny/search").glob("*_step4_*.npz"))
    times = [path.stat().st_mtime_ns for path in trials]
    assert len(trials) == 4
    table = layout.results / "search_BPRMF.tsv"
    before = table.read_bytes()
    table.unlink()
    trials[2].unlink()
    assert generate("--model", "BPRMF", *GRID) == 0
    assert table.read_bytes() == before
    after = [path.stat().st_mtime_ns for path in trials]
    assert [one == other for one, other in zip(times, after, strict=True)] == [
        *(True, True, False, True)
    ]
    assert generate("--model", "BPRMF", *GRID) == 0
    assert "search_BPRMF.tsv is up to date" in capsys.readouterr().out


def test_other_seeds_attacked_images_and_adversarial_forms_take_the_values(layout, generate):
    both = ["--experiment_name", "original", ATTACKED]
    assert generate("--model", "VBPR", "AMR", "--seed", "0", "1", *both, *GRID) == 0
    assert generate("--model", "VBPR", *both[:1], ATTACKED, *GRID, *TEST_TIME) == 0
    table = pd.read_csv(layout.results / "search_VBPR.tsv", sep="\t")
    (chosen,) = table["factors"][table["chosen"] == 1]
    assert not (layout.results / "search_AMR.tsv").exists()
    for model in ("VBPR", "AMR"):
        for seed in (0, 1):
            for name in both[1:]:
                found = np.load(weights(layout, model, f"batch16_{NAMED}", seed, name))
                assert found["P"].shape == (N_USERS, chosen)
    lists = {path.name for path in layout.recommendations_dir.glob("*_testtime_*.tsv")}
    assert lists == {f"{ATTACKED}_top5_ep4_VBPR_testtime_batch16_{NAMED}.tsv"}


TEST_TIME = ["--load_weights_from", "original"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search", "lr"], "expected one of factors, lr, regs"),
        (["--search", "epoch=3"], "expected one of factors, lr, regs"),
        (["--search", "lr=0.1 x"], "could not convert"),
        (["--search", "lr="], "needs numbers"),
        (["--search", "factors=0 8"], "needs numbers"),
        (["--search", "factors=2.5"], "needs numbers"),
        (["--search", "lr=0"], "learning rates must be positive"),
        (["--search", "regs=-1"], "must not be negative"),
        (["--search", "lr=1", "lr=2"], "names lr twice"),
        (["--search", "lr=1", "--lr", "2"], "--search lr and --lr: give one of them"),
        (["--search", "--lr", "1", "--regs", "0", "--emb1_K", "3"], "given by options"),
        (["--search", *TEST_TIME], "no searched weights at"),
        (["--search", "--model", "Pop"], "does not train in epochs"),
    ],
)
def test_bad_grids_are_one_line(layout, generate, capsys, words, message):
    assert generate(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (layout.root / "rec_model_weights").exists()


def test_a_data_set_without_validation_rows_is_one_line(layout, generate, capsys):
    layout.validation_set.unlink()
    assert generate("--search") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no" in line and "validationset.tsv to choose hyperparameters by" in line


@pytest.mark.parametrize(
    "words",
    [
        "--search",
        "--search 'lr=1e-5 0.05' regs=0 'factors=32 128' --negatives 2",
        "--lr 0.05 --search 'regs=0.1 1e-07'",
    ],
)
def test_names_of_runs_give_the_command_back(words):
    def named(text: str) -> Run:
        parser = argparse.ArgumentParser()
        parser.add_argument("command", nargs="*")
        for option in ("--dataset", "--experiment_name", "--model", "--seed"):
            parser.add_argument(option)
        add_recommender_options(parser)
        add_fidelity_option(parser)
        return run_of(parser.parse_args(shlex.split(text)), "VBPR", Experiment(), 150)

    wanted = named(words)
    command = training_command(Layout("tiny"), wanted)
    assert named(command.removeprefix("python rec_generator.py")) == wanted
    assert Run.parse(wanted.name) == wanted


def test_the_default_grid_has_each_axis_that_no_option_gives():
    usual = Hyperparameters()
    assert list(Grid.usual(usual, ["lr"]).values) == ["factors", "regs"]
    points = list(Grid.usual(usual, []).trials(usual))
    assert len(points) == len(set(points)) == 2 * 3 * 3
    assert Grid.usual(usual, []).text == ""


def test_axes_are_named_in_one_order():
    grids = [Grid.read(texts) for texts in (["lr=2 1", "regs=0"], ["regs=0 0", "lr=1 2"])]
    assert [grid.text for grid in grids] == ["-lr1-2-regs0"] * 2
    with pytest.raises(UserError, match="expected one of"):
        Grid.read(["lr 1"])
