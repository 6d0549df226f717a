"""Agreement of metrics with people against SciPy and loops, and its table from people's answers."""

import argparse
import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from src.artifacts.errors import UserError
from src.cli import Parser
from src.measures.agreement import (
    MEASURES,
    add_agreement_options,
    agreement_table,
    chosen_metrics,
    join_scores,
    read_answers,
    run_agreement,
)
from src.metrics.agreement import _auc, _auc_within, _correlations, agreement
from tests.real_data import REAL_DATA

DATA = REAL_DATA / "semsim_human.csv.gz"
SCIPY = {"spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": stats.pearsonr}


def case(seed: int, n_models: int = 6, n_images: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and shares of five people, both with many ties."""
    rng = np.random.default_rng(seed)
    human = rng.integers(0, 6, (n_models, n_images)) / 5
    scores = rng.integers(0, 4, (n_models, n_images)) + np.round(human)
    # Models with equal means, in another order of their images.
    human[1], scores[2] = human[0][::-1], scores[0][::-1]
    return scores, human


def by_scipy(name: str, scores: np.ndarray, human: np.ndarray) -> float:
    """Compute correlations of the rounded means of models, so that equal means are ties for SciPy too."""
    return float(SCIPY[name](*(of.mean(axis=1).round(9) for of in (scores, human))).statistic)


def counted_auc(scores: np.ndarray, recognised: np.ndarray) -> float:
    pairs = itertools.product(scores[recognised], scores[~recognised])
    return float(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))


def counted_auc_within(scores: np.ndarray, recognised: np.ndarray) -> float:
    won = [
        (a > b) + (a == b) / 2
        for of, known in zip(scores.T, recognised.T, strict=True)
        for a, b in itertools.product(of[known], of[~known])
    ]
    return float(np.mean(won))


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_scipy_and_of_loops(seed):
    scores, human = case(seed)
    found = agreement(scores, human, higher_is_closer=True, resamples=10)
    for name in SCIPY:
        expected = by_scipy(name, scores, human)
        assert getattr(found, name).value == pytest.approx(expected, abs=1e-9)
    assert found.auc.value == pytest.approx(counted_auc(scores, human > 0.5))
    assert found.auc_within.value == pytest.approx(counted_auc_within(scores, human > 0.5))
    assert (found.n_models, found.n_images) == scores.shape


@pytest.mark.parametrize("seed", range(5))
def test_a_resample_is_what_its_models_and_images_give_when_they_are_written_out(seed):
    scores, human = case(seed)
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.integers(0, n, n)) for n in scores.shape]
    models, images = (
        np.bincount(of, minlength=n)[None].astype(float)
        for of, n in zip(drawn, scores.shape, strict=True)
    )
    repeated, people = (of[np.ix_(*drawn)] for of in (scores, human))
    means = [images @ of.T / scores.shape[1] for of in (scores, human)]
    for name, values in _correlations(*means, models).items():
        assert values[0] == pytest.approx(by_scipy(name, repeated, people), abs=1e-9)
    recognised = human > 0.5
    assert _auc(scores, recognised, models, images)[0] == pytest.approx(
        counted_auc(repeated, people > 0.5)
    )
    # Within an original, however often it is drawn, pairs are of two models.
    each_once = scores[drawn[0]], recognised[drawn[0]]
    weights = np.repeat(np.arange(scores.shape[1]), images[0].astype(int))
    assert _auc_within(scores, recognised, models, images)[0] == pytest.approx(
        counted_auc_within(*(of[:, weights] for of in each_once))
    )


def test_orientation_turns_everything_around():
    scores, human = case(1)
    up, down = (agreement(scores, human, higher_is_closer=of) for of in (True, False))
    for name in SCIPY:
        assert getattr(up, name).value == pytest.approx(-getattr(down, name).value)
        assert getattr(up, name).low == pytest.approx(-getattr(down, name).high)
    for name in ("auc", "auc_within"):
        assert getattr(up, name).value == pytest.approx(1 - getattr(down, name).value)


def test_people_agree_with_themselves_and_chance_with_nobody():
    rng = np.random.default_rng(0)
    human = (rng.random((8, 300)) < np.linspace(0.2, 0.8, 8)[:, None]).astype(float)
    found = agreement(human, human, higher_is_closer=True)
    assert all(getattr(found, name).value == pytest.approx(1) for name in MEASURES)
    chance = agreement(rng.random(human.shape), human, higher_is_closer=True)
    assert chance.auc.low < 0.5 < chance.auc.high
    assert chance.spearman.low < 0 < chance.spearman.high


def test_what_does_not_exist_is_nan():
    scores, human = case(2)
    constant = agreement(np.full_like(scores, 0.1), human, higher_is_closer=True)
    assert np.isnan([getattr(constant, name).value for name in SCIPY]).all()
    assert constant.auc.value == 0.5
    nobody = agreement(scores, np.zeros_like(human), higher_is_closer=True)
    assert np.isnan([nobody.auc.value, nobody.auc_within.high]).all()
    single = agreement(scores[:1], human[:1], higher_is_closer=True)
    assert np.isnan(single.kendall.value) and not np.isnan(single.auc.value)


def test_rounded_sums_are_still_ties():
    """The last digit of 0.1 + 0.2 + 0.3 depends on the order; models with equal answers must be equal."""
    human = np.array([[0.2, 0.4, 0.6], [0.6, 0.4, 0.2], [0.4, 0.6, 0.2], [1, 1, 1]])
    scores = np.array([[3, 0, 0], [0, 4, 0], [0, 0, 5], [9, 9, 9.0]])
    found = agreement(scores, human, higher_is_closer=True)
    expected = stats.kendalltau([3, 4, 5, 27], [1, 1, 1, 2]).statistic
    assert found.kendall.value == pytest.approx(expected)


def test_intervals_repeat_hold_the_value_and_shrink_with_more_images():
    rng = np.random.default_rng(0)
    human = rng.integers(0, 6, (12, 400)) / 5
    scores = human + rng.normal(0, 0.5, human.shape)
    compare = partial(agreement, higher_is_closer=True, resamples=300)
    few, many = (compare(scores[:, :n], human[:, :n]) for n in (40, 400))
    assert compare(scores, human) == many
    assert compare(scores, human, seed=1) != many
    for name in MEASURES:
        estimate = getattr(many, name)
        assert estimate.low <= estimate.value <= estimate.high
    assert many.auc.high - many.auc.low < few.auc.high - few.auc.low


@pytest.mark.parametrize("shape", [(3,), (0, 4), (3, 5)])
def test_other_shapes_and_values_are_refused(shape):
    human = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"\(models, images\)"):
        agreement(np.zeros(shape), human, higher_is_closer=True)
    with pytest.raises(ValueError, match="not finite"):
        agreement(np.full((3, 4), np.inf), human, higher_is_closer=True)


def answers() -> pd.DataFrame:
    """Answers for two models and three images of class 7 by three people."""
    return pd.DataFrame(
        {
            "model": ["a"] * 3 + ["b"] * 3,
            "image": [0, 1, 2] * 2,
            "label": 7,
            "human0": [7, 7, 7, 7, -1, 1],
            "human1": [7, 7, -1, -1, 2, 3],
            "human2": [7, 1, np.nan, -1, 7, 5],
            "psnr": [20.0, 15, 12, 9, 11, 8],
            "mine": [1.0, 2, 3, 4, 5, 6],
            "what": "cat",
        }
    )


@pytest.fixture
def labels(tmp_path) -> Path:
    path = tmp_path / "labels.csv"
    answers().to_csv(path, index=False)
    return path


def options(*arguments: object) -> argparse.Namespace:
    parser = Parser("agreement")
    add_agreement_options(parser)
    return parser.parse_args(list(map(str, arguments)))


def test_answers_are_right_where_they_name_the_class_and_missing_ones_do_not_count(labels):
    recognised = read_answers(labels)["recognised"].to_numpy()
    np.testing.assert_allclose(recognised, [1, 2 / 3, 1 / 2, 1 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="image"), "lacks the column image"),
        (lambda table: table[["model", "image", "label"]], "lacks the column human0"),
        (lambda table: table.assign(human1="cat"), "human1 holds something"),
        (lambda table: table.assign(image="first"), "image holds something"),
        (lambda table: pd.concat([table, table[:1]]), "image 0 of a appears twice"),
        (
            lambda table: table.assign(**{f"human{k}": [np.nan] + [1.0] * 5 for k in range(3)}),
            "line 2: nobody has answered",
        ),
        (
            lambda table: table.assign(label=[7, 7, np.nan, 7, 7, 7]),
            r"labels.csv, line 4: the label is missing",
        ),
    ],
)
def test_a_wrong_table_of_answers_says_what_is_wrong(labels, change, message):
    change(answers()).to_csv(labels, index=False)
    with pytest.raises(UserError, match=message):
        read_answers(labels)


def test_metrics_are_chosen_and_oriented(labels):
    table = read_answers(labels)
    assert chosen_metrics(table, None) == {"psnr": True}
    assert chosen_metrics(table, ["mine:lower", "psnr"]) == {"mine": False, "psnr": True}
    for names, message in (
        (["mine"], "mine:higher or mine:lower"),
        (["mine:up"], "say mine:higher"),
        (["mse"], "no column mse"),
        (["what:lower"], "not a number"),
    ):
        with pytest.raises(UserError, match=message):
            chosen_metrics(table, names)
    table.loc[4, "psnr"] = np.nan
    with pytest.raises(UserError, match="psnr of image 1 of b is no finite number"):
        chosen_metrics(table, None)


def test_an_exact_reconstruction_counts_as_100_db(labels, tmp_path):
    for value in (np.inf, 100):
        answers().assign(psnr=[20.0, value, 12, 9, 11, 8]).to_csv(labels, index=False)
        run_agreement(options("--labels", labels, "--out", tmp_path / f"{value}.tsv"))
    found, expected = (pd.read_csv(tmp_path / f"{v}.tsv", sep="\t") for v in (np.inf, 100))
    assert found["pearson"].notna().all()
    pd.testing.assert_frame_equal(found, expected)


def test_the_target_is_a_share_of_people_or_of_images(labels):
    table = read_answers(labels)
    rate, majority = (
        agreement_table(table, {"mine": False}, target=of) for of in ("rate", "majority")
    )
    assert rate["n_models"].item() == 2 and rate["n_images"].item() == 3
    assert rate["kendall"].item() == majority["kendall"].item() == 1
    assert rate["pearson"].item() == majority["pearson"].item() == pytest.approx(1)
    assert rate["auc"].item() == majority["auc"].item() == 1


def test_images_that_a_model_lacks_are_left_out(labels, tmp_path, capsys):
    answers()[:-1].to_csv(labels, index=False)
    run_agreement(options("--labels", labels, "--out", tmp_path / "out.tsv"))
    assert "note: 1 images are left out" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "out.tsv", sep="\t")["n_images"].item() == 2
    answers()[:3].assign(model=["a", "b", "c"]).to_csv(labels, index=False)
    with pytest.raises(UserError, match="no image of which every model"):
        run_agreement(options("--labels", labels, "--out", tmp_path / "out.tsv"))


def test_scores_are_joined_by_model_and_image(labels, tmp_path):
    table = read_answers(labels)
    files = []
    for model, rows in table.groupby("model"):
        files.append(tmp_path / model / "image_quality.tsv")
        files[-1].parent.mkdir()
        scored = rows[["image", "label"]].assign(psnr=rows["psnr"] + 1, l2=rows["image"] + 1.0)
        scored[::-1].rename(columns={"image": "id"}).to_csv(files[-1], sep="\t", index=False)
    joined = join_scores(table, files)
    assert (joined["psnr_measured"] == table["psnr"] + 1).all()
    assert (joined["l2"] == table["image"] + 1).all()
    assert chosen_metrics(joined, None) == {"psnr": True, "psnr_measured": True}
    assert chosen_metrics(joined, ["l2"]) == {"l2": False}
    with pytest.raises(UserError, match="there are none of b"):
        join_scores(table, files[:1])
    with pytest.raises(UserError, match="twice"):
        join_scores(table, [*files, files[0]])


def test_reconstructions_without_scores_are_left_out(labels, tmp_path, capsys):
    scored = answers()[["model", "image"]].assign(mse=0.1, restart=[0, -1, 0, 0, 0, 0])
    scored.loc[1, "mse"] = np.nan
    given = ("--labels", labels, "--out", tmp_path / "out.tsv", "--scores", tmp_path / "scores.tsv")
    for table in (scored, scored.drop(columns="restart").dropna()):
        table.to_csv(tmp_path / "scores.tsv", sep="\t", index=False)
        run_agreement(options(*given))
        assert "note: 1 images are left out" in capsys.readouterr().out
        assert pd.read_csv(tmp_path / "out.tsv", sep="\t")["n_images"].eq(2).all()


def test_the_stage_writes_a_row_a_metric_and_skips_when_it_is_current(labels, tmp_path, capsys):
    out = tmp_path / "agreement.tsv"
    chosen = options(
        "--labels", labels, "--out", out, "--metrics", "psnr", "mine:lower", "--resamples", 50
    )
    run_agreement(chosen)
    table = pd.read_csv(out, sep="\t")
    assert table["metric"].tolist() == ["psnr", "mine"]
    assert list(table)[:4] == ["metric", "spearman", "spearman_low", "spearman_high"]
    assert "2 models are few" in capsys.readouterr().out
    run_agreement(chosen)
    assert "up to date" in capsys.readouterr().out
    with pytest.raises(UserError, match="resamples"):
        run_agreement(options("--labels", labels, "--out", out, "--resamples", 0))
    with pytest.raises(UserError, match="missing file"):
        run_agreement(options("--labels", tmp_path / "no.csv", "--out", out))


@pytest.mark.skipif(not DATA.is_file(), reason="needs the published answers")
def test_on_the_published_answers(tmp_path):
    """The answers are for seven of the published models; the values are SciPy's."""
    table = read_answers(DATA)
    metrics = chosen_metrics(table, None)
    found = agreement_table(table, metrics, resamples=50).set_index("metric")
    assert found["n_models"].eq(7).all() and found["n_images"].eq(600).all()
    human = table.groupby("model")["recognised"].mean()
    for name in found.index:
        sign = 1 if found.loc[name, "closer"] == "higher" else -1
        means = sign * table.groupby("model")[name].mean()
        for measure, function in SCIPY.items():
            expected = function(means, human).statistic
            assert found.loc[name, measure] == pytest.approx(expected, abs=1e-9)
    # Published for all 14 models: .606, .698 and .739, .779 within an original.
    assert found.loc["mse", "auc"] == pytest.approx(0.606, abs=0.03)
    assert found.loc["lpips", "auc"] == pytest.approx(0.698, abs=0.03)
    assert found.loc["mse", "auc_within"] == pytest.approx(0.739, abs=0.03)
    assert found.loc["lpips", "auc_within"] == pytest.approx(0.779, abs=0.03)
