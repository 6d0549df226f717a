"""The audit of bounds from the command line: clean, attacked and proven exposure of a small shop."""

import re

import numpy as np
import pytest
import torch

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.extractors.architectures import build_network
from src.extractors.checkpoints import save_extractor
from src.extractors.extractor import Extractor
from src.measures.bounds import read_bounds
from src.recommenders.factor_models import VBPR
from src.recommenders.weights import Weights, feature_scale, fresh_accumulators
from tests.pictures import draw_pictures
from tests.scripts import run_script
from tests.small_shops import write_data

N_ITEMS, N_USERS, EPOCHS, K = 12, 40, 4, 3
SCORED = ("--score_model", "VBPR", "--score_epoch", EPOCHS, "--eps", 1)
ITEMS = ("--items", "random:5")


def script(name: str, root, *options: object) -> int:
    return run_script(name, "--root", root, "--dataset", "shop", "--gpu", -1, *options)


def network_of(root) -> tuple[object, ...]:
    return "--arch", "wong_small", "--model_file", root / "net.pt"


def audit(layout: Layout, *options: object) -> int:
    said = (*network_of(layout.root), *SCORED, *ITEMS, "--k", K, *options)
    return script("audits.bounds", layout.root, *said)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Layout:
    """Twelve pictures, forty users who look at them, a VBPR, and a rank attack within 1/255."""
    layout = Layout("shop", tmp_path_factory.mktemp("shop"))
    rng = draw_pictures(layout.images, N_ITEMS, cells=5, side=28)
    pairs = np.stack([np.arange(N_USERS), rng.integers(0, N_ITEMS, N_USERS)], axis=1)
    write_data(layout, pairs, np.stack([pairs[:, 0], (pairs[:, 1] + 1) % N_ITEMS], axis=1))
    torch.manual_seed(0)
    network = Extractor(
        build_network("wong_small", 3), ("hat", "shoe", "bag"), "7", arch="wong_small",
        mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    save_extractor(layout.root / "net.pt", network)
    assert script("classify_extract", layout.root, *network_of(layout.root)) == 0
    features = np.load(layout.features(Experiment()))
    shapes = {"P": (N_USERS, 4), "Q": (N_ITEMS, 4), "E": (features.shape[1], 4)}
    tables = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights = Weights(tables, fresh_accumulators(tables), feature_scale(features), EPOCHS)
    path = layout.weights(Run(Experiment(), "VBPR", EPOCHS))
    path.parent.mkdir(parents=True)
    VBPR("shared", weights).save(path)
    attack = ("--attack_type", "apgd", "--objective", "rank", "--nb_iter", 10, "--k", K)
    said = (*network_of(layout.root), *SCORED, *ITEMS, *attack)
    assert script("classify_extract_attack", layout.root, *said) == 0
    return layout


def test_the_attack_lies_between_the_clean_lists_and_the_bound(shop, capsys):
    assert audit(shop) == 0
    items = read_bounds(shop.result("bounds.tsv"))
    lists = read_bounds(shop.result("bounds_lists.tsv"))
    printed = capsys.readouterr().out
    assert "proven at most" in printed and "places of 3, all at once" in printed
    assert len(items) == 5 and (items["seconds"] > 0).all()
    for table in (items, lists):
        assert (table["clean"] <= table["bound"]).all()
        assert (table["attack"] <= table["bound"]).all()
        assert table["found_by"].str.startswith("apgd_random5_rank_eps1.0").all()
    assert items["clean"].mean() < items["attack"].mean() < items["bound"].mean() < 1
    assert audit(shop) == 0
    assert "is up to date" in capsys.readouterr().out


def test_bounds_by_intervals_are_wider_and_without_a_budget_nothing_moves(shop):
    assert audit(shop, "--output", "crown") == 0
    assert audit(shop, "--method", "ibp", "--output", "ibp") == 0
    assert audit(shop, "--eps", 0, "--output", "none") == 0
    crown, ibp, none = (
        read_bounds(shop.result(f"{name}.tsv")) for name in ("crown", "ibp", "none")
    )
    assert (crown["bound"] <= ibp["bound"]).all()
    np.testing.assert_array_equal(none["bound"], none["clean"])
    assert none["attack"].isna().all(), "an attack within 1/255 says nothing about 0"


def test_medians_over_noisy_copies_rank_and_have_bounds_within_l2(shop):
    options = ("--method", "smoothing", "--sigma", 0.1, "--n", 400, "--output", "smoothing")
    assert audit(shop, *options, "--eps", "0.02/1") == 0
    items = read_bounds(shop.result("smoothing.tsv"))
    assert set(items["norm"]) == {"2"}
    assert (items["clean"] <= items["bound"]).all() and items["bound"].mean() < 1


def test_a_gpu_that_holds_five_copies_smooths_every_item(shop, gpu_holds, capsys):
    options = ("--method", "smoothing", "--sigma", 0.1, "--n", 60, "--eps", "0.02/1")
    assert audit(shop, *options, "--output", "whole") == 0
    gpu_holds(5)
    assert audit(shop, *options, "--output", "halved") == 0
    assert capsys.readouterr().out.count("at once: halving batches") == 1
    whole, halved = (read_bounds(shop.result(f"{name}.tsv")) for name in ("whole", "halved"))
    np.testing.assert_allclose(halved[["clean", "bound"]], whole[["clean", "bound"]], atol=1 / 40)


def test_an_attack_beyond_its_bound_is_an_error_of_the_program(shop, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # the trace goes into its logs/
    attacked = next(shop.data.glob("apgd_*/features.npy"))
    honest = np.load(attacked)
    try:
        np.save(attacked, honest * 10)
        assert audit(shop, "--output", "exceeded", "--accept_changed") == 1
    finally:
        np.save(attacked, honest)
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: unexpected BoundExceeded: apgd_\w+.*: user \d+ gives item \d+", said)
    assert not shop.result("exceeded.tsv").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--method", "crown", "--sigma", 0.1), "--sigma and --n belong to --method smoothing"),
        (("--method", "smoothing", "--sigma", 0), "--sigma must be above 0"),
        (("--eps", -1), "--eps is a number of grey levels from 0 on"),
        (("--score_epoch", 5), "run rec_generator.py first; there are original_step"),
        (("--preprocess", "blur"), "blur:sigma=1 has no bounds"),
    ],
)
def test_bad_input_is_one_line(shop, capsys, options, complaint):
    assert audit(shop, *options) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
