"""Measure what detectors notice of attacked images, and how far the images get that they miss."""

import argparse
import sys
from collections.abc import Sequence

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.cli import Parser, add_common_options, add_extractor_options, run
from src.datasets.catalogue import open_whole_catalogue
from src.defences.detectors import parse_detector
from src.defences.options import add_preprocess_option, model_dir_of
from src.extractors.weights import item_classes_of, network_of
from src.measures.attack_records import measurable
from src.measures.exposure import Subject, require_target
from src.recommenders.command import positive
from src.recommenders.data import load_training_data
from src.recommenders.models import Model

DETECTORS = ("squeeze:bits:n=4", "squeeze:median_filter:side=3", "neighbours:k=5")


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_common_options(parser)
    parser.add_argument(
        "--detector",
        nargs="+",
        default=DETECTORS,
        metavar="TEXT",
        help=f"squeeze:DEFENCE or neighbours:k=NUMBER (default: {' '.join(DETECTORS)})",
    )
    parser.add_argument(
        "--experiment_name",
        "--experiments",
        nargs="+",
        default=[],
        metavar="NAME",
        help="full names of attacked experiments (default: all of this extractor)",
    )
    parser.add_argument(
        "--model",
        nargs="*",
        default=[],
        help="recommenders, trained on the clean features, whose lists the images change (default: none)",
    )
    parser.add_argument(
        "--epochs", "--epoch", type=positive, default=4000, help="epochs of --model"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of --model")
    parser.add_argument("--k", type=positive, default=20, help="length of the lists")
    add_extractor_options(parser)
    add_preprocess_option(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    detectors = [parse_detector(text) for text in dict.fromkeys(options.detector)]
    layout = Layout(options.dataset, options.root)
    layout.require_data()
    clean = Experiment(model_dir_of(options))
    network = network_of(options, layout, layout.classes(clean))
    item_classes = item_classes_of(options)
    if not layout.features(clean).is_file():
        raise UserError(
            f"missing file: {layout.features(clean)}; run classify_extract.py first: a threshold is read "
            "from clean images"
        )
    experiments = chosen_experiments(layout, clean, options.experiment_name)
    subjects = subjects_of(options, layout, clean)

    import pandas as pd

    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import Loading, select_device
    from src.extractors.recorded import RecordedExtractor
    from src.measures.detection import COLUMNS, Detecting, detection_overview, read_detection

    device = select_device(options.gpu)
    loading = Loading.on(device, options.batch, options.workers)
    undefended = load_extractor(*network, device, options.head)
    extractor = options.preprocess.in_front_of(undefended)
    extractor.precision = options.precision
    recorded = RecordedExtractor.like(layout.classes(clean), extractor, options, item_classes)
    path = layout.result("detection.tsv")
    described = {
        **recorded.options(),
        "detectors": [detector.text for detector in detectors],
        "models": [subject.run.model for subject in subjects],
        "epoch": options.epochs,
        "seed": options.seed,
        "k": options.k,
        "image_batch": loading.batch_size,
    }
    inputs = [layout.images, layout.features(clean)]
    for experiment in experiments:
        inputs += [layout.features(experiment), layout.attacked_images(experiment)]
    inputs += [layout.weights(subject.run) for subject in subjects]
    if subjects:
        inputs += [layout.training_set, *layout.held_out_sets]
    stage = Stage(Manifest.of("detection", described, inputs), [path])
    if not stage.is_up_to_date(options.force):
        catalogue = open_whole_catalogue(layout.images, recorded.resize)
        features = read_features(layout.features(clean), len(catalogue))
        detecting = Detecting(
            layout,
            extractor,
            catalogue,
            features,
            subjects,
            loading.batch_size,
            loading.workers,
        )
        table = pd.DataFrame(detecting.rows(detectors, experiments)).reindex(columns=list(COLUMNS))
        stage.publish_tables(table)
        stage.say_written()
    print(detection_overview(read_detection(path)))


def subjects_of(options: argparse.Namespace, layout: Layout, clean: Experiment) -> list[Subject]:
    """Read the recommenders of ``--model``, which are trained on the features of ``clean``."""
    labels = [Model.parse(name).label for name in dict.fromkeys(options.model)]
    for label in labels:
        require_target(label, None)
    data = load_training_data(layout, clean) if labels else None
    runs = (Run(clean, label, options.epochs, seed=options.seed) for label in labels)
    return [Subject.read(layout, run, data, options.k) for run in runs]


def chosen_experiments(layout: Layout, clean: Experiment, names: Sequence[str]) -> list[Experiment]:
    """Return the experiments of ``names``, or all attacked ones of the extractor of ``clean``."""
    attacked = [of for of in measurable(layout) if of.clean == clean]
    if not names:
        if not attacked:
            raise UserError(
                f"nothing is attacked behind {clean.name} in {layout.data}: run "
                "classify_extract_attack.py first"
            )
        return attacked
    chosen = [Experiment.parse(name) for name in dict.fromkeys(names)]
    for experiment in chosen:
        if experiment not in attacked:
            raise UserError(f"{experiment.name} is no attacked experiment behind {clean.name}")
    return chosen


if __name__ == "__main__":
    sys.exit(run(main))
