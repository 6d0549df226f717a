"""SemSim: triplets from folders, synthetic ones, training, scoring, saving."""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.transforms.functional import resize

from src.artifacts.errors import UserError
from src.cli import Parser
from src.datasets.synthetic_triplets import (
    DAMAGES,
    MILD,
    NOT_HUMAN,
    NOTE,
    STRONG,
    damaged,
    write_synthetic_triplets,
)
from src.datasets.triplet_folders import (
    NO_OWNER,
    ORIGINAL,
    OTHER,
    RECOGNISABLE,
    UNRECOGNISABLE,
    JudgedImages,
    read_judged_images,
)
from src.extractors.semsim import SemSim, build_semsim, load_semsim, save_semsim
from src.leaks.semsim_command import (
    add_train_options,
    add_triplets_options,
    run_train,
    run_triplets,
)
from src.leaks.semsim_training import (
    JudgedTriplets,
    SemSimSchedule,
    judge,
    train_semsim,
    triplet_loss,
)
from src.measures.agreement import add_agreement_options
from tests.real_data import REAL_DATA

PAGE = Path(__file__).parents[2] / "docs" / "images.md"
DATA = REAL_DATA / "cifar10_jpeg_1000.npz"


def draw(path: Path, value: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(path)


@pytest.fixture
def published(tmp_path) -> Path:
    """Folder with originals 2, 10, 7; 10 has no unrecognisable image, and 7 no reconstruction."""
    root = tmp_path / "human_anno_id"
    for value, name in enumerate(
        (
            "2/2_5_ori", "2/2_5_rec_0_1", "2/2_5_rec_1_2", "-2/2_5_rec_3_4", "10/10_0_ori",
            "10/10_0_rec_0_1", "7/7_1_ori",
        )
    ):  # fmt: skip
        draw(root / "train_with_ori" / f"{name}.png", 10 * value)
    draw(root / "others" / "anything.png", 200)
    return root


def test_the_published_folders_are_read(published):
    judged = read_judged_images(published, 8)
    by_value = dict(zip(judged.pixels[:, 0, 0, 0] // 10, range(len(judged)), strict=True))
    rows = [by_value[value] for value in (0, 1, 2, 3, 4, 5, 6, 20)]
    assert judged.roles[rows].tolist() == [
        ORIGINAL, RECOGNISABLE, RECOGNISABLE, UNRECOGNISABLE, ORIGINAL, RECOGNISABLE, ORIGINAL, OTHER,
    ]  # fmt: skip
    # Numbered in the order of their ids, 2, 7, 10, not of their names.
    assert judged.owners[rows].tolist() == [0, 0, 0, 0, 2, 2, 1, NO_OWNER]
    assert judged.human and judged.n_originals == 3
    inner = read_judged_images(published / "train_with_ori", 16)
    assert inner.pixels.shape == (8, 16, 16, 3)
    (published / "others").rename(published / "train_with_ori" / "others")
    moved = read_judged_images(published, 8)
    assert (moved.roles == OTHER).sum() == 1


def test_the_old_folders_are_read(tmp_path):
    for value, name in enumerate(("img/3_1_ori", "img0/3/3_1_rec_0", "img1/-3/3_1_rec_1")):
        draw(tmp_path / f"{name}.png", value)
    judged = read_judged_images(tmp_path, 8)
    assert judged.pixels[:, 0, 0, 0].tolist() == judged.roles.tolist() == [0, 1, 2]
    assert judged.owners.tolist() == [0, 0, 0]
    draw(tmp_path / "img0" / "-3" / "3_1_rec_2.png", 0)
    with pytest.raises(UserError, match="does not belong in img0"):
        read_judged_images(tmp_path, 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("4/4_1_rec_0.png", "4_1_rec_0.png has no original"),
        ("2/3_1_rec_0.png", "named as an image of 3"),
        ("2/2_6_ori.png", "image 2 has two originals"),
        ("2/first.png", "first.png"),
        ("-x/2_5_rec.png", "neither the folder of an image"),
    ],
)
def test_folders_of_another_kind_say_what_is_wrong(published, name, message):
    draw(published / "train_with_ori" / name, 0)
    with pytest.raises(UserError, match=message):
        read_judged_images(published, 8)


def test_folders_without_originals_are_refused(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        read_judged_images(tmp_path / "none", 8)
    with pytest.raises(UserError, match="no originals"):
        read_judged_images(tmp_path, 8)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "1_0_ori.png").write_bytes(b"PNG")
    with pytest.raises(UserError, match="not a readable image"):
        read_judged_images(tmp_path, 8)


def judged_images(n: int = 12, side: int = 8, others: int = 4) -> JudgedImages:
    """Images in which original k has k % 3 + 1 recognisable reconstructions, and an unrecognisable one if
    k is even."""
    rng = np.random.default_rng(0)
    rows = [
        (role, owner)
        for owner in range(n)
        for role, count in ((ORIGINAL, 1), (RECOGNISABLE, owner % 3 + 1), (UNRECOGNISABLE, 1 - owner % 2))
        for _ in range(count)
    ] + [(OTHER, NO_OWNER)] * others  # fmt: skip
    roles, owners = np.array(rows)[rng.permutation(len(rows))].T
    pixels = rng.integers(0, 256, (len(rows), side, side, 3), dtype=np.uint8)
    return JudgedImages(pixels, roles, owners)


def test_held_out_are_whole_originals():
    judged = judged_images()
    training, held_out = judged.split(0.25, seed=1)
    assert (training.n_originals, held_out.n_originals) == (9, 3)
    assert len(training) + len(held_out) == len(judged)
    for part in (training, held_out):
        assert set(part.owners) - {NO_OWNER} == set(range(part.n_originals))
        assert (part.owners[part.roles == OTHER] == NO_OWNER).all()
    seen = {image.tobytes() for image in training.pixels}
    assert not seen & {image.tobytes() for image in held_out.pixels}
    again = judged.split(0.25, seed=1)[1]
    assert (again.pixels == held_out.pixels).all()
    assert judged.split(0.01, seed=0)[1].n_originals == 1
    with pytest.raises(UserError, match="a single original"):
        judged_images(n=1).split(0.5, seed=0)


def drawn(triplets: JudgedTriplets, n: int = 30) -> torch.Tensor:
    return torch.cat([triplets.draw(torch.Generator().manual_seed(seed)) for seed in range(n)])


def test_a_triplet_is_an_original_what_is_recognised_and_what_is_not():
    judged = judged_images()
    triplets = JudgedTriplets(judged)
    roles, owners = torch.from_numpy(judged.roles), torch.from_numpy(judged.owners)
    assert len(triplets) == (judged.roles == RECOGNISABLE).sum()
    once = triplets.draw(torch.Generator().manual_seed(0))
    assert sorted(once[:, 1].tolist()) == np.flatnonzero(judged.roles == RECOGNISABLE).tolist()
    anchors, positives, negatives = drawn(triplets).T
    assert (roles[anchors] == ORIGINAL).all() and (owners[anchors] == owners[positives]).all()
    own = owners[anchors] % 2 == 0
    assert (roles[negatives[own]] == UNRECOGNISABLE).all()
    assert (owners[negatives[own]] == owners[anchors[own]]).all()
    # Originals without unrecognisable reconstructions meet all the others.
    assert set(negatives[~own].tolist()) == set(np.flatnonzero(judged.roles == OTHER))


def test_originals_without_negatives_are_left_out():
    judged = judged_images(others=0)
    assert set(judged.owners[JudgedTriplets(judged).draw(torch.Generator())[:, 0]]) == set(
        range(0, 12, 2)
    )
    recognised = judged.chosen(judged.roles != UNRECOGNISABLE)
    with pytest.raises(UserError, match="no triplet"):
        JudgedTriplets(recognised)


def test_any_image_is_an_anchor_as_published():
    judged = judged_images()
    roles, owners = torch.from_numpy(judged.roles), torch.from_numpy(judged.owners)
    triplets = JudgedTriplets(judged, "any")
    assert len(triplets) == (judged.roles != OTHER).sum()
    anchors, positives, negatives = drawn(triplets, 60).T
    assert (owners[anchors] == owners[positives]).all() and (anchors == positives).any()
    rejected = roles[anchors] == UNRECOGNISABLE
    assert (rejected == (roles[positives] == UNRECOGNISABLE)).all()
    # Of what is not recognised, the negatives are recognised, originals among them.
    assert set(roles[negatives[rejected]].tolist()) == {ORIGINAL, RECOGNISABLE}
    assert set(roles[negatives[~rejected]].tolist()) == {UNRECOGNISABLE, OTHER}
    with pytest.raises(UserError, match="--anchor original"):
        JudgedTriplets(judged, "any", psnr_weighted=True)


def test_the_loss_is_the_triplet_loss():
    embeddings = functional.normalize(torch.randn(3, 20, 5), dim=2)
    expected = functional.triplet_margin_loss(*embeddings, margin=1.0, p=2)
    torch.testing.assert_close(triplet_loss(embeddings, torch.ones(20, 2)), expected)


def test_weights_prefer_lower_psnr():
    """Each distance of two positives and two negatives is weighted by sigmoid(difference in dB)."""
    judged = judged_images()
    triplets = JudgedTriplets(judged, psnr_weighted=True)
    rows = triplets.draw(torch.Generator().manual_seed(0))
    assert rows.shape == (len(triplets), 5)
    weights = triplets.weights(rows).numpy()
    anchor, p1, p2, n1, n2 = judged.pixels[rows[3]] / 255.0
    psnr = [-10 * np.log10(np.square(of - anchor).mean()) for of in (p1, p2, n1, n2)]
    of_p1, of_n1 = (1 / (1 + np.exp(a - b)) for a, b in (psnr[:2], psnr[2:]))
    np.testing.assert_allclose(weights[3], [of_p1, 1 - of_p1, of_n1, 1 - of_n1], rtol=1e-3)

    embeddings = functional.normalize(torch.randn(5, len(rows), 4), dim=2)
    d = [(of - embeddings[0]).norm(dim=1).numpy() for of in embeddings[1:]]
    d = [distance * weight for distance, weight in zip(d, weights.T, strict=True)]
    pairs = [np.maximum(0, p - n + 1) for p in d[:2] for n in d[2:]]
    loss = triplet_loss(embeddings, torch.from_numpy(weights))
    assert loss.item() == pytest.approx(np.sum(pairs, axis=0).mean(), rel=1e-4)


def test_the_learning_rate_falls_when_published():
    schedule = SemSimSchedule()
    rates = [schedule.lr_in(epoch) for epoch in range(100)]
    drops = [epoch for epoch in range(1, 100) if rates[epoch] < rates[epoch - 1]]
    assert drops == [37, 62, 87] and rates[0] == 0.05 and rates[-1] == pytest.approx(5e-5)
    assert SemSimSchedule(epochs=1).lr_in(0) == 0.05


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_mild_or_strong(name):
    pixels = smooth_pictures(20)
    mild, strong = (
        damaged(pixels, name, of, np.random.default_rng(0)).astype(float) for of in (MILD, STRONG)
    )
    again = damaged(pixels, name, MILD, np.random.default_rng(0))
    assert mild.shape == pixels.shape and (again == mild).all()

    def correlation(images: np.ndarray) -> float:
        """Return the mean absolute correlation, since a negative has equal shapes."""
        pairs = zip(images.reshape(20, -1), pixels.reshape(20, -1), strict=True)
        of = [np.corrcoef(a, b)[0, 1] if a.std() else 0.0 for a, b in pairs]
        return float(np.abs(of).mean() * images.std())

    assert correlation(mild) > 1.3 * correlation(strong)


def test_shuffling_moves_cells_and_changes_none():
    pixels = np.arange(2 * 34 * 34 * 3, dtype=np.uint32).reshape(2, 34, 34, 3).astype(np.float32)
    shuffle = DAMAGES["shuffle"]
    rng = np.random.default_rng(0)
    moved = shuffle(pixels, np.array([0.1, 1.0]), rng)
    assert (np.sort(moved.ravel()) == np.sort(pixels.ravel())).all()
    assert (moved[:, 32:] == pixels[:, 32:]).all() and (moved[:, :, 32:] == pixels[:, :, 32:]).all()
    changed = (moved != pixels)[:, :32:4, :32:4, 0].sum(axis=(1, 2))
    assert changed.tolist() == [6, 64]
    assert (shuffle(pixels, np.zeros(2), rng) == pixels).all()
    with pytest.raises(UserError, match="no 8x8 cells"):
        shuffle(pixels[:, :7, :7], np.ones(2), rng)


def smooth_pictures(n: int, side: int = 32) -> np.ndarray:
    """Draw colour gradients between 4x4 random corners."""
    corners = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    size = (side, side)
    return np.stack([Image.fromarray(of).resize(size, Image.Resampling.BICUBIC) for of in corners])


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "triplets"
    write_synthetic_triplets(folder, smooth_pictures(60), np.arange(60) % 10)
    return folder


def test_synthetic_triplets_are_labelled_as_not_human(synthetic, tmp_path):
    judged = read_judged_images(synthetic, 32)
    assert not judged.human and judged.n_originals == 60
    assert np.bincount(judged.roles).tolist() == [60, 240, 240]
    damaged_files = set(synthetic.rglob("*_rec_*.png"))
    assert len(damaged_files) == 480 and all("_synthetic_" in path.name for path in damaged_files)
    assert "NOT human" in (synthetic / NOTE).read_text()
    draw(tmp_path / "mine" / "1.png", 0)
    with pytest.raises(UserError, match="holds no synthetic triplets"):
        write_synthetic_triplets(tmp_path / "mine", smooth_pictures(2), np.zeros(2, int))
    assert (tmp_path / "mine" / "1.png").exists()


def test_scores_are_distances_of_features():
    torch.manual_seed(0)
    model = build_semsim("cifar_resnet8")
    a, b = torch.rand(2, 7, 3, 32, 32)
    scores = model.score(a, b)
    assert scores.shape == (7,) and ((scores > 0) & (scores <= 2)).all()
    torch.testing.assert_close(model.score(a, b, batch_size=3), scores)
    torch.testing.assert_close(model.score(b, a), scores)
    assert (model.score(a, a) == 0).all()
    order = torch.randperm(7)
    torch.testing.assert_close(model.score(a[order], b[order]), scores[order])
    with torch.no_grad():
        features = [model(images) for images in (a, b)]
    assert features[0].shape == (7, 64)
    published = model.score(a, b, normalised=False)
    torch.testing.assert_close(published, (features[0] - features[1]).norm(dim=1))
    unit = [of / of.norm(dim=1, keepdim=True) for of in features]
    torch.testing.assert_close(scores, (unit[0] - unit[1]).norm(dim=1))
    large = torch.rand(2, 2, 3, 50, 70)
    resized = [resize(images, [32, 32], antialias=True) for images in large]
    torch.testing.assert_close(model.score(*large), model.score(*resized))
    with pytest.raises(ValueError, match="cannot be compared"):
        model.score(a, b[:3])


def test_features_of_any_length_are_compared_by_direction():
    class Flat(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    model = SemSim(Flat(), mean=(0, 0, 0), std=(1, 1, 1))
    a, b = torch.rand(2, 5, 3, 32, 32)
    torch.testing.assert_close(model.score(a, b), model.score(0.5 * a, 0.1 * b))
    assert not torch.allclose(*(model.score(k * a, k * b, normalised=False) for k in (1, 0.5)))


@pytest.mark.parametrize("arch", ["cifar_resnet8", "convnet8", "squeezenet1_1"])
def test_saving_keeps_scores(arch, tmp_path, capsys):
    model = build_semsim(arch, 64 if arch.startswith("squeeze") else 32, human=False)
    save_semsim(tmp_path / "semsim.pt", model)
    loaded = load_semsim(tmp_path / "semsim.pt")
    assert "NOT human" in capsys.readouterr().err
    a, b = torch.rand(2, 3, 3, 40, 40)
    assert torch.equal(loaded.score(a, b), model.score(a, b))
    assert loaded.arch == arch and loaded.size == model.size and not loaded.human
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_other_files_are_no_semsim(tmp_path, tiny_checkpoint):
    with pytest.raises(UserError, match="is no SemSim"):
        load_semsim(tiny_checkpoint)
    with pytest.raises(UserError, match="missing file"):
        load_semsim(tmp_path / "none.pt")
    model = build_semsim("cifar_resnet8")
    model.arch = "cifar_resnet20"
    save_semsim(tmp_path / "other.pt", model)
    with pytest.raises(UserError, match="is no SemSim of cifar_resnet20") as raised:
        load_semsim(tmp_path / "other.pt")
    assert "\n" not in str(raised.value)


def test_the_judge_counts_pairs():
    judged = judged_images()
    triplets = JudgedTriplets(judged)
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(len(judged), 3)))
    found = judge(features, triplets)

    def distance(row: int) -> float:
        original = int(triplets.originals[judged.owners[row]])
        return float((features[row] - features[original]).norm())

    known, unknown = (
        [distance(row) for row in np.flatnonzero(judged.roles == role)]
        for role in (RECOGNISABLE, UNRECOGNISABLE)
    )
    assert found["auc"] == pytest.approx(np.mean([a < b for a in known for b in unknown]))
    anchors, positives, negatives = drawn(triplets, 200).T
    near, far = ((features[anchors] - features[of]).norm(dim=1) for of in (positives, negatives))
    assert found["triplet_accuracy"] == pytest.approx((near < far).float().mean().item(), abs=0.1)
    same = judge(torch.ones(len(judged), 2), triplets)
    assert same == {"triplet_accuracy": 0.5, "auc": 0.5}


@pytest.fixture(scope="module")
def parts_of_synthetic(synthetic) -> tuple[JudgedImages, JudgedImages]:
    return read_judged_images(synthetic, 32).split(0.2, seed=0)


def trained(
    parts: tuple[JudgedImages, JudgedImages], state_file: Path, **changes: object
) -> tuple[SemSim, list[dict[str, float]]]:
    torch.manual_seed(0)
    model = build_semsim("cifar_resnet8")
    schedule = replace(SemSimSchedule(epochs=2, batch_size=16), **changes)
    triplets = JudgedTriplets(parts[0], schedule.anchor, schedule.psnr_weighted)
    log = train_semsim(triplets, model, schedule, state_file, held_out=JudgedTriplets(parts[1]))
    return model, log


def test_training_learns_what_pixels_do_not_tell(parts_of_synthetic, tmp_path):
    model, log = trained(parts_of_synthetic, tmp_path / "state.pt")
    held_out = JudgedTriplets(parts_of_synthetic[1])
    pixels = judge(held_out.pixels.float().flatten(1), held_out)
    assert [row["epoch"] for row in log] == [0, 1, 2]
    assert log[-1]["triplet_accuracy"] > 0.9
    assert log[-1]["triplet_accuracy"] > pixels["triplet_accuracy"] + 0.05
    assert log[-1]["triplet_accuracy"] > log[0]["triplet_accuracy"]
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_stopped_training_continues_to_the_same_result(parts_of_synthetic, tmp_path):
    few = tuple(part.chosen(part.owners < 12) for part in parts_of_synthetic)
    whole, log = trained(few, tmp_path / "a.pt")
    trained(few, tmp_path / "b.pt", epochs=1)
    continued, log_continued = trained(few, tmp_path / "b.pt")
    assert log_continued[1:] == log[1:]
    a, b = torch.rand(2, 3, 3, 32, 32)
    assert torch.equal(continued.score(a, b), whole.score(a, b))


@pytest.mark.parametrize("changes", [{"anchor": "any"}, {"psnr_weighted": True}])
def test_the_variants_train(parts_of_synthetic, tmp_path, changes):
    few = tuple(part.chosen(part.owners < 12) for part in parts_of_synthetic)
    _, log = trained(few, tmp_path / "state.pt", epochs=1, **changes)
    assert np.isfinite(log[-1]["loss"])


def parsed(add_options, *arguments: object) -> argparse.Namespace:
    parser = Parser("test")
    add_options(parser)
    return parser.parse_args(list(map(str, arguments)))


def test_the_stages_make_triplets_and_train(draw_images, tmp_path, capsys):
    images, folder, out = draw_images(tmp_path / "images", 12), tmp_path / "made", tmp_path / "m.pt"
    make = parsed(add_triplets_options, "--images", images, "--out", folder, "--max_images", 10)
    run_triplets(make)
    assert NOT_HUMAN in capsys.readouterr().out
    assert NOT_HUMAN in (tmp_path / "made.manifest.json").read_text()
    run_triplets(make)
    assert "up to date" in capsys.readouterr().out
    train = parsed(
        add_train_options, "--triplets", folder, "--out", out, "--arch", "cifar_resnet8",
        "--epochs", 1, "--gpu", -1, "--published_scoring",
    )  # fmt: skip
    run_train(train)
    shown = capsys.readouterr().out
    assert f"note: {NOT_HUMAN}" in shown and "distance of pixels: triplet accuracy" in shown
    assert "36 triplets an epoch, of 9 originals; 1 originals are held out" in shown
    assert not load_semsim(out).human
    assert {path.name for path in tmp_path.glob("m*")} == {
        "made", "made.manifest.json", "m.pt", "m.pt.manifest.json", "m_log.tsv",
    }  # fmt: skip
    run_train(train)
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "add_options"),
    [
        ("agreement", add_agreement_options),
        ("train", add_train_options),
        ("triplets", add_triplets_options),
    ],
)
def test_the_page_names_every_option(command, add_options):
    heading = f"### Options of `audits.images {command}`\n\n"
    table = PAGE.read_text().split(heading)[1].split("\n\n")[0]
    parser = Parser("test")
    add_options(parser)
    options = {name for action in parser._actions for name in action.option_strings}
    assert set(re.findall(r"`(--\w+)", table)) == options - {"-h", "--help", "--version"}


def test_wrong_options_are_refused(tmp_path):
    for arguments in ([], ["--data", tmp_path], ["--images", tmp_path, "--data", tmp_path]):
        with pytest.raises(UserError, match="say which images"):
            run_triplets(parsed(add_triplets_options, "--out", tmp_path / "x", *arguments))
    for option, value in (("--epochs", 0), ("--held_out", 1), ("--lr", "nan")):
        with pytest.raises(UserError, match=option):
            run_train(
                parsed(add_train_options, "--triplets", tmp_path, "--out", "x", option, value)
            )


@pytest.mark.skipif(not DATA.is_file(), reason="needs CIFAR-10 pictures")
def test_triplets_of_a_labelled_set(tmp_path):
    chosen = ["--data", DATA, "--dataset", "cifar10", "--max_images", 5, "--size", 16]
    run_triplets(parsed(add_triplets_options, *chosen, "--out", tmp_path / "made"))
    judged = read_judged_images(tmp_path / "made", 16)
    assert judged.pixels.shape == (45, 16, 16, 3) and not judged.human
