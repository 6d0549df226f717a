"""Stage 5 from the command line: success rate and feature loss of an attacked experiment."""

import numpy as np
import pandas as pd
import pytest

from src.artifacts.classes import Classes, write_attacked_classes, write_classes
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.tables import write_table
from tests.scripts import run_script

NAME = "pgd_774_770_eps8.0_eps_it8.0_nb_it10_linf"
OPTIONS = ["--attack_type", "pgd", "--eps", "8"]


def script(name, root, *arguments):
    return run_script(name, "--root", root, "--dataset", "shop", *arguments)


def classes(ids, numbers, probability):
    labels = {770: "running shoe", 774: "sandal", 12: "house finch, linnet"}
    return Classes(
        np.array(ids),
        np.array(numbers),
        [labels[number] for number in numbers],
        np.full(len(ids), probability),
    )


@pytest.fixture
def layout(tmp_path):
    """Data set with three attacked images, of which one is classified as the target."""
    layout = Layout("shop", tmp_path)
    attacked = Experiment.parse(NAME)
    for experiment in (attacked, attacked.clean):
        layout.experiment(experiment).mkdir(parents=True)
    start = classes([1, 3, 4], [774, 774, 774], 0.5)
    write_attacked_classes(
        layout.classes(attacked), classes([1, 3, 4], [770, 774, 12], 0.25), start
    )
    write_classes(
        layout.classes(attacked.clean), classes([0, 1, 2, 3, 4], [12, 774, 12, 774, 774], 1)
    )
    clean = np.zeros((5, 4))
    write_features(layout.features(attacked.clean), clean)
    clean[[1, 3, 4]] = [[1, 1, 1, 1], [0, 0, 0, 4], [0, 0, 0, 0]]
    write_features(layout.features(attacked), clean)
    report = {"image": [1, 3, 4], "success_before_rounding": [1, 1, 0], "success": [1, 0, 0]}
    write_table(layout.attack_report(attacked), pd.DataFrame(report))
    return layout


def folder(layout):
    return layout.data / NAME


def test_the_success_rate_in_the_published_layout(layout, capsys):
    assert script("evaluate_attack", layout.root, *OPTIONS) == 0
    assert (folder(layout) / "success_results.txt").read_text() == (
        "PGD ATTACK ON shop\n"
        "- ORIGINAL CLASS: 774/999 (sandal)\n"
        "- TARGET CLASS: 770/999 (running shoe)\n"
        "- PARAMETERS:\n"
        "\t- eps = 8.0\n"
        "\t- l = inf\n"
        "\t- nb_iter = 10\n"
        "\n"
        "\n"
        "RESULTS:\n"
        "\t- TARGETED ATTACK SUCCESS RATE: 33.333333\n"
    )
    assert "33.333333" in capsys.readouterr().out
    table = pd.read_csv(folder(layout) / "success_results.tsv", sep="\t")
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["attack"], row["origin"], row["target"]) == ("pgd", 774, 770)
    assert (row["attacked"], row["successes"]) == (3, 1)
    assert row["success_rate"] == pytest.approx(100 / 3)
    assert row["success_rate_before_rounding"] == pytest.approx(200 / 3)
    assert row["mean_probability_before"] == 0.5
    assert row["mean_probability_after"] == 0.25


def test_an_untargeted_attack_succeeds_where_the_class_is_left(layout):
    folder(layout).rename(layout.data / NAME.replace("_770_", "_any_"))
    assert script("evaluate_attack", layout.root, *OPTIONS, "--untargeted") == 0
    text = (layout.data / NAME.replace("_770_", "_any_") / "success_results.txt").read_text()
    assert "- TARGET CLASS: any\n" in text
    assert text.endswith("\t- UNTARGETED ATTACK SUCCESS RATE: 66.666667\n")


def test_an_attack_on_lists_names_its_items_in_place_of_a_class(layout, tmp_path, capsys):
    """The rate is that of places in lists, as stage 3 judged them: one of three images."""
    (tmp_path / "chosen.txt").write_text("1\n3\n4\n")
    weights = layout.weights(Run(Experiment(), epochs=1))
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"never read")
    lists = ("--items", tmp_path / "chosen.txt", "--objective", "rank", "--weights", weights)
    assert script("evaluate_attack", layout.root, *OPTIONS, *lists) == 2
    folder(layout).rename(capsys.readouterr().err.partition(" at ")[2].partition(": run")[0])
    assert script("evaluate_attack", layout.root, *OPTIONS, *lists) == 0
    [results] = layout.data.glob("pgd_ids-chosen_rank_*/success_results.txt")
    text = results.read_text()
    assert "\n- ATTACKED ITEMS: 3 (1, 3, 4)\n" in text and "774" not in text
    assert text.endswith("ATTACK SUCCESS RATE: 33.333333\n")
    row = pd.read_csv(results.with_suffix(".tsv"), sep="\t").iloc[0]
    assert (row["origin"], row["successes"]) == ("ids-chosen", 1)


def test_the_feature_loss_files(layout):
    assert script("feature_loss", layout.root, *OPTIONS) == 0
    assert (folder(layout) / "features_dist_avg_all_attack.txt").read_text() == (
        "Total attacked images: 3\n"
        "Final MSE features loss: 1.66666667\n"
        "Final RMSE features loss: 1.00000000\n"
    )
    per_image = (folder(layout) / "features_dist_all_attack.csv").read_text().splitlines()
    assert per_image == ["ImageID,MSE,RMSE", "1,1.0,1.0", "3,4.0,2.0", "4,0.0,0.0"]
    row = pd.read_csv(folder(layout) / "features_dist_avg_all_attack.tsv", sep="\t").iloc[0]
    assert (row["experiment"], row["attacked"], row["rmse"]) == (NAME, 3, 1.0)
    assert row["mse"] == pytest.approx(5 / 3)


@pytest.mark.parametrize("name", ["evaluate_attack", "feature_loss"])
def test_a_second_run_skips_and_new_inputs_do_not(layout, capsys, name):
    assert script(name, layout.root, *OPTIONS) == 0
    assert script(name, layout.root, *OPTIONS) == 0
    assert "up to date" in capsys.readouterr().out
    attacked = Experiment.parse(NAME)
    changed = classes([1, 3, 4], [770, 770, 770], 0.25)
    write_attacked_classes(
        layout.classes(attacked), changed, classes([1, 3, 4], [774, 774, 774], 0.5)
    )
    assert script(name, layout.root, *OPTIONS) == 0
    assert "up to date" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["evaluate_attack", "feature_loss"])
def test_an_attack_that_was_not_run(layout, capsys, name):
    assert script(name, layout.root, *OPTIONS, "--seed", 3) == 2
    error = capsys.readouterr().err
    assert "run classify_extract_attack.py with the same options first" in error
    assert error.count("\n") == 1


def test_features_of_another_extractor(layout, capsys):
    write_features(layout.features(Experiment()), np.zeros((5, 3)))
    assert script("feature_loss", layout.root, *OPTIONS) == 2
    assert "different extractors" in capsys.readouterr().err
    layout.features(Experiment()).unlink()
    assert script("feature_loss", layout.root, *OPTIONS) == 2
    assert "classify_extract.py --dataset shop" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["evaluate_attack", "feature_loss"])
@pytest.mark.parametrize("option", ["weights", "arch", "resize"])
def test_an_attack_on_another_extractor_is_not_compared(layout, capsys, name, option):
    extractor = {"arch": "resnet18", "weights": "12ab", "resize": 224, "precision": "fp32"}
    attacked = layout.classes(Experiment.parse(NAME))
    Manifest("classify_extract_attack", extractor, {}).write([attacked])
    clean = layout.classes(Experiment())
    Manifest("classify_extract", extractor | {"precision": "bf16"}, {}).write([clean])
    assert script(name, layout.root, *OPTIONS) == 0
    before = sorted(folder(layout).iterdir())
    Manifest("classify_extract", extractor | {option: "other"}, {}).write([clean])
    assert script(name, layout.root, *OPTIONS, "--force") == 2
    error = capsys.readouterr().err
    assert f"{clean} and {attacked} cannot be compared: {option} is other and" in error
    assert error.count("\n") == 1
    assert sorted(folder(layout).iterdir()) == before


def test_the_defaults_are_the_published_ones(layout, capsys):
    assert script("evaluate_attack", layout.root) == 2
    assert "fgsm_774_770_eps4.0_it1_linf_XX" in capsys.readouterr().err
