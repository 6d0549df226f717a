"""Subcommands of ``audits.images`` that train a SemSim and make synthetic triplets."""

import argparse
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.locks import sole_maker
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.cli import add_force_option, add_gpu_option, add_seed_option

_RECORDED = (
    "arch", "size", "anchor", "psnr_weighted", "epochs", "batch", "lr", "held_out",
    "published_scoring", "seed",
)  # fmt: skip


def add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--triplets",
        type=Path,
        required=True,
        help="folder of judged reconstructions: train_with_ori/{12,-12,others}, or img, img0, img1",
    )
    parser.add_argument("--out", type=Path, required=True, help="SemSim to write")
    parser.add_argument(
        "--arch",
        default="cifar_resnet18",
        help="network; cifar_resnet8 is enough for a test run on a CPU",
    )
    parser.add_argument("--size", type=int, default=32, help="side in pixels of its input")
    parser.add_argument(
        "--anchor",
        choices=("original", "any"),
        default="original",
        help="original: reconstructions are compared with originals; any: each image is compared with "
        "one of its folder, as published",
    )
    parser.add_argument(
        "--psnr_weighted",
        action="store_true",
        help="train on two positives and two negatives; of each two the image of lower PSNR weighs more",
    )
    parser.add_argument("--epochs", type=int, default=100, help="passes over the triplets")
    parser.add_argument("--batch", type=int, default=64, help="triplets in a step")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate of SGD at first")
    parser.add_argument(
        "--held_out", type=float, default=0.1, help="share of the originals held out of training"
    )
    add_scoring_option(parser)
    add_seed_option(parser, "of weights and every random choice")
    add_gpu_option(parser)
    add_force_option(parser)


def add_scoring_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--published_scoring",
        action="store_true",
        help="compare features that are not scaled to length 1, as the published code does",
    )


def run_train(options: argparse.Namespace) -> None:
    """Train a SemSim, write it and its log, and print its results on held-out originals."""
    _check_above_zero(options, "size", "epochs", "batch", "lr")
    if not 0 < options.held_out < 1:
        raise UserError(f"--held_out must be above 0 and below 1, not {options.held_out:g}")

    import torch

    from src.datasets.synthetic_triplets import NOT_HUMAN
    from src.datasets.triplet_folders import read_judged_images
    from src.extractors.device import select_device
    from src.extractors.semsim import build_semsim, save_semsim
    from src.leaks.semsim_training import JudgedTriplets, SemSimSchedule, report, train_semsim
    from src.training.outcome import log_file_of, write_log

    manifest = Manifest.of(
        "train_semsim", {name: getattr(options, name) for name in _RECORDED}, [options.triplets]
    )
    log_file = log_file_of(options.out)
    stage = Stage(manifest, [options.out, log_file])
    if stage.is_up_to_date(options.force):
        return
    judged = read_judged_images(options.triplets, options.size)
    if not judged.human:
        print(f"note: {NOT_HUMAN}")
    training, held_out = judged.split(options.held_out, options.seed)
    triplets = JudgedTriplets(training, options.anchor, options.psnr_weighted)
    held_out_triplets = JudgedTriplets(held_out)
    print(
        f"{len(triplets)} triplets an epoch, of {training.n_originals} originals; "
        f"{held_out.n_originals} originals are held out"
    )
    torch.manual_seed(options.seed)
    model = build_semsim(options.arch, options.size, human=judged.human)
    model.to(select_device(options.gpu))
    schedule = SemSimSchedule(
        options.epochs,
        options.batch,
        options.lr,
        options.anchor,
        options.psnr_weighted,
        options.seed,
    )
    state_file = stage.parts.folder / "training.pt"
    log = train_semsim(triplets, model, schedule, state_file, held_out=held_out_triplets)
    save_semsim(options.out, model)
    write_log(log_file, log)
    stage.record()
    print(report(model, held_out_triplets, log, normalised=not options.published_scoring))
    stage.say_written()


def add_triplets_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, help="folder of any images")
    parser.add_argument("--data", type=Path, help="a labelled set, instead of --images")
    parser.add_argument(
        "--dataset", help="layout of --data: cifar10, fashion, folder, catalogue, ..."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--max_images", type=int, default=600, help="number of images, chosen at random"
    )
    parser.add_argument("--size", type=int, default=32, help="side in pixels of the written images")
    add_seed_option(parser, "of the choice and of the damage")
    add_force_option(parser)


def run_triplets(options: argparse.Namespace) -> None:
    """Write folders of mildly and strongly damaged images, with labels that no person gave."""
    _check_above_zero(options, "max_images", "size")
    if (options.images is None) == (options.data is None) or (
        (options.data is None) != (options.dataset is None)
    ):
        raise UserError("say which images to damage: --images, or --data and --dataset")

    from src.datasets.synthetic_triplets import NOT_HUMAN, choose_images, write_synthetic_triplets

    source = options.images or options.data
    described = {
        "labels": NOT_HUMAN,
        **{name: getattr(options, name) for name in ("dataset", "max_images", "size", "seed")},
    }
    manifest = Manifest.of("synthetic_triplets", described, [source])
    with sole_maker(options.out):
        if not options.force and manifest.is_current([options.out]):
            print(f"{options.out} is up to date (use --force to redo): {NOT_HUMAN}")
            return
        pixels, classes = choose_images(
            source, options.dataset, options.max_images, options.size, options.seed
        )
        write_synthetic_triplets(options.out, pixels, classes, seed=options.seed)
        manifest.write([options.out])
    print(f"written: {options.out}, {len(pixels)} originals; {NOT_HUMAN}")


def _check_above_zero(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if not getattr(options, name) > 0:
            raise UserError(f"--{name} must be above 0")
