"""Train an extractor, or a denoiser in front of one, on pictures by any recipe."""

import src.interrupts

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.cli import (
    Parser,
    add_force_option,
    add_gpu_option,
    add_picture_options,
    add_seed_option,
    pixel_levels,
    require_precision,
    run,
)
from src.datasets.image_files import require_images
from src.datasets.retrieval import check_pictures, check_set
from src.extractors.weights import IMAGENET, check_network
from src.recommenders.read_out import add_score_options, score_weights_of
from src.training.command import (
    OF_RECIPE,
    WITHOUT_LABELS,
    add_recipe_options,
    add_schedule_options,
    check_fine_tuning,
    keeps_head,
    recipe_options_of,
)

if TYPE_CHECKING:
    from src.datasets.image_set import ImageSet
    from src.extractors.extractor import Extractor
    from src.training.options import Job

POSITIVE = (
    *("epochs", "units", "batch", "lr", "eps", "step_size", "steps", "replays", "max_images"),
    "width",
)
IN_GREY_LEVELS = ("eps", "step_size")
FINITE = (*POSITIVE, "margin", "ics", "barlow", "clean_weight")
RECORDED = ("size", "part", "precision")


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_picture_options(parser)
    parser.add_argument("--data", type=Path, help="a retrieval set, in place of --images")
    parser.add_argument(
        "--dataset",
        help="its layout: fashion, cub, folder, catalogue, ...; fare_rec: the recommender's data set",
    )
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/")
    parser.add_argument(
        "--part", choices=("train", "all"), default="train", help="of --data: all holds nothing out"
    )
    parser.add_argument("--out", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--arch", help="c2f2, ..., FILE.py:FUNCTION; embedders: resnet18+512 (default: resnet18)"
    )
    parser.add_argument(
        "--pretrained",
        help="checkpoint to start from, or imagenet; with --images and without --labels its head is "
        "kept, and the classes are those that it sees",
    )
    add_recipe_options(parser)
    add_score_options(parser)
    add_schedule_options(parser)
    parser.add_argument(
        "--eps", type=pixel_levels, help=f"L-inf budget in grey levels, or 8/255 {OF_RECIPE}"
    )
    parser.add_argument(
        "--step_size",
        "--step",
        type=pixel_levels,
        help=f"length of an inner step, like --eps {OF_RECIPE}",
    )
    parser.add_argument(
        "--replays", type=int, help=f"of each mini-batch by free recipes {OF_RECIPE}"
    )
    parser.add_argument(
        "--width", type=int, help="channels of a denoiser (default: 64, as published)"
    )
    parser.add_argument(
        "--max_images",
        "--max_pictures",
        type=int,
        help="train on this many pictures, chosen at random",
    )
    parser.add_argument("--size", type=int, default=0, help="side in pixels; 0: native, or usual")
    add_seed_option(parser, "of weights and every random choice")
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        default="fp32",
        help="of training; tf32 is a GPU's alone",
    )
    add_gpu_option(parser)
    parser.add_argument("--dry_run", action="store_true", help="print the recipe and stop")
    add_force_option(parser)
    parser.set_defaults(fidelity="corrected")  # of the recommender
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    check_numbers(options)
    recipe_options_of(options)
    require_precision(options.precision, on_cpu=options.gpu < 0)
    check_training(options)

    from src.extractors.distribution import process_group

    with process_group(options.gpu) as gpu:
        train_on_pictures(options, gpu)


def check_numbers(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for a number that is not finite, not positive, or beyond the grey levels."""
    if options.units is not None and options.epochs is not None:
        raise UserError("give one of --epochs and --units")
    for name in FINITE:
        value = getattr(options, name)
        if value is None:
            continue
        if not math.isfinite(value):
            raise UserError(f"--{name} must be a finite number")
        if name in POSITIVE and value <= 0:
            raise UserError(f"--{name} must be above 0")
        if name in IN_GREY_LEVELS and value > 255:
            raise UserError(f"--{name} must be at most 255 grey levels")


def check_training(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for an unknown network, missing files, and fine-tuning without its options."""
    check_fine_tuning(options)
    start = None if options.pretrained in (None, IMAGENET) else Path(options.pretrained)
    check_network(options.arch, start, published=False)
    if options.dry_run:
        return
    if keeps_head(options) and options.images:
        require_images(options.images)
        recommender_of(options)
    elif options.data is None and options.images and options.labels:
        check_pictures(options.images, options.labels)
    elif options.data is not None and options.dataset:
        check_set(options.dataset, options.data)


def recommender_of(options: argparse.Namespace) -> Path | None:
    """Return the weights by which fare_rec weighs differences; None for other recipes."""
    if options.recipe != "fare_rec":
        return None
    layout = Layout(options.dataset, options.root)
    layout.require_data()
    return score_weights_of(options, layout, Experiment())


def train_on_pictures(options: argparse.Namespace, gpu: int) -> None:
    """Train unless it is done; process 0 writes the checkpoint and prints its accuracy."""
    from src.datasets.catalogue import describe_side
    from src.extractors.device import select_device
    from src.extractors.distribution import rank, wait_for_turn
    from src.training.accuracy import fill_class_means, with_seen_classes
    from src.training.loop import train
    from src.training.options import job_of
    from src.training.outcome import log_file_of, save_trained, write_log
    from src.training.sources import open_pictures, pictures_of, reading_of
    from src.training.starts import started, trained_extractor

    trained = trained_extractor(options) if keeps_head(options) else None
    job = job_of(options, recipe_options_of(options), trained and trained.arch)
    for note in () if rank() else job.notes():
        print(f"note: {note}", file=sys.stderr)
    if options.dry_run:
        print(json.dumps(job.described(), indent=2))
        return
    if options.out is None:
        raise UserError("--out is missing: where the checkpoint goes")
    training, held_out = open_pictures(options, job, trained and trained.trained_size)
    scored_by = recommender_of(options)
    log_file = log_file_of(options.out)
    stage = Stage(manifest_of(options, job, training, scored_by), [options.out, log_file])
    wait_for_turn(stage)
    if stage.is_up_to_date(options.force):
        return

    training, held_out = pictures_of(options, training, held_out)
    extractor = started(options, job, trained, training, select_device(gpu))
    n, n_categories = len(training), len(training.labels)
    if options.recipe in WITHOUT_LABELS:
        print(f"{n} pictures to train on, of which no category is read")
    elif trained:
        training = with_seen_classes(training, extractor, job.schedule.augmentation)
        print(f"{n} pictures to train on, in the classes that the network sees in them")
    else:
        print(f"{n} pictures in {n_categories} categories to train on, {len(held_out)} held out")
    if cost := job.cost():
        print(f"cost: {cost}, {job.schedule.epochs} passes over the pictures")
    if extractor.trained_size and not rank():
        print(describe_side(extractor.trained_size, None))
    state = stage.parts.folder / "training.pt"
    reading = scored_by and reading_of(options, scored_by, extractor.n_features)
    log = train(extractor, training, job.training, job.schedule, state, options.precision, reading)
    if rank():
        return
    if job.is_embedder and not trained:
        fill_class_means(extractor, training, job.schedule.augmentation)
    save_trained(options.out, extractor, job)
    write_log(log_file, log)
    stage.record()
    if trained:
        print(", ".join(f"{name} {value:.6g}" for name, value in log[-1].items()))
    say_accuracies(extractor, held_out, job, options.seed)
    print(f"written: {options.out}, {log_file}")


def manifest_of(
    options: argparse.Namespace, job: "Job", training: "ImageSet", scored_by: Path | None
) -> Manifest:
    """Return the manifest of the checkpoint: the job, the pictures, and the weights that it reads."""
    recorded = {name: getattr(options, name) for name in RECORDED}
    recorded["max_pictures"] = options.max_images
    if job.denoises:
        recorded["width"] = options.width
    weights = [] if job.pretrained in (None, IMAGENET) else [Path(job.pretrained)]
    inputs = [*training.inputs, *weights, *([scored_by] if scored_by else [])]
    return Manifest.of("train_extractor", {**job.described(), **recorded}, inputs)


def say_accuracies(extractor: "Extractor", held_out: "ImageSet", job: "Job", seed: int) -> None:
    """Print the accuracy on held-out pictures of known categories, and R@1 of an embedder on any."""
    from src.metrics.retrieval import retrieval
    from src.training.accuracy import embed
    from src.training.outcome import accuracies

    if not len(held_out):
        return
    if job.recipe not in WITHOUT_LABELS and held_out.labels == extractor.labels:
        print(accuracies(extractor, held_out, job, seed))
    if job.is_embedder:
        embeddings = embed(extractor, held_out, augmentation=job.schedule.augmentation).numpy()
        r1 = retrieval(embeddings, held_out.classes).means()["r1"]
        print(f"R@1 among held-out pictures: {r1:.1f} %")


if __name__ == "__main__":
    sys.exit(run(main))
