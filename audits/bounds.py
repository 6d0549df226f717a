"""Prove how far any image within a budget can push items in the lists, beside the attacks found."""

import argparse
import sys
from pathlib import Path

import numpy as np

from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.attacks.items import add_items_options, items_of
from src.cli import (
    Parser,
    add_common_options,
    add_fidelity_option,
    add_head_options,
    add_model_options,
    add_out_option,
    pixel_levels,
    run,
)
from src.defences.defence import NONE
from src.defences.options import add_preprocess_option, model_dir_of
from src.extractors.weights import item_classes_of, network_of
from src.recommenders.command import positive
from src.recommenders.read_out import add_score_options, score_weights_of


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser)
    group = parser.add_argument_group("items and budget")
    add_items_options(group)
    group.add_argument("--origin_class", type=int, default=774, help="the class of --items class")
    group.add_argument(
        "--eps",
        type=pixel_levels,
        default=8.0,
        help="budget in grey levels of 255: L-inf, L2 of smoothing",
    )
    group.add_argument(
        "--method",
        choices=("crown", "ibp", "smoothing"),
        default="crown",
        help="crown: lines around each ReLU; ibp: intervals, faster and looser; smoothing: medians over "
        "noisy copies, by which the recommender then ranks (any network, within L2)",
    )
    group.add_argument(
        "--sigma",
        type=float,
        help="smoothing: deviation of the noise, 1 being white (default: 0.25)",
    )
    group.add_argument(
        "--n", type=positive, help="smoothing: number of noisy copies of an image (default: 1000)"
    )
    group.add_argument("--k", type=positive, default=20, help="length of the lists")
    add_out_option(group, "bounds")
    add_score_options(parser)
    add_model_options(parser)
    add_head_options(parser)
    add_preprocess_option(parser)
    add_fidelity_option(parser)
    return parser.parse_args()


def check_options(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for a budget that nothing can be proven within."""
    if not np.isfinite(options.eps) or options.eps < 0:
        raise UserError("--eps is a number of grey levels from 0 on")
    if options.method != "smoothing" and options.eps > 255:
        raise UserError("--eps must be at most 255 grey levels")
    if options.precision != "fp32":
        raise UserError("--precision: bounds are of fp32")
    if options.method != "smoothing" and (options.sigma, options.n) != (None, None):
        raise UserError("--sigma and --n belong to --method smoothing")
    if options.method != "smoothing" and options.preprocess.text != NONE:
        raise UserError(f"{options.preprocess.text} has no bounds but those of --method smoothing")
    if options.sigma is not None and not 0 < options.sigma < np.inf:
        raise UserError("--sigma must be above 0")


def main() -> None:
    options = parse_options()
    check_options(options)
    items = items_of(options)
    layout = Layout(options.dataset, options.root)
    layout.require_data()
    clean = Experiment(model_dir_of(options))
    network = network_of(options, layout, layout.classes(clean))
    item_classes = item_classes_of(options)
    classes, scored_by = clean_files(options, layout, clean)

    from src.artifacts.manifest import Manifest
    from src.artifacts.stage import Stage
    from src.datasets.catalogue import open_whole_catalogue
    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import select_device
    from src.extractors.recorded import RecordedExtractor
    from src.measures.bounds import (
        Budget,
        attacks_within,
        bounds_summary,
        bounds_tables,
        prove,
        read_bounds,
    )
    from src.measures.exposure import Subject
    from src.recommenders.data import load_training_data
    from src.recommenders.read_out import load_recommender

    extractor = options.preprocess.in_front_of(
        load_extractor(*network, select_device(options.gpu), options.head)
    )
    if (precision := RecordedExtractor.read(classes).precision) != "fp32":
        raise UserError(f"{classes} was made with --precision {precision}: bounds are of fp32")
    recorded = RecordedExtractor.like(classes, extractor, options, item_classes)
    data = load_training_data(layout, clean)
    of_class = np.arange(0)
    if items.source == "class":
        of_class = read_classes(classes).of(options.origin_class)
    ids = items.choose(of_class, data.interactions.popularity)
    smoothing = {name: getattr(options, name) for name in ("sigma", "n") if getattr(options, name)}
    budget = Budget(options.method, options.eps, **smoothing)
    attacks = attacks_within(layout, clean.model_dir, budget)
    described = {
        **recorded.options(),
        "items": ids.tolist(),
        "budget": [budget.method, budget.eps, budget.sigma, budget.n],
        "k": options.k,
        "attacks": [of.name for of in attacks],
    }
    inputs = [layout.images, layout.features(clean), scored_by]
    inputs += [layout.training_set, *layout.held_out_sets, *map(layout.features, attacks)]
    outputs = [layout.result(f"{options.out}{end}.tsv") for end in ("", "_lists")]
    stage = Stage(Manifest.of("bounds", described, inputs), outputs)
    if not stage.is_up_to_date(options.force):
        trained, recommender = load_recommender(scored_by, data)
        subject = Subject(layout, trained, recommender, data, options.k)
        images = open_whole_catalogue(layout.images, recorded.resize)
        proven = prove(subject, extractor, images, ids, budget, stage.parts)
        stage.publish_tables(*bounds_tables(proven, layout, budget, attacks))
        stage.say_written()
    print(bounds_summary(*map(read_bounds, outputs)))


def clean_files(
    options: argparse.Namespace, layout: Layout, clean: Experiment
) -> tuple[Path, Path]:
    """Return the classes of the clean images and the recommender's weights; ``UserError`` without."""
    scored_by = score_weights_of(options, layout, clean)
    if scored_by is None:
        raise UserError(
            "bounds are of a recommender's lists: name it by --score_model or --weights"
        )
    classes = layout.classes(clean)
    if not classes.is_file():
        raise UserError(f"missing file: {classes}; run first: python classify_extract.py")
    return classes, scored_by


if __name__ == "__main__":
    sys.exit(run(main))
