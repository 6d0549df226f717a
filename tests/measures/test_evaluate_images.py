"""Runs of ``audits.images``: attacked experiments, folders of images and reconstructions, bad input."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.artifacts.classes import Classes, write_attacked_classes
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features, write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.reconstructions import write_reconstructions
from src.artifacts.tables import write_table
from src.datasets.catalogue import open_catalogue
from src.datasets.image_files import read_image
from src.extractors.checkpoints import load_extractor
from src.extractors.inference import predict
from src.extractors.perceptual import frechet_distance
from src.extractors.semsim import SemSim, build_semsim, save_semsim
from src.measures.leak_ranks import leak_ranks
from src.metrics.attack import feature_loss
from src.metrics.image_quality import IMAGE_METRICS, psnr, ssim
from src.metrics.significance import bootstrap_interval
from tests.real_data import REAL_DATA
from tests.scripts import run_script

PGD = "pgd_774_770_eps{0}.0_eps_it{0}.0_nb_it10_linf"
ATTACKED = [1, 3, 4]
SQUEEZENET = REAL_DATA / "weights" / "squeezenet1_1.pth"


def script(*arguments):
    return run_script("audits.images", *arguments)


def in_shop(layout, *arguments):
    return script("--dataset", "shop", "--root", layout.root, "--gpu", -1, *arguments)


def attack(layout, name, eps, resize=0):
    """Write files of stage 3: three TIFFs that differ by up to ``eps`` levels, two of them successes."""
    experiment = Experiment.parse(name)
    layout.attacked_images(experiment).mkdir(parents=True)
    rng = np.random.default_rng(eps)
    for item in ATTACKED:
        clean = read_image(layout.images / f"{item}.jpg", resize)[0].astype(int)
        changed = (clean + rng.integers(-eps, eps + 1, clean.shape)).clip(0, 255)
        file = layout.attacked_images(experiment) / f"{item}.tiff"
        Image.fromarray(changed.astype(np.uint8)).save(file)
    numbers = np.array([770, 774, 770])
    after, before = (
        Classes(np.array(ATTACKED), of, ["shoe"] * 3, np.ones(3)) for of in (numbers, 0 * numbers)
    )
    write_attacked_classes(layout.classes(experiment), after, before)
    recorded = {"arch": "resnet50", "weights": "0", "resize": resize, "precision": "fp32"}
    Manifest.of("test", recorded, []).write([layout.classes(experiment)])
    report = {"image": ATTACKED, "success_before_rounding": 1, "success": [1, 0, 1]}
    write_table(layout.attack_report(experiment), pd.DataFrame(report))
    features = read_features(layout.features(experiment.clean)).copy()
    features[ATTACKED] += rng.normal(size=(3, 4)).astype(np.float32)
    write_features(layout.features(experiment), features)
    return experiment


@pytest.fixture
def layout(tmp_path, draw_images):
    layout = Layout("shop", tmp_path)
    draw_images(layout.images, 6)
    write_features(layout.features(Experiment()), np.random.default_rng(0).normal(size=(6, 4)) + 1)
    attack(layout, PGD.format(8), 8)
    return layout


def pixels(layout, experiment):
    """Return (clean, attacked) pixels, float in [0, 1]."""
    clean = [read_image(layout.images / f"{item}.jpg")[0] for item in ATTACKED]
    folder = layout.attacked_images(experiment)
    attacked = [read_image(folder / f"{item}.tiff")[0] for item in ATTACKED]
    return np.stack(clean) / 255, np.stack(attacked) / 255


def table_of(layout, experiment):
    path = layout.experiment(experiment) / "image_quality.tsv"
    return pd.read_csv(path, sep="\t")


def test_an_attacked_experiment_has_a_row_an_image(layout):
    experiment = Experiment.parse(PGD.format(8))
    assert in_shop(layout, "--attack_type", "pgd", "--eps", 8) == 0
    table = table_of(layout, experiment)
    images = pixels(layout, experiment)
    assert list(table["image"]) == ATTACKED and list(table["success"]) == [1, 0, 1]
    for name in ("mse", "psnr", "ssim", "linf", "l2"):
        np.testing.assert_allclose(table[name], IMAGE_METRICS[name](*images), rtol=1e-5)
    assert table["linf"].max() <= 8.01 / 255
    clean = read_features(layout.features(Experiment()))[ATTACKED]
    attacked = read_features(layout.features(experiment))[ATTACKED]
    np.testing.assert_allclose(table["feature_mse"], feature_loss(clean, attacked)[0], rtol=1e-5)
    assert {"feature_l2", "feature_cosine", "s_fid"} <= set(table)
    assert not {"lpips", "semsim"} & set(table)


def test_an_experiment_has_a_row_beside_success_and_feature_loss(layout, capsys):
    experiment = Experiment.parse(PGD.format(8))
    assert in_shop(layout, "--conditions", experiment.name) == 0
    assert "psnr" in capsys.readouterr().out
    (row,) = pd.read_csv(layout.result("image_quality.tsv"), sep="\t").to_dict("records")
    values = psnr(*pixels(layout, experiment))
    low, high = bootstrap_interval(values)
    found = [row["psnr"], row["psnr_low"], row["psnr_high"]]
    np.testing.assert_allclose(found, [values.mean(), low, high], rtol=1e-4)
    assert row["psnr_successful"] == pytest.approx(values[[0, 2]].mean(), rel=1e-4)
    assert (row["extractor"], row["attack"]) == ("original", experiment.name)
    assert (row["images"], row["unchanged"]) == (3, 0)
    assert row["success_rate"] == pytest.approx(200 / 3, rel=1e-5)
    assert row["feature_loss"] == pytest.approx(row["feature_mse"], rel=1e-4)
    clean, attacked = (
        read_features(layout.features(of))[ATTACKED] for of in (Experiment(), experiment)
    )
    assert row["fid_features"] == pytest.approx(frechet_distance(clean, attacked), rel=1e-4)
    assert not any(name.startswith("chr") for name in row)


def test_all_experiments_stand_in_one_table_with_what_lists_do(layout):
    attack(layout, PGD.format(16), 16)
    attack(layout, PGD.format(2), 2)
    layout.results.mkdir(parents=True)
    summary = {
        "extractor": "original", "attack": PGD.format(2), "recommender": "VBPR",
        "protocol": "test_time", "metric": ["chr", "chr", "auc"], "k": [20, 50, None],
        "change": [0.5, 0.75, -1], "net_effect": 0.375, "net_low": 0.25, "net_high": 0.5,
    }  # fmt: skip
    pd.DataFrame(summary).to_csv(layout.summary, sep="\t", index=False)
    assert in_shop(layout, "--all", "--metrics", "psnr", "tv") == 0
    table = pd.read_csv(layout.result("image_quality.tsv"), sep="\t").set_index("attack")
    assert list(table.index) == [PGD.format(eps) for eps in (2, 8, 16)]
    assert table["psnr"].is_monotonic_decreasing and table["tv"].is_monotonic_increasing
    first = table.iloc[0]
    assert (first["chr@20_VBPR_test_time"], first["chr@50_VBPR_test_time"]) == (0.5, 0.75)
    assert first["chr@20_VBPR_test_time_net"] == 0.375
    assert first["chr@50_VBPR_test_time_net_high"] == 0.5
    assert table["chr@20_VBPR_test_time"].iloc[1:].isna().all()


def test_what_is_there_is_kept_until_something_changes(layout, capsys):
    path = layout.experiment(Experiment.parse(PGD.format(8))) / "image_quality.tsv"
    assert in_shop(layout, "--all") == 0
    capsys.readouterr()
    made = path.stat().st_mtime_ns
    assert in_shop(layout, "--all") == 0
    assert capsys.readouterr().out.count("is up to date") == 2
    assert path.stat().st_mtime_ns == made
    assert in_shop(layout, "--all", "--metrics", "mse") == 0
    assert list(pd.read_csv(path, sep="\t")) == ["image", "success", "mse"]
    shutil.copy(layout.images / "0.jpg", layout.images / "1.jpg")
    assert in_shop(layout, "--all", "--metrics", "mse") == 0
    assert pd.read_csv(path, sep="\t")["mse"][0] > 0.01


def test_clean_images_are_resized_as_they_were_for_the_attack(layout):
    name = PGD.format(4)
    experiment = attack(layout, name, 4, resize=32)
    assert in_shop(layout, "--conditions", name, "--metrics", "linf") == 0
    assert table_of(layout, experiment)["linf"].max() <= 4.01 / 255


def test_an_unchanged_image_is_counted_and_has_100_db_in_the_mean(layout):
    experiment = Experiment.parse(PGD.format(8))
    clean = Image.open(layout.images / "3.jpg")
    clean.save(layout.attacked_images(experiment) / "3.tiff")
    assert in_shop(layout, "--all", "--metrics", "psnr") == 0
    table = table_of(layout, experiment)
    assert np.isinf(table["psnr"][1])
    row = pd.read_csv(layout.result("image_quality.tsv"), sep="\t").iloc[0]
    assert row["unchanged"] == 1
    assert row["psnr"] == pytest.approx((table["psnr"][[0, 2]].sum() + 100) / 3, rel=1e-5)


# Folders


def save(folder, name, image):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)


def random_images(n, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Folders of eleven originals and eleven attacked images, with equal stems and different suffixes."""
    for folder, suffix, seed in (("clean", "png", 0), ("attacked", "tiff", 1)):
        for item, image in enumerate(random_images(11, seed=seed)):
            save(tmp_path / folder, f"{item}.{suffix}", image)
    save(tmp_path / "clean", "99.png", random_images(1)[0])
    return tmp_path / "clean", tmp_path / "attacked"


def test_folders_are_paired_by_the_stems_of_their_images(folders):
    clean, attacked = folders
    table = attacked.parent / "out" / "scores.tsv"
    given = ("--originals", clean, "--attacked", attacked, "--out", table)
    assert script("score", *given, "--metrics", "ssim", "psnr") == 0
    images = pd.read_csv(table, sep="\t")
    expected = [random_images(11, seed=seed) / 255 for seed in (0, 1)]
    assert list(images["model"].unique()) == ["attacked"]
    assert list(images["image"]) == list(range(11))
    np.testing.assert_allclose(images["ssim"], ssim(*expected), rtol=1e-4, atol=1e-6)
    means = pd.read_csv(table.with_name("scores_conditions.tsv"), sep="\t")
    assert means["psnr"][0] == pytest.approx(psnr(*expected).mean(), rel=1e-5)
    assert "success" not in images and "psnr_successful" not in means


def test_images_of_an_experiment_have_its_name(layout):
    experiment = Experiment.parse(PGD.format(8))
    given = ("--originals", layout.images, "--attacked", layout.attacked_images(experiment))
    assert script(*given, "--metrics", "mse", "--out", layout.root / "out.tsv") == 0
    table = pd.read_csv(layout.root / "out.tsv", sep="\t")
    assert list(table["model"]) == [experiment.name] * 3 and list(table["image"]) == ATTACKED


def test_names_that_are_no_numbers_are_names(tmp_path):
    for folder in ("clean", "attacked"):
        save(tmp_path / folder, "front.png", random_images(1)[0])
        save(tmp_path / folder, "7.png", random_images(1)[0])
    given = ("--originals", tmp_path / "clean", "--attacked", tmp_path / "attacked")
    assert script(*given, "--metrics", "mse") == 0
    table = pd.read_csv(tmp_path / "image_quality.tsv", sep="\t")
    assert list(table["image"]) == ["7", "front"] and (table["mse"] == 0).all()


@pytest.fixture
def reconstructed(tmp_path):
    """Write two conditions of images 2, 10, 30 of classes 1, 0, 1; one lacks untransformed images."""
    parts = [random_images(3, seed=seed) for seed in range(4)]
    places = [tmp_path / name for name in ("net_inversed_crop", "net_inversed_aug")]
    write_reconstructions(places[0], [10, 2, 30], [0, 1, 1], *parts[:3])
    write_reconstructions(places[1], [10, 2, 30], [0, 1, 1], parts[3], *parts[1:3])
    shutil.rmtree(places[1].with_name(places[1].name + "_untransformed"))
    return places, [part / 255 for part in parts]


def test_reconstructions_are_aligned_to_both_originals(reconstructed):
    (first, second), (changed, transformed, untransformed, other) = reconstructed
    assert script("--attacked", first, second, "--metrics", "psnr", "mse") == 0
    table = pd.read_csv(first.with_name("image_quality.tsv"), sep="\t")
    order = [1, 0, 2]
    assert list(table["model"]) == [first.name] * 3 + [second.name] * 3
    assert list(table["image"]) == [2, 10, 30] * 2 and list(table["label"]) == [1, 0, 1] * 2
    np.testing.assert_allclose(table["psnr"][:3], psnr(transformed, changed)[order], rtol=1e-5)
    np.testing.assert_allclose(
        table["psnr_untransformed"][:3], psnr(untransformed, changed)[order], rtol=1e-5
    )
    np.testing.assert_allclose(table["psnr"][3:], psnr(transformed, other)[order], rtol=1e-5)
    assert table["psnr_untransformed"][3:].isna().all()
    means = pd.read_csv(first.with_name("image_quality_conditions.tsv"), sep="\t")
    assert list(means["model"]) == [first.name, second.name]
    assert means["mse_untransformed_low"].notna().tolist() == [True, False]


def test_reconstructions_can_share_one_folder_of_originals(reconstructed):
    (first, second), (changed, _, untransformed, _) = reconstructed
    shared = first.with_name(first.name + "_untransformed")
    save(shared, "77_0_ori.png", random_images(1)[0])
    table = first.with_name("shared.tsv")
    given = ("--attacked", first, second, "--originals", shared, "--out", table)
    assert script(*given, "--metrics", "psnr") == 0
    images = pd.read_csv(table, sep="\t")
    assert len(images) == 6 and "psnr_untransformed" not in images
    np.testing.assert_allclose(
        images["psnr"][:3], psnr(untransformed, changed)[[1, 0, 2]], rtol=1e-5
    )


def mark_diverged(folder, *ids):
    """Mark images as ``audits.leaks`` does."""
    restarts = {number: -1 if number in ids else 0 for number in (2, 10, 30)}
    rows = [f"{number}\t{number != 10:d}\t{restart}\n" for number, restart in restarts.items()]
    (folder / "metric.tsv").write_text("id\tlabel\trestart\n" + "".join(rows))


def test_images_that_diverged_are_left_out_and_counted(reconstructed, capsys):
    (first, second), (changed, transformed, *_) = reconstructed
    mark_diverged(first, 2, 30)
    (second / "metric.tsv").write_text("id\tmse\n2\t0.1\n")
    given = ("--attacked", first, second, "--metrics", "psnr", "mse")
    assert script(*given) == 0
    out = capsys.readouterr().out
    assert f"{first}: 2 of 3 images diverged and are left out" in out
    assert out.count("images diverged") == 1
    images = pd.read_csv(first.with_name("image_quality.tsv"), sep="\t")
    assert list(images["image"]) == [10, 2, 10, 30] and list(images["label"]) == [0, 1, 0, 1]
    means = pd.read_csv(first.with_name("image_quality_conditions.tsv"), sep="\t")
    assert list(means["images"]) == [1, 3]
    assert means["psnr"][0] == pytest.approx(psnr(transformed, changed)[0], rel=1e-5)
    assert means["psnr_untransformed"].notna()[0]


@pytest.mark.parametrize("with_originals", [False, True])
def test_a_condition_that_diverged_as_a_whole_is_ranked_last(
    reconstructed, tiny_checkpoint, with_originals
):
    (first, second), _ = reconstructed
    mark_diverged(first, 2, 10, 30)
    given = ["--attacked", first, second, "--metrics", "psnr", "mse", "features", "--gpu", -1]
    if with_originals:
        given += ["--originals", second.with_name(f"{second.name}_ori")]
    assert script(*given, "--model_file", tiny_checkpoint) == 0
    images = (first.with_name("image_quality.tsv")).read_text().splitlines()
    assert [line.split("\t")[1] for line in images] == ["image", "2", "10", "30"]
    means = pd.read_csv(first.with_name("image_quality_conditions.tsv"), sep="\t")
    assert means["psnr"].isna().tolist() == [True, False]
    ranks = leak_ranks(means).set_index("model")
    assert ranks["psnr_rank"].to_dict() == ranks["mse_rank"].to_dict()
    assert ranks["psnr_rank"][first.name] == 2


def test_images_that_were_found_exactly_leak_most(reconstructed):
    (first, second), _ = reconstructed
    for name in ("2_1", "10_0", "30_1"):
        original = first.with_name(f"{first.name}_ori") / f"{name}_ori.png"
        shutil.copy(original, first / f"{name}_rec.png")
    shutil.copy(original, second / "30_1_rec.png")
    assert script("--attacked", first, second, "--metrics", "psnr") == 0
    images = pd.read_csv(first.with_name("image_quality.tsv"), sep="\t")
    means = pd.read_csv(first.with_name("image_quality_conditions.tsv"), sep="\t")
    assert means["psnr"][0] == 100 and list(means["unchanged"]) == [3, 1]
    partly = (images["psnr"][3:5].sum() + 100) / 3
    assert means["psnr"][1] == pytest.approx(partly, rel=1e-5)
    ranks = leak_ranks(means).set_index("model")
    assert ranks["psnr_rank"].to_dict() == {first.name: 1, second.name: 2}


def test_features_of_folders_are_the_extractor_s(folders, tiny_checkpoint):
    clean, attacked = folders
    given = ("--originals", clean, "--attacked", attacked, "--gpu", -1)
    network = ("--model_file", tiny_checkpoint, "--resize", 48)
    assert script(*given, *network, "--metrics", "features") == 0
    images = pd.read_csv(attacked.with_name("image_quality.tsv"), sep="\t")
    extractor = load_extractor(None, tiny_checkpoint)
    of_clean, of_attacked = (
        predict(extractor, open_catalogue(folder, 48), progress=None).features for folder in folders
    )
    expected, _ = feature_loss(of_clean[:11], of_attacked)
    np.testing.assert_allclose(images["feature_mse"], expected, rtol=1e-3)
    means = pd.read_csv(attacked.with_name("image_quality_conditions.tsv"), sep="\t")
    value = frechet_distance(of_clean[:11], of_attacked)
    assert means["fid_features"][0] == pytest.approx(value, rel=1e-3)


def test_semsim_sees_each_image_once(reconstructed, monkeypatch):
    import torch

    (first, _), (changed, transformed, untransformed, _) = reconstructed
    torch.manual_seed(0)
    model = build_semsim("cifar_resnet8")
    save_semsim(first.with_name("semsim.pt"), model)
    forward, seen = SemSim.forward, []
    monkeypatch.setattr(
        SemSim, "forward", lambda self, images: seen.append(len(images)) or forward(self, images)
    )
    given = ("--attacked", first, "--semsim", first.with_name("semsim.pt"), "--gpu", -1)
    for options, normalised in (((), True), (("--published_scoring",), False)):
        seen.clear()
        assert script(*given, *options, "--metrics", "semsim") == 0
        assert sum(seen) == 9
        table = pd.read_csv(first.with_name("image_quality.tsv"), sep="\t")
        for ending, originals in (("", transformed), ("_untransformed", untransformed)):
            pair = [
                torch.from_numpy(images[[1, 0, 2]]).permute(0, 3, 1, 2).float()
                for images in (originals, changed)
            ]
            expected = model.score(*pair, normalised=normalised)
            np.testing.assert_allclose(table[f"semsim{ending}"], expected, rtol=1e-3)


def test_lpips_of_real_weights(folders):
    if not SQUEEZENET.is_file():
        pytest.skip("no weights of SqueezeNet here")
    clean, attacked = folders
    given = ("--originals", clean, "--attacked", attacked, "--gpu", -1)
    assert script(*given, "--lpips_weights", SQUEEZENET, "--lpips_size", 64) == 0
    table = pd.read_csv(attacked.with_name("image_quality.tsv"), sep="\t")
    assert list(table)[2:] == ["mse", "psnr", "ssim", "linf", "l2", "lpips"]
    assert table["lpips"].between(0.01, 2).all()


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attacked", "x", "--all"], "--attacked is for folders"),
        (["--attacked", "a/x", "b/x"], "must have different names"),
        (["--out", "x.tsv"], "--originals and --out are for --attacked"),
        (["--attacked", "x", "--lpips_size", "-1"], "--lpips_size must not be negative"),
        (["--conditions", "original"], "no attacked experiment at"),
        (["--attack_type", "fgsm", "--eps", "3"], "no attacked experiment at"),
        (["--all", "--metrics", "lpips", "--lpips_weights", "none.pth"], "no weights of LPIPS at"),
        (["--all", "--metrics", "semsim"], "--metrics semsim needs --semsim FILE"),
        (["--all", "--semsim", "none.pt"], "none.pt"),
        (["--attacked", "absent", "--metrics", "mse"], "absent"),
    ],
)
def test_bad_input_is_one_line(layout, capsys, arguments, message):
    assert in_shop(layout, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error


def test_a_data_set_without_attacks_says_so(layout, capsys):
    shutil.rmtree(layout.experiment(Experiment.parse(PGD.format(8))))
    assert in_shop(layout, "--all") == 2
    assert "no attacked experiment in" in capsys.readouterr().err


def test_images_that_do_not_fit_leave_nothing(folders, capsys):
    clean, attacked = folders
    given = ("--originals", clean, "--attacked", attacked, "--metrics", "mse")
    save(attacked, "10.tiff", random_images(1, side=30)[0])
    assert script(*given) == 2
    assert "10.tiff has 30x30 pixels" in capsys.readouterr().err
    save(attacked, "50.tiff", random_images(1)[0])
    assert script(*given) == 2
    assert "50.tiff has no original in" in capsys.readouterr().err
    save(attacked, "1.png", random_images(1)[0])
    assert script(*given) == 2
    assert "are the same image" in capsys.readouterr().err
    assert not list(attacked.parent.glob("*.tsv"))


def test_images_smaller_than_a_window_are_refused(tmp_path, capsys):
    for folder in ("clean", "attacked"):
        save(tmp_path / folder, "0.png", random_images(1, side=8)[0])
    given = ("--originals", tmp_path / "clean", "--attacked", tmp_path / "attacked")
    assert script(*given) == 2
    assert "8x8 pixels are smaller than a window of SSIM" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"), [("agreement", "--labels"), ("train", "--epochs"), ("triplets", "--out")]
)
def test_the_other_commands_have_options_of_their_own(command, option, capsys):
    assert script(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"python -m audits.images {command}" in shown and option in shown


def test_another_command_is_run(tmp_path, capsys):
    given = ("--labels", tmp_path / "absent.csv", "--out", tmp_path / "out.tsv")
    assert script("agreement", *given) == 2
    assert "absent.csv" in capsys.readouterr().err
