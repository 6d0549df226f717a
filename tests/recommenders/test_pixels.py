"""Recommenders that read pixels: what they read, both protocols, attacks and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import classify_extract_attack
import rec_generator
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.tables import read_top_k
from src.attacks.list_goals import list_goal
from src.attacks.registry import PGD
from src.attacks.victim import ExtractorVictim
from src.datasets.interactions import load_interactions
from src.extractors.recorded import RecordedExtractor
from src.recommenders.audience import audience_of
from src.recommenders.data import TrainingData
from src.recommenders.dvbpr import DVBPR
from src.recommenders.hyperparameters import NetworkHyperparameters
from src.recommenders.pixels import read_pixels
from src.recommenders.read_out import load_recommender
from tests.scripts import run_script
from tests.small_shops import write_data

N_USERS, N_ITEMS, SIDE = 5, 8, 6
ATTACKED = "fgsm_1_0_eps8.0_linf"
SMALL = "--epoch 2 --batch_size 8 --hidden 4 --emb1_K 3 --lr 1e-3 --regs 0 --topk 3 --gpu -1"
NAMED = "_K3_batch8_lr0.001_regs0_hidden4"


def write_images(folder: Path, ids: list[int], ending: str, side: int = SIDE) -> np.ndarray:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(len(ids)).integers(0, 256, (len(ids), side, side, 3), np.uint8)
    for item, image in zip(ids, pixels, strict=True):
        Image.fromarray(image).save(folder / f"{item}.{ending}")
    return pixels


@pytest.fixture
def layout(tmp_path) -> Layout:
    """Eight items of which the attacked experiment has changed the image of item 3."""
    layout = Layout("tiny", tmp_path)
    rng = np.random.default_rng(0)
    has = rng.random((N_USERS, N_ITEMS)) < 0.4
    has[:, 0], has[:, 1] = True, False
    of = {name: rng.random((N_ITEMS, 4)) for name in ("original", ATTACKED)}
    write_data(layout, np.argwhere(has), [(user, 1) for user in range(N_USERS)], features=of)
    write_images(layout.images, list(range(N_ITEMS)), "png")
    write_images(layout.data / ATTACKED / "images", [3], "tiff")
    classes = layout.classes(Experiment())
    classes.write_text("")
    recorded = RecordedExtractor("none", "", 0, "fp32")
    Manifest.of("classify_extract", recorded.options(), ()).write([classes])
    return layout


def call(script, layout: Layout, words: str) -> int:
    return run_script(script, "--dataset", "tiny", "--root", layout.root, *words.split())


def fitted(layout: Layout) -> tuple[DVBPR, TrainingData]:
    pixels = read_pixels(layout, Experiment())
    data = TrainingData(load_interactions(layout, N_ITEMS), pixels)
    small = NetworkHyperparameters(None, 3, 8, (1e-3,) * 3, (0.0,) * 3, hidden=16)
    return DVBPR.fit(data, 0, hyperparameters=small, epochs=1), data


def test_an_attacked_experiment_is_the_clean_images_with_the_attacked_ones(layout):
    clean, attacked = (read_pixels(layout, Experiment.parse(of)) for of in ("original", ATTACKED))
    assert clean.shape == (N_ITEMS, 3 * SIDE**2) and clean.dtype == np.uint8
    np.testing.assert_array_equal((clean != attacked).any(axis=1), np.arange(N_ITEMS) == 3)
    stored = np.asarray(Image.open(layout.data / ATTACKED / "images/3.tiff"))
    np.testing.assert_array_equal(attacked[3].reshape(SIDE, SIDE, 3), stored)


def test_images_of_several_sizes_are_refused(layout):
    Image.new("RGB", (SIDE, SIDE + 1)).save(layout.images / "2.png")
    with pytest.raises(UserError, match="several sizes"):
        read_pixels(layout, Experiment())


def test_lists_at_test_time_are_those_of_the_attacked_images(layout):
    options = f"--model DVBPR {SMALL}"
    assert call(rec_generator, layout, options) == 0
    test_time = f"{options} --experiment_name {ATTACKED} --load_weights_from original"
    assert call(rec_generator, layout, test_time) == 0
    path = layout.root / f"rec_model_weights/tiny/original_step2_DVBPR{NAMED}.npz"
    data = TrainingData(
        load_interactions(layout, N_ITEMS), read_pixels(layout, Experiment.parse(ATTACKED))
    )
    users, items = load_recommender(path, data)[1].factors(data.features)
    (name,) = (p.stem for p in layout.recommendations_dir.glob(f"{ATTACKED}*.tsv"))
    lists = read_top_k(layout.recommendations(Run.parse(name)))
    scores = np.take_along_axis(users @ items.T, lists.items, axis=1)
    np.testing.assert_allclose(lists.scores, scores, rtol=1e-5)


def test_an_attack_through_the_network_raises_the_scores_that_rank(layout):
    recommender, data = fitted(layout)
    ids = np.array([3, 6])
    extractor = recommender.extractor(torch.device("cpu"))
    goal = list_goal("score", audience_of(recommender, data, ids, 2), torch.device("cpu"))
    levels = data.features[ids].reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2)
    images = torch.from_numpy(levels.astype(np.float32) / 255)
    torch.manual_seed(0)
    attacked = PGD(eps=8.0, eps_iter=2.0, nb_iter=5)(ExtractorVictim(extractor), images, goal)
    assert (attacked - images).abs().max() <= 8 / 255 + 1e-6
    moved = data.features.astype(np.float32)
    moved[ids] = (255 * attacked).permute(0, 2, 3, 1).reshape(2, -1).numpy()
    means = [
        (users @ items[ids].T).mean()
        for users, items in map(recommender.factors, (data.features, moved))
    ]
    assert means[1] > means[0]


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("ACF", "--objective rank", "moves the lists of the users who have its item"),
        ("ACF", "--objective expa --target_item 0", "takes no --objective expa"),
        ("DVBPR", "--objective rank --target_item 0", "DVBPR reads an image for its own item"),
        ("LightGCN", "--objective rank", "LightGCN does not look at images"),
        ("ACF", "--target_item 0", "--target_item is for an --objective in lists"),
        ("DVBPR", "--objective rank --preprocess jpeg:quality=50", "its own network"),
    ],
)
def test_attacks_that_cannot_be_made_are_refused_in_one_line(layout, capsys, model, words, message):
    path = layout.weights(Run(Experiment(), model, 2))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    options = f"--weights {path} --items random:2 {words}"
    code = call(classify_extract_attack, layout, options)
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert code == 2 and len(errors) == 1
    assert message in errors[0]
