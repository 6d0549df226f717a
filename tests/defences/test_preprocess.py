"""Option ``--preprocess``: a defence in front of the extractor, from stage 1 to the measures."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.artifacts.classes import read_attacked_classes, read_classes
from src.artifacts.features import read_features
from src.artifacts.item_classes import write_item_categories
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record
from src.attacks.storage import to_pixels
from src.datasets.catalogue import open_catalogue
from src.extractors.checkpoints import load_extractor
from tests.pictures import draw_pictures, save_classifier
from tests.scripts import run_script

N_IMAGES = 8
JPEG = ("--preprocess", "jpeg:quality=50")


def script(name, root, *arguments):
    common = ("--root", root, "--dataset", "shop", "--gpu", -1, "--workers", 0)
    return run_script(name, *common, "--model_file", root / "plain.pt", *arguments)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Data set after stage 1, without a defence and through JPEG."""
    root = tmp_path_factory.mktemp("shop")
    draw_pictures(Layout("shop", root).images, N_IMAGES)
    save_classifier(root / "plain.pt")
    assert script("classify_extract", root) == 0
    assert script("classify_extract", root, *JPEG) == 0
    return root


@pytest.fixture(scope="module")
def pair(shop):
    """Options with the defended extractor's most frequent class as origin, and another as target."""
    classes = read_classes(shop / "data/shop/jpeg-quality50_original/classes.csv")
    origin = int(np.bincount(classes.classes, minlength=4).argmax())
    return ["--origin_class", origin, "--target_class", (origin + 1) % 4]


def decoded(images, quality=50):
    """Return ``images`` (N, H, W, 3) after Pillow has written them as JPEG and read them back."""
    left = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        left.append(np.asarray(Image.open(stream)))
    return np.stack(left)


def predicted(root, folder, through_jpeg=True):
    catalogue = open_catalogue(folder, resize=0)
    images = catalogue.batch(np.arange(len(catalogue)))
    extractor = load_extractor(None, root / "plain.pt")
    with torch.no_grad():
        return extractor(to_pixels(decoded(images) if through_jpeg else images))


def test_stage_1_describes_what_the_encoder_leaves_of_the_files(shop):
    folder = shop / "data/shop"
    expected = predicted(shop, folder / "original/images")
    features = read_features(folder / "jpeg-quality50_original/features.npy")
    np.testing.assert_allclose(features, expected.features, rtol=1e-4, atol=1e-5)
    plain = read_features(folder / "original/features.npy")
    assert not np.allclose(features, plain, rtol=1e-2)


def test_manifests_name_the_defence_only_where_there_is_one(shop):
    folder = shop / "data/shop"
    defended, plain = (
        read_record(folder / name / "classes.csv")["options"]
        for name in ("jpeg-quality50_original", "original")
    )
    assert defended == {**plain, "preprocess": "jpeg:quality=50"}
    assert "preprocess" not in plain


@pytest.fixture(scope="module")
def attacked(shop, pair):
    """Folders of the experiments of an attack that knows the defence, and of one that does not."""
    for unaware in ([], ["--unaware"]):
        assert script("classify_extract_attack", shop, *pair, *JPEG, *unaware) == 0
    origin, target = pair[1], pair[3]
    name = f"jpeg-quality50_pgd_{origin}_{target}_eps8.0_eps_it8.0_nb_it10_linf"
    return shop / "data/shop" / name, shop / "data/shop" / f"{name}_unaware"


def test_stored_images_are_judged_through_the_defence(shop, pair, attacked):
    for folder in attacked:
        expected = predicted(shop, folder / "images")
        classes, _ = read_attacked_classes(folder / "classes.csv")
        assert classes.classes.tolist() == expected.logits.argmax(dim=1).tolist()
        features = read_features(folder / "features.npy")[classes.image_ids]
        np.testing.assert_allclose(features, expected.features, rtol=1e-4, atol=1e-5)
        report = pd.read_csv(folder / "attack.tsv", sep="\t")
        assert report["success"].tolist() == (classes.classes == pair[3]).astype(int).tolist()
        assert report["linf"].max() <= 8


def margins(root, pair, folder, through_jpeg):
    """Return the mean lead of the target over the origin in the attacked images."""
    logits = predicted(root, folder / "images", through_jpeg).logits
    return float((logits[:, pair[3]] - logits[:, pair[1]]).mean())


def test_each_attack_is_best_at_what_it_knows(shop, pair, attacked):
    knowing, unaware = attacked
    through = [margins(shop, pair, folder, True) for folder in (knowing, unaware)]
    plain = [margins(shop, pair, folder, False) for folder in (knowing, unaware)]
    assert through[0] > through[1]
    assert plain[1] > plain[0]


def test_an_unaware_attack_finds_what_it_finds_on_the_undefended_network(shop, pair, attacked):
    """The attack starts from the images that the defended network puts into the class."""
    assert script("classify_extract_attack", shop, *pair) == 0
    name = attacked[1].name.removeprefix("jpeg-quality50_").removesuffix("_unaware")
    undefended = shop / "data/shop" / name / "images"
    images = {file.name: file.read_bytes() for file in undefended.iterdir()}
    if sorted(images) != sorted(file.name for file in (attacked[1] / "images").iterdir()):
        pytest.skip("the defence changes which images are attacked")
    assert images == {file.name: file.read_bytes() for file in (attacked[1] / "images").iterdir()}


def test_the_measures_find_the_experiment_by_the_same_options(shop, pair, attacked):
    for name in ("evaluate_attack", "feature_loss"):
        options = [*pair, *JPEG, "--attack_type", "pgd", "--eps", 8]
        assert script(name, shop, *options) == 0
        assert script(name, shop, *options, "--unaware") == 0
    for folder in attacked:
        assert any("features_dist" in file.name for file in folder.iterdir())


def test_a_study_of_attention_looks_through_the_defence(shop, pair, attacked):
    assert script("audits.attention", shop, *pair, *JPEG) == 0
    record = read_record(attacked[0] / "attention.tsv")
    assert record["options"]["preprocess"] == "jpeg:quality=50"


def test_robust_accuracy_through_a_defence(shop, tmp_path):
    labels = [f"kind {number}" for number in range(4)]
    write_item_categories(shop / "data/shop/items.csv", np.arange(N_IMAGES) % 4, labels)
    options = ["--dataset", "catalogue", "--data", shop / "data/shop", "--part", "all", *JPEG]
    options += ["--checkpoint", shop / "plain.pt", "--attacks", "clean", "fgsm"]
    options += ["--gpu", -1, "--out", tmp_path / "robust.tsv"]
    assert run_script("audits.robustness", *options) == 0
    table = pd.read_csv(tmp_path / "robust.tsv", sep="\t")
    assert set(table["recipe"]) == {"plain.jpeg-quality50"}


NOISE = ("--preprocess", "random_noise:sigma=0.05")


@pytest.fixture(scope="module")
def noisy(shop):
    """Folder of an attack that takes means over draws of a random defence."""
    assert script("classify_extract", shop, *NOISE) == 0
    classes = read_classes(shop / "data/shop/random_noise-sigma0.05_original/classes.csv")
    origin = int(np.bincount(classes.classes, minlength=4).argmax())
    pair = ["--origin_class", origin, "--target_class", (origin + 1) % 4]
    attack = [*pair, *NOISE, "--attack_type", "pgd", "--nb_iter", 2, "--eot", 3]
    assert script("classify_extract_attack", shop, *attack) == 0
    (folder,) = (shop / "data/shop").glob("random_noise*_pgd_*")
    return folder


def test_a_random_defence_is_judged_in_fresh_draws(noisy):
    assert noisy.name.endswith("_eot3")
    report = pd.read_csv(noisy / "attack.tsv", sep="\t")
    assert (report["draws_mean"] <= report["draws_worst"]).all()
    assert report["draws_mean"].between(0, 1).all()
    assert (report["passes"] == 2 * 3).all()
    assert read_record(noisy / "classes.csv")["options"]["eot"] == 3


def test_stage_1_through_a_random_defence_repeats_its_draws(shop, noisy):
    path = shop / "data/shop/random_noise-sigma0.05_original/features.npy"
    before = path.read_bytes()
    assert script("classify_extract", shop, *NOISE, "--force") == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("classify_extract", ["--preprocess", "jpeg:quality=x"], "whole number from 1 to 100"),
        ("classify_extract", ["--preprocess", "resize:side=48"], "would not shrink images of 48x48"),
        ("classify_extract_attack", ["--preprocess", "jpeg:quality=60"], "--preprocess jpeg:quality=60"),
        ("classify_extract_attack", ["--unaware"], "add --preprocess"),
        ("classify_extract_attack", [*JPEG, "--eot", "10"], "a random defence in --preprocess"),
        ("classify_extract_attack", [*NOISE, "--eot", "0"], "--eot must be at least 1"),
        ("classify_extract_attack", [*NOISE, "--eot", "2", "--attack_type", "ddn"], "it has --eot 1"),
        ("classify_extract_attack", [*JPEG, "--fidelity", "paper"], "leave one of them out"),
        ("classify_extract_attack", [*JPEG, "--unaware", "--attack_type", "noise"], "noise sees none"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line(shop, capsys, name, arguments, message):
    before = sorted(path.name for path in (shop / "data/shop").iterdir())
    assert script(name, shop, *arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1] and said[-1].startswith("error: ")
    assert sorted(path.name for path in (shop / "data/shop").iterdir()) == before
