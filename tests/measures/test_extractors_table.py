"""Table of robust extractors from small files of earlier stages."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from src.artifacts.classes import Classes, write_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.datasets.retrieval import open_retrieval_set
from src.measures import summary as summaries
from src.measures.extractors_table import (
    COLUMNS,
    extractors_overview,
    extractors_table,
    ranking_record,
    write_extractors_table,
)
from src.measures.measures import METRICS

N_ITEMS = 40
CATEGORIES = np.arange(N_ITEMS) % 4
NAMES = np.array(["hat", "shoe", "sock", "bag"])
PGD = "pgd_1_3_eps8.0_eps_it8.0_nb_it10_linf"
NOISE = "noise_1_3_eps8.0_linf"
STATES = (
    "before",
    "after",
    "change",
    "low",
    "high",
    "noise_effect",
    "net_effect",
    "net_low",
    "net_high",
)


def write_extractor(layout, name, labels, ers=(50.0,), *, collapsed=False):
    """Write files of stage 1 and audits.rankings for an extractor that predicts ``labels`` (items,)."""
    path = layout.classes(Experiment(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.unique(labels, return_inverse=True)[1]
    if set(labels) <= set(NAMES):
        numbers = np.array([NAMES.tolist().index(label) for label in labels])
    write_classes(path, Classes(np.arange(N_ITEMS), numbers, list(labels), np.ones(N_ITEMS)))
    scores = [{"ers": value, "ers_low": value - 1, "ers_high": None} for value in ers]
    record = {"benign": {"r1": 61.0}, "collapsed": collapsed, "robustness": scores}
    ranking_record(layout, name).parent.mkdir(parents=True, exist_ok=True)
    ranking_record(layout, name).write_text(json.dumps(record))


def rows_of(extractor, attack=PGD, protocol="test_time", model="VBPR", base=0.0):
    """Return the summary's rows of one attack, in which all numbers differ."""
    keys = [(metric, k) for metric in METRICS if metric != "auc" for k in (20, 50)]
    return [
        {
            "extractor": extractor,
            "attack": attack,
            "recommender": model,
            "protocol": protocol,
            "metric": metric,
            "k": k,
            **{state: base + 100 * at + i for i, state in enumerate(STATES)},
            "success_rate": base + 75,
            "feature_loss": base + 0.5,
            "seeds": 3,
            "pairs": 1,
            "placebo": "",
            "extractor_seeds": 2,
            "recommender_seeds": 3,
        }
        for at, (metric, k) in enumerate([*keys, ("auc", None)])
    ]


def summary_of(*rows):
    table = pd.DataFrame([row for group in rows for row in group], columns=summaries.COLUMNS)
    return table.astype({"k": "Int64"})


@pytest.fixture
def layout(tmp_path):
    layout = Layout("toy", tmp_path)
    layout.images.mkdir(parents=True)
    for item in range(N_ITEMS):
        Image.new("RGB", (4, 4)).save(layout.images / f"{item}.png")
    items = {"item": np.arange(N_ITEMS), "category": CATEGORIES, "label": NAMES[CATEGORIES]}
    pd.DataFrame(items).to_csv(layout.item_categories, index=False)
    write_extractor(layout, "toy_plain", NAMES[CATEGORIES])
    return layout


def test_a_row_joins_the_stages(layout):
    summary = summary_of(
        rows_of("toy_plain"),
        rows_of("toy_plain", NOISE, base=1e4),
        rows_of("toy_plain", protocol="retrained", base=2e4),
        rows_of("another", base=3e4),
    )
    table = extractors_table([layout], summary, ["toy_plain"], 20)
    assert tuple(table) == COLUMNS and len(table) == 1
    row = table.iloc[0]
    assert row[["extractor", "attack", "recommender", "k"]].tolist() == [
        "toy_plain", PGD, "VBPR", 20,
    ]  # fmt: skip
    assert row["accuracy"] == 100 and row["items"] == 10
    assert (row["r1"], row["ers"], row["ers_low"], row["collapsed"]) == (61, 50, 49, False)
    assert pd.isna(row["ers_high"])
    assert row["success_rate"] == 75 and row["feature_loss"] == 0.5
    # Nine measures at two K each, then auc.
    assert row["auc"] == 1800
    for metric, first in (("chr", 0), ("ncdcg", 400), ("hr", 600)):
        states = (
            *("before", "after", "change", "change_low", "change_high"),
            *("noise", "net", "net_low", "net_high"),
        )
        assert row[[f"{metric}_{state}" for state in states]].tolist() == [
            first + i for i in range(9)
        ]
    assert extractors_table([layout], summary, ["toy_plain"], 50).iloc[0]["chr_before"] == 100


def test_accuracy_counts_held_out_pictures_alone(layout):
    held_out = open_retrieval_set("catalogue", layout.data).test
    items = held_out.ids
    assert len(items) == N_ITEMS // 2
    labels = NAMES[CATEGORIES].copy()
    labels[np.setdiff1d(np.arange(N_ITEMS), items)] = "hat"  # wrong, but in the training half
    labels[items[:5]] = NAMES[(CATEGORIES[items[:5]] + 1) % 4]
    write_extractor(layout, "toy_plain", labels)
    table = extractors_table([layout], summary_of(rows_of("toy_plain")), ["toy_plain"], 20)
    assert table["accuracy"].item() == 75
    assert table["items"].item() == (labels == "shoe").sum()


def test_classes_that_are_no_categories_have_no_accuracy(layout):
    write_extractor(layout, None, np.where(CATEGORIES == 1, "sandal", "running shoe"))
    ranking_record(layout, "toy_plain").rename(ranking_record(layout, "original"))
    table = extractors_table([layout], summary_of(rows_of("original")), ["original"], 20)
    assert np.isnan(table["accuracy"].item()) and table["items"].item() == 10


def test_extractors_stand_in_the_order_asked_for(layout):
    write_extractor(layout, "toy_hm", NAMES[CATEGORIES], [81.0], collapsed=True)
    summary = summary_of(
        *(rows_of(name, model=model) for name in ("toy_hm", "toy_plain") for model in "BA")
    )
    table = extractors_table([layout], summary, ["toy_plain", "toy_hm"], 20)
    assert table["extractor"].tolist() == ["toy_plain"] * 2 + ["toy_hm"] * 2
    assert table["recommender"].tolist() == ["A", "B"] * 2
    shown = extractors_overview(table)
    assert shown.splitlines()[-1] == "collapsed, their ERS says nothing: toy_hm"
    assert "collapsed" not in extractors_overview(table[:2])


def test_lists_without_ranks_have_no_auc(layout):
    rows = [row for row in rows_of("toy_plain") if row["metric"] != "auc"]
    assert np.isnan(extractors_table([layout], summary_of(rows), ["toy_plain"], 20)["auc"].item())


def test_an_extractor_that_was_not_attacked(layout):
    summary = summary_of(rows_of("toy_plain", NOISE), rows_of("toy_plain", protocol="retrained"))
    with pytest.raises(UserError, match="no attack on toy_plain at test time"):
        extractors_table([layout], summary, ["toy_plain"], 20)


def test_an_extractor_whose_rankings_were_not_attacked(layout):
    ranking_record(layout, "toy_plain").unlink()
    with pytest.raises(UserError, match=r"attack_ranking_toy_plain\.json.*--out .*\.tsv"):
        extractors_table([layout], summary_of(rows_of("toy_plain")), ["toy_plain"], 20)


@pytest.mark.parametrize("scores", [(), (40.0, 60.0)])
def test_a_row_shows_one_score(layout, scores):
    write_extractor(layout, "toy_plain", NAMES[CATEGORIES], scores)
    with pytest.raises(UserError, match=f"toy_plain has {len(scores)} robustness scores"):
        extractors_table([layout], summary_of(rows_of("toy_plain")), ["toy_plain"], 20)


def test_scores_are_means_over_trainings_with_intervals(layout):
    other = Layout("toy_1", layout.root)
    write_extractor(layout, "toy_plain", NAMES[CATEGORIES], [50.0])
    write_extractor(other, "toy_plain", NAMES[CATEGORIES], [60.0], collapsed=True)
    table = extractors_table([layout, other], summary_of(rows_of("toy_plain")), ["toy_plain"], 20)
    row = table.iloc[0]
    low, high = stats.ttest_1samp([50, 60], 0).confidence_interval(0.95)
    assert row[["ers", "ers_low", "ers_high"]].tolist() == pytest.approx([55, low, high])
    assert (row["r1"], row["r1_low"], row["extractor_seeds"]) == (61, 61, 2)
    assert row["collapsed"]


def test_the_table_is_made_again_when_a_score_changes(layout, capsys):
    summary = summary_of(rows_of("toy_plain"))
    summary.to_csv(layout.summary, sep="\t", index=False)
    made = []
    for ers in (50.0, 50.0, 70.0):
        write_extractor(layout, "toy_plain", NAMES[CATEGORIES], [ers])
        made.append(write_extractors_table([layout], summary, ["toy_plain"], 20, force=False))
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] == "written:" for line in said] == [True, False, True]
    assert [table["ers"].item() for table in made] == [50, 50, 70]
    written = pd.read_csv(layout.result("robust_extractors.tsv"), sep="\t")
    pd.testing.assert_frame_equal(written.astype({"k": "Int64"}), made[-1], check_dtype=False)
    assert extractors_overview(made[0]) == extractors_overview(made[1])
