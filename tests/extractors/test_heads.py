"""Heads of extractors: class means by hand, and stages 1 to 3 with a network that has no classes."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.artifacts.classes import read_attacked_classes, read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.item_classes import ItemClasses, read_item_classes
from src.artifacts.layout import Layout
from src.artifacts.manifest import fingerprint, read_record
from src.artifacts.tables import write_pairs
from src.attacks.goals import ClassGoal
from src.attacks.victim import ExtractorVictim
from src.cli import extractor_options
from src.datasets.catalogue import open_catalogue
from src.extractors.architectures import build_extractor
from src.extractors.checkpoints import load_extractor, save_extractor
from src.extractors.extractor import Prediction, fast_copy
from src.extractors.heads import LEAD, ClassMeans, NoHead
from src.extractors.recorded import RecordedExtractor
from tests.scripts import run_script

N_ITEMS = 12
NAMES = ("bags", "hats", "shoes")
ARCH = "cifar_resnet8"
DINO = "timm:vit_small_patch14_dinov2.lvd142m"


def test_class_means_by_hand():
    head = ClassMeans(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
    features = torch.tensor([[0.0, 0.0], [3.0, 2.0]])
    expected = torch.tensor([[0.0, -25.0, -4.0], [-13.0, -4.0, -9.0]])
    torch.testing.assert_close(head(features, features), expected)
    sharper = ClassMeans(head.means, 0.5)
    torch.testing.assert_close(sharper(features, features), expected / 2)


def test_gradients_of_class_means_point_to_the_mean():
    """The gradient is d(-|f - m|^2)/df = 2 (m - f)."""
    head = ClassMeans(torch.tensor([[1.0, 5.0], [-2.0, 0.0]]))
    features = torch.tensor([[0.5, -1.0]], requires_grad=True)
    head(features, features)[0, 0].backward()
    torch.testing.assert_close(features.grad, torch.tensor([[1.0, 12.0]]))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_leads_of_a_catalogue_do_not_depend_on_the_scale_of_features(scale):
    rng = np.random.default_rng(0)
    features = scale * rng.standard_normal((N_ITEMS, 5)).astype(np.float32)
    items = ItemClasses(None, np.arange(N_ITEMS), np.arange(N_ITEMS) % 3, NAMES)
    head = ClassMeans.of(features, items)
    for number in range(3):
        np.testing.assert_allclose(head.means[number], features[number::3].mean(axis=0), rtol=1e-4)
    read = torch.from_numpy(features)
    logits = head(read, read)
    distances = np.linalg.norm(features[:, None] - head.means.numpy(), axis=2)
    assert logits.argmax(dim=1).tolist() == distances.argmin(axis=1).tolist()
    best = logits.sort(dim=1).values
    assert (best[:, -1] - best[:, -2]).mean().item() == pytest.approx(LEAD, rel=1e-3)


def test_class_means_must_be_finite():
    with pytest.raises(ValueError, match="NaN or infinite"):
        ClassMeans(torch.tensor([[0.0, torch.inf]]))


def test_an_extractor_with_class_means_reads_the_features_of_the_linear_one(tmp_path):
    torch.manual_seed(0)
    linear = build_extractor(ARCH, NAMES).eval()
    save_extractor(tmp_path / "net.pt", linear)
    images = torch.rand(3, 3, 32, 32)
    headless = load_extractor(None, tmp_path / "net.pt", head="none")
    assert headless(images).logits is None and headless.n_classes == 0
    torch.testing.assert_close(headless(images).features, linear(images).features)

    head = ClassMeans(linear(images).features.detach())
    means = headless.replaced(head=head, labels=NAMES)
    assert means.labels == NAMES and means.n_features == linear.n_features
    assert means(images).logits.argmax(dim=1).tolist() == [0, 1, 2]
    victim = ExtractorVictim(means, "normalised", fast=True)
    points = victim.to_points(images)
    torch.testing.assert_close(
        victim(points).logits, fast_copy(means)(images).logits, rtol=1e-4, atol=1e-4
    )
    with pytest.raises(ValueError, match="3 outputs for 2 labels"):
        headless.replaced(head=head, labels=NAMES[:2])
    with pytest.raises(ValueError, match="no linear head"):
        _ = means.head_name


def test_tokens_are_averaged():
    class Tokens(torch.nn.Module):
        def forward(self, images):
            return images.flatten(2).transpose(1, 2)

    from src.extractors.extractor import Extractor

    extractor = Extractor(Tokens(), (), NoHead(), mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(extractor(images).features, images.mean(dim=(2, 3)))


def test_without_a_head_no_class_is_a_goal():
    goal = ClassGoal(torch.tensor([0]))
    prediction = Prediction(None, torch.zeros(1, 3))
    for ask in (goal, goal.missed_by, goal.reached):
        with pytest.raises(UserError, match="scores no classes"):
            ask(prediction)


# The table of the items' classes.
def test_classes_are_numbered_by_their_names(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('2,shoes\n0,"bags, red"\n\n1,shoes\n')
    found = read_item_classes(path)
    assert found.labels == ("bags, red", "shoes")
    assert (found.items.tolist(), found.classes.tolist()) == ([0, 1, 2], [0, 1, 1])
    assert found.class_of("shoes", "origin_class") == found.class_of("1", "origin_class") == 1
    path.write_text("id,category,item\nx,10,0\ny,9,1\n")
    found = read_item_classes(path)
    assert found.labels == ("9", "10") and found.classes.tolist() == [1, 0]
    assert found.class_of("10", "origin_class") == 1
    path.write_text("item,category,label\n0,3,hats\n1,1,shoes\n")
    assert read_item_classes(path).labels == ("hats", "shoes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no items"),
        ("item,category\n", "has no items"),
        ("item,kind\n0,shoes\n", "lacks the columns category"),
        ("0,shoes\n1, \n", "line 2: the category of item 1 has no name"),
        ("0,shoes\nx,hats\n", "line 2: item 'x' is not a whole number"),
        ("0,shoes\n0,hats\n", "line 2: item 0 appears twice"),
        ("0,shoes\n1\n", "line 2: expected an item and its category"),
    ],
)
def test_tables_that_give_no_classes(text, message, tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_item_classes(path)


def test_every_item_has_a_class_and_every_class_an_item(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("0,shoes\n2,hats\n")
    found = read_item_classes(path)
    found.require_items(np.array([0, 2]))
    with pytest.raises(UserError, match="no class of item 1"):
        found.require_items(np.arange(3))
    with pytest.raises(UserError, match="no image of item 2"):
        found.require_items(np.array([0]))
    with pytest.raises(UserError, match=r"--target_class ties: .* has the classes hats, shoes"):
        found.class_of("ties", "target_class")


# The stages.
def script(name, root, *arguments):
    return run_script(name, "--root", root, "--dataset", "shop", *arguments)


@pytest.fixture
def shop(tmp_path):
    """Data set with images of three colours, a table of their categories, and interactions."""
    layout = Layout("shop", tmp_path)
    layout.images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for item in range(N_ITEMS):
        pixels = rng.integers(60, 120, (28, 28, 3), dtype=np.uint8)
        pixels[:, :, item % 3] += 120
        Image.fromarray(pixels).save(layout.images / f"{item}.png")
    lines = [f"{item},{NAMES[item % 3]}" for item in range(N_ITEMS)]
    (tmp_path / "items.csv").write_text("\n".join(["item,category", *lines]))
    users = np.repeat(np.arange(4), 3)
    write_pairs(layout.training_set, np.stack([users, np.arange(12)], axis=1))
    write_pairs(layout.test_set, np.stack([np.arange(4), (3 * np.arange(4) + 5) % 12], axis=1))
    return layout


def write_dino(path, timm):
    """Write DINOv2's random weights in its authors' format; its residual branches are not zero."""
    torch.manual_seed(0)
    network = timm.create_model(DINO.removeprefix("timm:"))
    entries = {
        name: torch.ones_like(value) if name.endswith("gamma") else value
        for name, value in network.state_dict().items()
    }
    torch.save({**entries, "mask_token": torch.zeros(1, 384)}, path)
    network.load_state_dict(entries)
    return network.eval()


@pytest.mark.slow
def test_dinov2_through_the_stages(shop, tmp_path, capsys):
    timm = pytest.importorskip("timm", reason="an optional library")
    network = write_dino(tmp_path / "dino.pth", timm)
    of_network = ("--gpu", -1, "--arch", DINO, "--model_file", tmp_path / "dino.pth")
    classes = ("--classes", tmp_path / "items.csv")
    assert script("classify_extract", tmp_path, *of_network, *classes, "--head", "none") == 0
    features = read_features(shop.features(Experiment("none")), N_ITEMS)
    network.set_input_size(img_size=28)
    catalogue = open_catalogue(shop.images)
    pixels = torch.from_numpy(catalogue.batch(np.arange(N_ITEMS))) / 255
    extractor = load_extractor(DINO, tmp_path / "dino.pth", head="none")
    with torch.no_grad():
        expected = network((pixels.permute(0, 3, 1, 2) - extractor.mean) / extractor.std)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
    given = read_classes(shop.classes(Experiment("none")))
    assert given.labels == [NAMES[item % 3] for item in range(N_ITEMS)]
    assert (given.classes == np.arange(N_ITEMS) % 3).all() and (given.probabilities == 1).all()

    means = (*of_network, *classes, "--head", "class_means")
    assert script("classify_extract", tmp_path, *means) == 0
    assert "nearest to the mean of their own class" in capsys.readouterr().out
    np.testing.assert_array_equal(
        read_features(shop.features(Experiment("means")), N_ITEMS), features
    )
    attack = ("--attack_type", "fgsm", "--origin_class", "bags", "--target_class", 2)
    assert script("classify_extract_attack", tmp_path, *means, *attack) == 0
    [attacked] = [
        Experiment.parse(folder.name)
        for folder in shop.data.glob("means_fgsm_0_2_*")
        if folder.is_dir()
    ]
    after, before = read_attacked_classes(shop.classes(attacked))
    assert set(before.labels) == {"bags"} and set(after.labels) <= set(NAMES)
    moved = read_features(shop.features(attacked), N_ITEMS)
    rows = np.isin(np.arange(N_ITEMS), after.image_ids)
    assert (moved[~rows] == features[~rows]).all() and (moved[rows] != features[rows]).any(1).all()

    recommender = ("--model", "VBPR", "--epoch", 1, "--topk", 3, "--verbose", 1)
    names = ("--experiment_name", "none_original", attacked.name)
    assert script("rec_generator", tmp_path, *recommender, *names, "--gpu", -1) == 0
    assert len(list(shop.recommendations_dir.glob("*_VBPR*.tsv"))) == 2


@pytest.fixture
def classified(shop, tmp_path):
    """Results of stage 1 with every head of one network."""
    torch.manual_seed(0)
    save_extractor(tmp_path / "net.pt", build_extractor(ARCH, NAMES))
    shared = ("--gpu", -1, "--model_file", tmp_path / "net.pt")
    classes = ("--classes", tmp_path / "items.csv")
    for head in ((), ("--head", "none", *classes), ("--head", "class_means", *classes)):
        assert script("classify_extract", tmp_path, *shared, *head) == 0
    return shop, shared, classes


def test_the_manifest_names_what_is_not_linear(classified, tmp_path):
    shop, *_ = classified
    for name, head in ((None, None), ("none", "none"), ("means", "class_means")):
        path = shop.classes(Experiment(name))
        options = read_record(path)["options"]
        assert options.get("head") == head
        assert options.get("item_classes") == (head and fingerprint(tmp_path / "items.csv"))
        assert RecordedExtractor.read(path).head == (head or "linear")


def test_predictions_are_those_of_the_extractor_that_stage_3_attacks(classified, tmp_path):
    shop, *_ = classified
    clean = read_classes(shop.classes(Experiment("means")))
    features = read_features(shop.features(Experiment("means")), N_ITEMS)
    head = ClassMeans.of(features, read_item_classes(tmp_path / "items.csv"))
    extractor = load_extractor(None, tmp_path / "net.pt", head="class_means")
    catalogue = open_catalogue(shop.images)
    pixels = torch.from_numpy(catalogue.batch(np.arange(N_ITEMS))) / 255
    logits = extractor.replaced(head=head, labels=NAMES)(pixels.permute(0, 3, 1, 2)).logits
    probabilities = logits.softmax(dim=1).max(dim=1)
    assert clean.classes.tolist() == probabilities.indices.tolist()
    np.testing.assert_allclose(clean.probabilities, probabilities.values, rtol=1e-3)


def test_an_attack_on_lists_needs_no_head(classified, tmp_path):
    shop, shared, classes = classified
    recommender = ("--model", "VBPR", "--epoch", 1, "--topk", 3, "--gpu", -1)
    assert (
        script("rec_generator", tmp_path, *recommender, "--experiment_name", "none_original") == 0
    )
    lists = ("--objective", "rank", "--k", 3, "--score_model", "VBPR", "--score_epoch", 1)
    attack = ("--attack_type", "fgsm", "--eps", 8, "--items", "random:2", *lists)
    none = (*shared, "--head", "none", *classes)
    assert script("classify_extract_attack", tmp_path, *none, *attack) == 0
    [attacked] = [f.name for f in shop.data.glob("none_fgsm_random2_rank_*") if f.is_dir()]
    after, before = read_attacked_classes(shop.classes(Experiment.parse(attacked)))
    assert after.labels == before.labels == [NAMES[item % 3] for item in after.image_ids]
    clean = read_features(shop.features(Experiment("none")), N_ITEMS)
    moved = read_features(shop.features(Experiment.parse(attacked)), N_ITEMS)
    rows = np.isin(np.arange(N_ITEMS), after.image_ids)
    assert (moved[~rows] == clean[~rows]).all() and (moved[rows] != clean[rows]).any(1).all()
    assert script("evaluate_attack", tmp_path, *none, *attack) == 0
    [judged] = (shop.data / attacked).glob("success_results.tsv")
    report = pd.read_csv(shop.attack_report(Experiment.parse(attacked)), sep="\t")
    rate = pd.read_csv(judged, sep="\t")["success_rate"][0]
    assert rate == pytest.approx(100 * report["success"].mean())


def test_another_table_of_classes_needs_stage_1_again(classified, tmp_path, capsys):
    _, shared, classes = classified
    path = tmp_path / "items.csv"
    path.write_text(path.read_text().replace("0,bags", "0,hats"))
    means = (*shared, "--head", "class_means", *classes)
    assert script("classify_extract_attack", tmp_path, *means, "--origin_class", 0) == 2
    pair = ("--origin_class", 0, "--target_class", 1)
    assert script("classify_extract_attack", tmp_path, *means, *pair) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "run classify_extract.py again" in error and "item_classes" in error
    assert script("classify_extract", tmp_path, *means) == 0
    assert "up to date" not in capsys.readouterr().out


def test_attacked_images_reach_a_class_of_the_shop(classified, tmp_path):
    shop, shared, classes = classified
    means = (*shared, "--head", "class_means", *classes)
    pair = ("--origin_class", "shoes", "--target_class", "bags")
    pair += ("--attack_type", "pgd", "--eps", 64)
    assert script("classify_extract_attack", tmp_path, *means, *pair) == 0
    [report] = shop.data.glob("means_pgd_2_0_*/attack.tsv")
    assert pd.read_csv(report, sep="\t")["success"].mean() == 1
    assert script("evaluate_attack", tmp_path, *means, *pair) == 0


STAGE_1, STAGE_3 = "classify_extract", "classify_extract_attack"
REFUSED = {
    (STAGE_1, "--head none"): "add --classes FILE",
    (STAGE_1, "--classes items.csv"): "belongs to --head none, class_means and zero_shot",
    (STAGE_1, "--head none --classes gone.csv"): "missing file: gone.csv",
    (STAGE_1, "--head none --classes fewer.csv"): "fewer.csv has no class of item 11",
    (STAGE_1, "--head none --classes more.csv"): "no image of item 12",
    (STAGE_3, "--head none --classes items.csv --target_class 1"): "attack --head class_means",
    (STAGE_3, "--head class_means --classes items.csv --target_class ties"): "--target_class ties",
    (STAGE_3, "--target_class bags"): "classes have numbers",
    (STAGE_3, "--head class_means --classes items.csv --target_class 1 --fidelity paper"): "paper",
    (
        STAGE_3,
        "--head class_means --classes items.csv --target_class 1 --attack_type attention",
    ): "linear head",
    (
        "audits.attention",
        "--head class_means --classes items.csv --target_class 1",
    ): "linear head",
}


@pytest.mark.parametrize(("stage", "options"), REFUSED)
def test_what_does_not_fit_together_is_one_line(
    stage, options, shop, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_extractor(tmp_path / "net.pt", build_extractor(ARCH, NAMES))
    lines = (tmp_path / "items.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-1]))
    (tmp_path / "more.csv").write_text("\n".join([*lines, "12,hats"]))
    origin = () if stage == STAGE_1 else ("--origin_class", 0)
    assert script(stage, tmp_path, "--model_file", "net.pt", *origin, *options.split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and REFUSED[stage, options] in line
    assert sorted(path.name for path in shop.data.iterdir()) == [
        "original", "testset.tsv", "trainingset.tsv",
    ]  # fmt: skip


def test_names_of_extractors_read_back_as_options():
    assert extractor_options(None) == "--defence 0"
    assert extractor_options("madry") == "--defence 1 --model_dir madry"
    means = "--head class_means --classes FILE"
    assert extractor_options("means") == f"--defence 0 {means}"
    assert extractor_options("dinov2-means") == f"--defence 1 --model_dir dinov2 {means}"
    texts = "--head zero_shot --classes FILE"
    assert extractor_options("fare2-zero_shot") == f"--defence 1 --model_dir fare2 {texts}"
