"""Attention of planted images: maps, tables recomputed by hand, figures, and the script."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.attacks import attention_study
from src.attacks.attention_study import AttentionStudy, minimal_eps, observe
from src.attacks.goals import ClassGoal
from src.attacks.observed import Observed, Seen
from src.attacks.pgd import pgd
from src.datasets.catalogue import open_catalogue
from src.datasets.interactions import Interactions
from src.extractors.architectures import build_extractor, build_network
from src.extractors.attention import Watched
from src.extractors.checkpoints import save_extractor
from src.extractors.extractor import Extractor
from src.measures.attention_figures import Shown, draw_outcomes, draw_panels, rows_to_draw
from src.measures.attention_tables import (
    EASY,
    SUCCESS,
    attention_overview,
    attention_summary,
    attention_table,
    measures_of,
    outcome_to_show,
)
from src.measures.object_boxes import read_object_cells
from src.metrics.attention import scatter, shift, top_cells
from src.metrics.explanations import attention_agreement
from src.metrics.object_size import object_size
from src.recommenders.hyperparameters import Hyperparameters
from src.recommenders.read_out import score_direction
from src.recommenders.scores import fold
from src.recommenders.weights import initial_weights, table_shapes, write_weights
from tests.pictures import draw_pictures, save_classifier
from tests.scripts import run_script
from tests.small_shops import write_data
from tests.victims import FunctionVictim

CELL = 8
GRID = 4
"""Planted images are GRID x GRID cells of CELL x CELL pixels."""


# Planted maps: class 0 is red, class 1 is green, and a map shows the place of the colour.


@pytest.fixture
def colours() -> Extractor:
    """Network with three maps, the mean colour of each cell, in which class c reads channel c."""
    cells = nn.Conv2d(3, 3, CELL, stride=CELL, bias=False)
    cells.weight.data.zero_()
    for channel in range(3):
        cells.weight.data[channel, channel] = 1 / CELL**2
    head = nn.Linear(3, 3)
    head.weight.data = 20 * torch.eye(3)
    head.bias.data.zero_()
    network = nn.Sequential(cells, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    black = Extractor(network, ["red", "green", "blue"], "3", mean=(0, 0, 0), std=(1, 1, 1))
    return black.eval().requires_grad_(False)


def planted(*cells: tuple[int, int, int]) -> np.ndarray:
    """Draw a black image with cells (row, column, channel) of full colour."""
    image = np.zeros((GRID * CELL, GRID * CELL, 3), np.uint8)
    for row, column, channel in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, channel] = 255
    return image


CLEAN = [
    planted((0, 0, 0), (0, 1, 0), (3, 3, 1)),
    planted((1, 1, 0), (2, 2, 0), (0, 3, 1)),
    planted((3, 0, 0), (3, 1, 0)),
]
ATTACKED = [
    planted((0, 0, 0), (3, 3, 1), (2, 3, 1)),
    planted((1, 1, 0), (2, 2, 0), (0, 3, 1)),
    planted((3, 0, 0), (3, 2, 0)),
]


@pytest.fixture
def folders(tmp_path):
    """Catalogues of the clean items 0 to 3, and of the attacked items 0, 1 and 3."""
    catalogues = []
    for name, images in (("clean", [*CLEAN[:2], CLEAN[0], CLEAN[2]]), ("attacked", ATTACKED)):
        folder = tmp_path / name
        folder.mkdir()
        ids = range(4) if name == "clean" else (0, 1, 3)
        for item, image in zip(ids, images, strict=True):
            Image.fromarray(image).save(folder / f"{item}.png")
        catalogues.append(open_catalogue(folder))
    return catalogues


def study_of(extractor, **options) -> AttentionStudy:
    score = np.array([0.0, 0.5, -1.0], np.float32)
    options = {"target": 1, "score": score, "batch_size": 2, "share": 2 / 16} | options
    return AttentionStudy(Watched(extractor), origin=0, **options)


@pytest.fixture
def observed(colours, folders) -> Observed:
    return observe(study_of(colours), *folders, np.array([True, False, False]))


def test_maps_lie_where_the_colours_are(observed):
    red = 20 * (np.stack(CLEAN)[:, ::CELL, ::CELL, 0] / 255) / GRID**2
    np.testing.assert_allclose(observed.clean.maps["class"], red, atol=1e-6)
    green = 20 * (np.stack(ATTACKED)[:, ::CELL, ::CELL, 1] / 255) / GRID**2
    np.testing.assert_allclose(observed.attacked.maps["target"], green, atol=1e-6)
    assert observed.clean.predicted.tolist() == [0, 0, 0]
    assert observed.attacked.predicted.tolist() == [1, 0, 0]
    predicted = observed.attacked.maps["predicted"]
    np.testing.assert_allclose(predicted[0], green[0], atol=1e-6)
    np.testing.assert_allclose(predicted[1], red[1], atol=1e-6)
    # A map of the score adds up to what the image adds to the score.
    features = np.stack(CLEAN).mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(
        observed.clean.maps["score"].sum(axis=(1, 2)), features @ [0, 0.5, -1], atol=1e-6
    )


def test_what_erasing_costs(observed, colours):
    """Both red cells of the first image become mid-grey, since no mean is subtracted here."""
    erased = CLEAN[0] / 255
    erased[:CELL, : 2 * CELL] = 0.5
    logits = 20 * erased.mean(axis=(0, 1))
    expected = np.exp(logits[0]) / np.exp(logits).sum()
    assert observed.erased["class"][0] == pytest.approx(expected, abs=1e-6)
    pictures = study_of(colours).erase(np.stack(CLEAN), observed.clean.maps["class"])
    assert np.abs(pictures[0] - 255 * erased).max() <= 1
    np.testing.assert_array_equal(
        (pictures != np.stack(CLEAN)).any(axis=3)[:, ::CELL, ::CELL],
        top_cells(observed.clean.maps["class"], 2 / 16),
    )


def test_batches_change_nothing(colours, folders, observed):
    other = observe(study_of(colours, batch_size=3), *folders, observed.success)
    for name, maps in observed.clean.maps.items():
        np.testing.assert_allclose(other.clean.maps[name], maps, atol=1e-6)
    np.testing.assert_allclose(other.erased["score"], observed.erased["score"], atol=1e-6)


def test_untargeted_attacks_have_no_target_and_no_recommender_no_score(colours, folders):
    seen = observe(
        study_of(colours, target=None, score=None), *folders, np.array([True, False, False])
    )
    assert list(seen.clean.maps) == ["class", "predicted"]
    columns = attention_table(seen, np.zeros(3)).columns
    assert not [name for name in columns if name.startswith(("target", "score", "p_target"))]


def test_maps_of_a_network_without_averaged_features():
    """Grad-CAM differentiates an extractor whose parameters have no gradients."""
    torch.manual_seed(0)
    extractor = Extractor(
        build_network("c2f2", 3), "abc", "fc2", arch="c2f2", mean=(0, 0, 0), std=(1, 1, 1)
    )
    extractor.eval().requires_grad_(False)
    study = study_of(extractor, score=None)
    assert not study.watched.averaged
    pixels = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    _, maps = study._attend(pixels.clone())
    attended = study.watched(pixels.requires_grad_())
    (gradient,) = torch.autograd.grad(
        (attended.features * extractor.network.fc2.weight[0]).sum(), attended.maps
    )
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * attended.maps).sum(dim=1)
    torch.testing.assert_close(maps["class"], expected.detach())


def test_images_of_unlike_sizes_are_refused(colours, tmp_path):
    for item, side in enumerate((32, 48)):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / f"{item}.png")
    images = open_catalogue(tmp_path, resize=0)
    with pytest.raises(UserError, match="unlike sizes"):
        study_of(colours).read(images, np.arange(2), "images")


def test_a_map_of_a_single_cell_is_refused(colours, tmp_path):
    Image.fromarray(np.zeros((CELL, CELL, 3), np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="single cell"):
        study_of(colours).read(open_catalogue(tmp_path), np.arange(1), "images")


# Smallest budgets


def linear_logits(weights: torch.Tensor):
    return lambda images: images.flatten(1) @ weights.T


def test_the_smallest_budget_of_a_linear_classifier():
    """From mid-grey, eps |w1 - w0|_1 must equal the lead."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 27, generator=generator)
    images = 0.5 + 0.05 * torch.randn(6, 3, 3, 3, generator=generator)
    logits = linear_logits(weights)(images)
    goal = ClassGoal(1 - logits.argmax(dim=1))
    lead = (logits[:, 0] - logits[:, 1]).abs()
    exact = lead / (weights[1] - weights[0]).abs().sum()
    largest = float(exact.sort().values[4]) + 1e-4
    found = minimal_eps(FunctionVictim(linear_logits(weights)), images, goal, largest)
    assert torch.isinf(found[exact > largest]).all() and torch.isinf(found).sum() == 1
    within = exact <= largest
    assert (found[within] >= exact[within] - 1e-6).all()
    assert (found[within] <= exact[within] + largest / 32 + 1e-6).all()


def test_smallest_budgets_do_not_depend_on_the_batch():
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(3, 27, generator=generator)
    images = torch.rand(5, 3, 3, 3, generator=generator)
    goal = ClassGoal(linear_logits(weights)(images).argmax(dim=1), targeted=False)
    together = minimal_eps(FunctionVictim(linear_logits(weights)), images, goal, 0.2)
    alone = [
        minimal_eps(FunctionVictim(linear_logits(weights)), images[[i]], goal[[i]], 0.2)
        for i in range(5)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_pgd_takes_a_budget_for_each_image():
    generator = torch.Generator().manual_seed(2)
    weights = 0.1 * torch.randn(27, generator=generator)
    images = torch.rand(4, 3, 3, 3, generator=generator)
    eps = torch.tensor([0.0, 0.01, 0.05, 0.3])

    def objective(points):
        return (points.flatten(1) @ weights).tanh()

    each = eps[:, None, None, None]
    together = pgd(images, objective, each, each / 4, 5)
    for i in range(4):
        alone = pgd(images[[i]], objective, float(eps[i]), float(eps[i]) / 4, 5)
        torch.testing.assert_close(together[[i]], alone)


def test_the_search_reads_the_catalogue(colours, folders):
    """Budgets are in grey levels; the third image has 2 red cells and no green one."""
    found = study_of(colours).minimal_eps(folders[0], np.array([0, 3]), 255)
    # Black cannot darken and red cannot brighten: 14 of 16 cells gain green, 2 lose red.
    lead = np.array([1, 2]) * 255 / GRID**2
    gain = np.array([(2 + 15) / 16, (2 + 16) / 16])
    np.testing.assert_allclose(found, lead / gain, atol=255 / 32)
    assert (found >= lead / gain - 1e-3).all()


# Read-outs of recommenders, sizes of objects, and boxes


@pytest.mark.parametrize("form", ["shared", "full"])
@pytest.mark.parametrize("user", [None, 2])
def test_a_direction_adds_what_the_features_add_to_scores(tmp_path, form, user):
    rng = np.random.default_rng(0)
    features = rng.random((6, 5), np.float32)
    hyperparameters = Hyperparameters(form=form, factors=3)
    shapes = table_shapes(4, 6, 5, hyperparameters)
    weights = initial_weights(shapes, hyperparameters, 2.5, seed=1)
    weights.tables["E"][:] = rng.standard_normal(weights.tables["E"].shape)
    path = tmp_path / f"original_step5_VBPR{'full' if form == 'full' else ''}.npz"
    write_weights(path, weights)
    pairs = np.array([[0, 0]])
    direction = score_direction(path, Interactions(pairs, pairs, 4, 6), 5, user)

    def scores(of):
        users, items = fold(form, weights.tables, of / np.float32(2.5))
        matrix = users @ items.T
        return matrix.mean(axis=0) if user is None else matrix[user]

    np.testing.assert_allclose(
        features @ direction, scores(features) - scores(0 * features), atol=1e-6
    )


def test_the_size_of_an_object():
    images = np.full((3, 50, 50, 3), 250, np.uint8)
    images[0, 10:30, 10:35] = (250, 200, 250)
    images[1, 10:30, 10:35] = 235  # a shadow
    images[2, :, 10:20] = 0  # cuts the frame
    assert object_size(images).tolist() == [20 * 25 / 2500, 0, 0.2]


def write_boxes(path, *rows):
    pd.DataFrame(rows, columns=["item", "x0", "y0", "x1", "y1"]).to_csv(path, index=False)
    return path


def test_cells_of_boxes(tmp_path):
    path = write_boxes(tmp_path / "boxes.csv", (3, 0, 0, 20, 5), (3, 0, 0, 5, 10), (9, 0, 0, 1, 1))
    cells = read_object_cells(path, np.array([1, 3]), np.array([[20, 10], [20, 10]]), (2, 4))
    assert not cells[0].any()
    assert cells[1].astype(int).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("row", "message"),
    [((3, 5, 0, 5, 5), "line 2"), ((3, 0, 0, 21, 5), "item 3"), ((3, "a", 0, 5, 5), "line 2")],
)
def test_boxes_that_are_none(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read_object_cells(
            write_boxes(tmp_path / "boxes.csv", row), np.array([3]), np.array([[20, 10]]), (2, 4)
        )


def test_a_table_without_boxes(tmp_path):
    (tmp_path / "boxes.csv").write_text("item,x\n1,2\n")
    with pytest.raises(UserError, match="lacks the columns x0"):
        read_object_cells(tmp_path / "boxes.csv", np.array([3]), np.array([[20, 10]]), (2, 4))


# Tables


def test_a_row_by_hand(observed):
    objects = np.zeros((3, GRID, GRID), bool)
    objects[0, 0] = True
    row = attention_table(observed, np.array([0.1, 0.2, 0.3]), objects).iloc[0]
    assert (row["image"], row["success"], row["object_size"]) == (0, 1, 0.1)
    # Red is in 2 of 16 cells of the clean image and green in 1; in the attacked one it is the other
    # way round. Logits are 20 times that.
    logits = 20 * np.array([2, 1, 0]) / 16
    odds = np.exp(logits)
    assert row["p_origin_clean"] == pytest.approx(odds[0] / odds.sum())
    assert row["p_target_attacked"] == pytest.approx(odds[0] / odds.sum())
    assert row["margin"] == pytest.approx(20 / 16)
    # One of two top cells is left; ties go to the lower index, which is the other red cell.
    assert row["class_iou_top"] == 1
    # One of the red cells is left: half of the positive part is now in another place.
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    middle = (p + q) / 2
    js = sum(
        0.5 * x * np.log2(x / m) for of in (p, q) for x, m in zip(of, middle, strict=True) if x
    )
    assert row["class_js"] == pytest.approx(js)
    # The centre moves from (0, 0.5) to (0, 0), in units of the diagonal.
    assert row["class_centroid_distance"] == pytest.approx(0.5 / np.hypot(3, 3))
    assert row["class_entropy_clean"] == pytest.approx(np.log(2) / np.log(16))
    assert row["class_entropy_attacked"] == pytest.approx(0)
    assert row["class_entropy_change"] == pytest.approx(-np.log(2) / np.log(16))
    assert row["class_inc3"] == pytest.approx(
        1 - row["p_origin_clean"] + observed.erased["class"][0]
    )
    # The box is the first row, of which two cells are attended; of its four best cells all are in it.
    assert row["class_inc1"] == pytest.approx(0.5)
    assert row["class_inc2"] == pytest.approx(0)
    # Predicted: from red cells to green ones, with none in common.
    assert row["predicted_js"] == pytest.approx(1)
    # Its control: in the clean image, too, what is green is elsewhere.
    assert row["relabelled_js"] == pytest.approx(1)


def test_images_that_nothing_moved(observed):
    row = attention_table(observed, np.zeros(3)).iloc[1]
    for read_out in ("class", "predicted", "target"):
        assert row[f"{read_out}_iou_top"] == 1 and row[f"{read_out}_js"] == 0
        assert row[f"{read_out}_entropy_change"] == 0
    assert "class_inc1" not in row


def simulated(n: int = 120, *, minimal: bool = True) -> Observed:
    """Return random maps; successful attacks moved the map of the origin and have small margins."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (n, 4)).astype(np.float32)
    logits[:, 0] += 4
    success = rng.random(n) < 1 / (1 + np.exp(logits[:, 0] - 4))
    maps = {name: rng.random((n, 5, 5), np.float32) for name in ("class", "predicted", "target")}
    noise = rng.random((n, 5, 5), np.float32)
    moved = {
        name: np.where(success[:, None, None], 0.5, 0.1) * noise + of for name, of in maps.items()
    }
    return Observed(
        image_ids=np.arange(n) * 2,
        success=success,
        origin=0,
        target=1,
        share=0.125,
        clean=Seen(logits, maps),
        attacked=Seen(np.roll(logits, 1, axis=1), moved),
        erased={name: rng.random(n) for name in maps},
        minimal_eps=np.where(rng.random(n) < 0.1, np.inf, rng.random(n)) if minimal else None,
    )


@pytest.fixture(scope="module")
def tables():
    table = attention_table(simulated(), np.random.default_rng(1).random(120))
    return table, attention_summary(table)


def test_the_table_holds_the_measures_of_all_maps(tables):
    table, _ = tables
    observed = simulated()
    before, after = observed.clean.maps["target"], observed.attacked.maps["target"]
    for name, values in shift(before, after).items():
        np.testing.assert_allclose(table[f"target_{name}"], values)
    change = scatter(after)["spread"] - scatter(before)["spread"]
    np.testing.assert_allclose(table["target_spread_change"], change)


def test_planted_moves_are_found_and_nothing_else(tables):
    table, summary = tables
    found = summary.set_index(["outcome", "read_out", "measure"])
    moved = found.loc[SUCCESS, "class", "1 - pearson"]
    success = table["success"].astype(bool)
    values = 1 - table["class_pearson"]
    assert moved["mean_success"] == pytest.approx(values[success].mean())
    assert moved["difference"] == pytest.approx(values[success].mean() - values[~success].mean())
    assert moved["difference_low"] > 0 and moved["auc_low"] > 0.8
    assert moved["mann_whitney_p"] < 1e-6
    margin = found.loc[SUCCESS, "image", "-margin"]
    assert margin["auc"] > 0.6 and margin["odds"] > 1.2 and margin["controlled_p"] < 0.05
    # The cost of erasing is a part of the margin, and adds nothing to it.
    confounded = found.loc[SUCCESS, "target", "inc3"]
    assert confounded["auc_low"] > 0.5
    assert confounded["controlled_low"] < 1 < confounded["controlled_high"]


def test_every_measure_stands_in_the_summary_once_for_each_outcome(tables):
    table, summary = tables
    assert not summary.duplicated(["outcome", "read_out", "measure"]).any()
    assert len(summary) == 2 * len(measures_of(table))
    assert set(summary["outcome"]) == {SUCCESS, EASY}
    assert summary.loc[summary["outcome"] == EASY, "rho"].notna().all()
    assert summary.loc[summary["outcome"] == SUCCESS, "rho"].isna().all()


def test_an_outcome_that_all_images_share_gives_way(tables):
    table, _ = tables
    assert outcome_to_show(table) == SUCCESS
    assert outcome_to_show(table.assign(success=1)) == EASY
    same = table.assign(success=1).drop(columns="minimal_eps")
    assert outcome_to_show(same) == SUCCESS
    summary = attention_summary(same)
    assert (summary["odds_problem"] == "one outcome").all() and summary["auc"].isna().all()
    assert "no two outcomes" in attention_overview(same, summary)


def test_the_overview_survives_the_file(tables, tmp_path):
    """A table that is up to date is read from its file."""
    table, summary = tables
    read = []
    for name, frame in (("table", table), ("summary", summary)):
        frame.to_csv(tmp_path / name, sep="\t", index=False)
        read.append(pd.read_csv(tmp_path / name, sep="\t"))
    assert attention_overview(*read) == attention_overview(table, summary)
    assert "1 - pearson" in attention_overview(table, summary)


def test_explanations_beside_maps(observed, colours, folders, monkeypatch):
    """Explanations support the left half of clean images and the upper half of attacked ones."""
    asked = []

    def halves(extractor, images, classes, *, seed, batch_size):
        asked.append((images, classes, seed))
        mask = -np.ones(images.shape[:3], np.int8)
        if len(asked) == 1:
            mask[:, :, : GRID * CELL // 2] = 1
        else:
            mask[:, : GRID * CELL // 2] = 1
        return mask

    monkeypatch.setattr(attention_study, "explain", halves)
    explained = study_of(colours).explain(*folders, observed, 2, seed=3)
    assert len(explained.rows) == 2 and (np.diff(explained.rows) > 0).all()
    for (images, classes, seed), pictures, seen in zip(
        asked, (CLEAN, ATTACKED), (observed.clean, observed.attacked), strict=True
    ):
        np.testing.assert_array_equal(images, np.stack(pictures)[explained.rows])
        assert classes.tolist() == seen.predicted[explained.rows].tolist() and seed == 3
    table = attention_table(replace(observed, explained=explained), np.zeros(3))
    np.testing.assert_allclose(table["lime_iou"][explained.rows], 1 / 3)
    assert table["lime_iou"].isna().sum() == 1
    agreement = attention_agreement(
        explained.attacked, observed.attacked.maps["predicted"][explained.rows]
    )
    np.testing.assert_allclose(table["lime_agreement_attacked"][explained.rows], agreement)
    summary = attention_summary(table).set_index("read_out")
    assert summary.loc["lime", "measure"] == "1 - iou" and summary.loc["lime", "missing"] == 1


# Figures


def test_which_images_are_shown(tables):
    observed = simulated()
    rows = rows_to_draw(observed, tables[0])
    moved = 1 - tables[0]["class_pearson"].to_numpy()
    assert observed.success[rows].tolist() == [True] * 3 + [False] * 3
    assert moved[rows[:3]].tolist() == sorted(moved[observed.success])[:-4:-1]
    assert moved[rows[3:]].tolist() == sorted(moved[~observed.success])[:3]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_images_and_no_failures(n):
    observed = simulated(n)
    all_hit = replace(observed, success=np.ones(n, bool))
    rows = rows_to_draw(all_hit, attention_table(all_hit, np.zeros(n)))
    assert sorted(rows) == list(range(n))


def test_figures_are_drawn(tables, tmp_path):
    observed = simulated()
    picture = np.full((40, 40, 3), 200, np.uint8)
    shown = [Shown(row, picture, picture + 3, picture) for row in (0, 5)]
    draw_panels(observed, shown, ["red", "green, or so", "blue", "grey"], tmp_path / "panels.png")
    draw_outcomes(tables[0], tmp_path / "outcomes.png")
    for name in ("panels.png", "outcomes.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 400
            assert np.asarray(image.convert("L")).std() > 5


# The script

N_IMAGES = 12
ARCH = "squeezenet1_1"
OUTPUTS = (
    "attention.tsv",
    "attention_summary.tsv",
    "attention_panels.png",
    "attention_scatter.png",
)


def script(name, root, *arguments):
    common = ("--root", root, "--dataset", "shop", "--gpu", -1, "--model_file", root / "plain.pt")
    return run_script(name, *common, *arguments)


@pytest.fixture(scope="module")
def attacked_shop(tmp_path_factory):
    """Data set after stages 1 and 3 with a recommender's weights, and the options of its attacks."""
    root = tmp_path_factory.mktemp("shop")
    layout = Layout("shop", root)
    draw_pictures(layout.images, N_IMAGES)
    write_data(layout, [(0, 0), (1, N_IMAGES - 1)], [(0, 1)])
    save_classifier(root / "plain.pt")
    assert script("classify_extract", root) == 0
    for label, form in (("VBPR", "shared"), ("BPRMF", "mf")):
        hyperparameters = Hyperparameters(form=form, factors=4)
        weights = initial_weights(
            table_shapes(2, N_IMAGES, 512, hyperparameters), hyperparameters, 1, 0
        )
        path = root / "rec_model_weights" / "shop" / f"original_step3_{label}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_weights(path, weights)
    numbers = read_classes(root / "data" / "shop" / "original" / "classes.csv").classes
    origin = int(np.bincount(numbers, minlength=4).argmax())
    attack = ["--origin_class", origin, "--target_class", (origin + 1) % 4, "--eps", 1]
    assert script("classify_extract_attack", root, *attack) == 0
    return root, attack


@pytest.fixture
def shop(attacked_shop, tmp_path):
    shutil.copytree(attacked_shop[0], tmp_path / "root")
    return tmp_path / "root", attacked_shop[1]


def folder_of(root):
    (folder,) = (root / "data" / "shop").glob("pgd_*")
    return folder


def test_the_script_from_images_to_figures(shop, capsys):
    root, attack = shop
    score = ["--score_model", "VBPR", "--score_epoch", 3]
    boxes = write_boxes(root / "boxes.csv", *((item, 4, 4, 40, 30) for item in range(N_IMAGES)))
    options = [*attack, *score, "--boxes", boxes, "--minimal_eps", 4]
    assert script("audits.attention", root, *options) == 0
    said = capsys.readouterr().out
    assert "Did attention move further" in said and "attention_scatter.png" in said
    folder = folder_of(root)
    assert all((folder / name).is_file() for name in OUTPUTS)
    assert not list(folder.glob(".partial-*"))

    report = pd.read_csv(folder / "attack.tsv", sep="\t")
    table = pd.read_csv(folder / "attention.tsv", sep="\t")
    assert table["image"].tolist() == report["image"].tolist()
    assert table["success"].tolist() == report["success"].tolist()
    # The probabilities are those that stages 1 and 3 found.
    classes = pd.read_csv(folder / "classes.csv")
    np.testing.assert_allclose(table["p_origin_clean"], classes["ProbStart"], atol=1e-5)
    assert table["attacked_class"].tolist() == classes["ClassNum"].tolist()
    for name in ("class_iou_top", "predicted_js", "target_inc3", "score_inc1", "relabelled_ssim"):
        assert table[name].notna().any(), name
    # Unrounded attacks from the clean image and stored ones from a random start agree roughly.
    assert (table["minimal_eps"][table["success"] == 1] <= 4).all()
    summary = pd.read_csv(folder / "attention_summary.tsv", sep="\t")
    assert set(summary["read_out"]) == {
        *("image", "class", "predicted", "target", "score", "relabelled")
    }

    before = {name: (folder / name).read_bytes() for name in OUTPUTS}
    assert script("audits.attention", root, *options) == 0
    assert "up to date" in capsys.readouterr().out
    assert script("audits.attention", root, *options, "--force") == 0
    assert {name: (folder / name).read_bytes() for name in OUTPUTS} == before
    capsys.readouterr()
    item = int(table["image"].iloc[-1])
    assert script("audits.attention", root, *options, "--drawn", item) == 0
    assert "up to date" not in capsys.readouterr().out
    assert (folder / "attention.tsv").read_bytes() == before["attention.tsv"]
    assert (folder / "attention_panels.png").read_bytes() != before["attention_panels.png"]


def test_a_single_user_s_score_is_another_read_out(shop):
    root, attack = shop
    weights = root / "rec_model_weights" / "shop" / "original_step3_VBPR.npz"
    tables = []
    for user in ([], ["--user", 1]):
        assert script("audits.attention", root, *attack, "--weights", weights, *user) == 0
        tables.append(pd.read_csv(folder_of(root) / "attention.tsv", sep="\t"))
    assert not np.allclose(tables[0]["score_entropy_clean"], tables[1]["score_entropy_clean"])
    pd.testing.assert_series_equal(tables[0]["class_js"], tables[1]["class_js"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eps", "2"], "no attacked experiment at"),
        (["--share", "1"], "--share must be above 0 and below 1"),
        (["--minimal_eps", "0"], "--minimal_eps must be above 0"),
        (["--lime", "-1"], "--lime must not be negative"),
        (["--drawn", "99"], "no image for item 99"),
        (["--layer", "nowhere"], "no spatial layer 'nowhere'"),
        (["--score_model", "VBPR"], "run rec_generator.py"),
        (["--score_model", "SVD"], "'SVD' is no recommender"),
        (["--score_model", "BPRMF", "--score_epoch", "3"], "BPRMF reads no images"),
        (["--score_model", "VBPR", "--score_epoch", "3", "--user", "2"], "users 0 to 1"),
        (["--score_model", "VBPR", "--weights", "x"], "not allowed with"),
        (["--weights", "x.npz"], "missing file: x.npz"),
        (["--weights", __file__], "does not name weights"),
        (["--user", "1"], "--user needs a recommender"),
        (["--boxes", "missing.csv"], "missing file: missing.csv"),
    ],
)
def test_bad_input_is_one_line(attacked_shop, capsys, arguments, message):
    root, attack = attacked_shop
    code = script("audits.attention", root, *attack, *arguments)
    error = capsys.readouterr().err.rstrip("\n").split("\n")[-1]
    assert code == 2 and message in error and error.startswith("error: "), error
    assert not (folder_of(root) / "attention.tsv").exists()


def test_another_extractor_than_the_attacked_one_is_refused(shop, capsys):
    root, attack = shop
    torch.manual_seed(1)
    other = build_extractor(ARCH, [f"kind {n}" for n in range(4)])
    save_extractor(root / "plain.pt", other)
    assert script("audits.attention", root, *attack) == 2
    assert "use the same extractor" in capsys.readouterr().err
