"""Stage 1: classify every product image and extract its features with one extractor."""

import src.interrupts

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from src.artifacts.classes import Classes, write_classes
from src.artifacts.experiments import CLASS_MEANS, NO_HEAD, ZERO_SHOT, Experiment
from src.artifacts.features import write_features
from src.artifacts.item_classes import ItemClasses
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.artifacts.tables import write_table
from src.cli import Parser, add_common_options, add_extractor_options, require_decoder, run
from src.datasets.catalogue import (
    choose_resize,
    describe_reading,
    image_ids,
    open_whole_catalogue,
    require_catalogue,
)
from src.datasets.image_files import limit_pixels, require_jpeg
from src.defences.options import add_preprocess_option, model_dir_of
from src.extractors.weights import Network, item_classes_of, network_of

if TYPE_CHECKING:
    from src.extractors.inference import Predictions


def main() -> None:
    parser = Parser(__doc__)
    add_common_options(parser)
    add_extractor_options(parser)
    add_preprocess_option(parser)
    parser.add_argument(
        "--decoder",
        choices=("pillow", "gpu"),
        default="pillow",
        help="decoder of JPEG files; gpu is nvJPEG, whose levels differ from Pillow's, so that attacks "
        "refuse features made with it",
    )
    options = parser.parse_args()
    layout = Layout(options.dataset, options.root)
    layout.require_data()
    require_catalogue(layout)
    require_decoder(options.decoder, on_cpu=options.gpu < 0)
    network = network_of(options, layout)
    if options.decoder == "gpu":
        require_jpeg(layout.images)
    limit_pixels(options.max_pixels)
    item_classes = item_classes_of(options)
    if item_classes:
        item_classes.require_items(image_ids(layout.images))

    from src.extractors.distribution import process_group

    with process_group(options.gpu) as gpu:
        extract(options, layout, network, item_classes, gpu)


def extract(
    options: argparse.Namespace,
    layout: Layout,
    network: Network,
    item_classes: ItemClasses | None,
    gpu: int,
) -> None:
    """Predict all images, a share in each process; process 0 joins the shares and writes."""
    from src.extractors.checkpoints import load_extractor, with_zero_shot
    from src.extractors.device import Loading, select_device
    from src.extractors.distribution import rank, wait_for_all, wait_for_turn
    from src.extractors.inference import join_parts, predict_parts
    from src.extractors.recorded import RecordedExtractor

    experiment = Experiment(model_dir_of(options))
    catalogue = open_whole_catalogue(layout.images)
    device = select_device(gpu)
    loading = Loading.on(device, options.batch, options.workers)
    decoder = None
    if options.decoder == "gpu":
        from src.extractors.decoding import JpegDecoder

        decoder = JpegDecoder.on(device)
    extractor = load_extractor(*network, device, options.head)
    if options.head == ZERO_SHOT:
        extractor = with_zero_shot(extractor, item_classes.labels)
    extractor = options.preprocess.in_front_of(extractor)
    sizes = catalogue.store.sizes
    resize = choose_resize(sizes, options.resize, extractor.trained_size)
    catalogue = catalogue.resized(resize)
    print(describe_reading(sizes, resize, extractor.trained_size))

    recorded = RecordedExtractor.of(
        extractor, resize, options.precision, options.head, item_classes, options.decoder
    )
    described = {**recorded.options(), "image_batch": loading.batch_size}
    manifest = Manifest.of("classify_extract", described, [layout.images])
    outputs = [layout.classes(experiment), layout.features(experiment)]
    outputs += [layout.image_notes(experiment)]
    stage = Stage(manifest, outputs, layout.experiment(experiment))
    wait_for_turn(stage)
    if stage.is_up_to_date(options.force):
        return

    parts = stage.parts
    predict_parts(
        extractor,
        catalogue,
        parts,
        batch_size=loading.batch_size,
        workers=loading.workers,
        precision=options.precision,
        decoder=decoder,
    )
    wait_for_all()
    if rank():
        return
    predictions = join_parts(extractor, catalogue, parts, batch_size=loading.batch_size)
    classes = classes_of(predictions, catalogue.ids, item_classes, options.head)
    with stage.publish() as (classes_file, features_file, notes_file):
        write_classes(classes_file, classes)
        write_features(features_file, predictions.features)
        write_table(notes_file, pd.DataFrame(predictions.notes, columns=["item", "note"]))
    say_classes(classes)
    if options.head == CLASS_MEANS:
        own = 100 * np.mean(classes.classes == item_classes.classes)
        print(f"{own:.1f} % of the items are nearest to the mean of their own class")
    for item, note in predictions.notes:
        print(f"image {item}: {note}")
    stage.say_written()


def classes_of(
    predictions: "Predictions", ids: np.ndarray, item_classes: ItemClasses | None, head: str
) -> Classes:
    """Return the classes that the head predicts; without a head, those of the shop."""
    if head == NO_HEAD:
        labels = [item_classes.labels[number] for number in item_classes.classes]
        return Classes(ids, item_classes.classes, labels, np.ones(len(ids)))
    if head == CLASS_MEANS:
        from src.extractors.inference import classify

        predictions = classify(predictions, item_classes)
    return Classes(ids, predictions.classes, predictions.labels, predictions.probabilities)


def say_classes(classes: Classes, top: int = 10) -> None:
    """Print the most frequent classes: candidates for the origin and target of an attack."""
    numbers, counts = np.unique(classes.classes, return_counts=True)
    print(f"{len(numbers)} classes seen; the most frequent:")
    for row in np.argsort(-counts, kind="stable")[:top]:
        print(f"{counts[row]:7d}  {numbers[row]:4d}  {classes.label_of(numbers[row])}")


if __name__ == "__main__":
    sys.exit(run(main))
