"""Stage 1: classify every product image and extract its features with one extractor."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import atomic_outputs
from src.artifacts.classes import Classes, write_classes
from src.artifacts.experiments import Experiment
from src.artifacts.features import write_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts
from src.cli import Parser, add_common_options, add_extractor_options, model_dir_of, run
from src.datasets.catalogue import choose_resize, describe_reading, open_whole_catalogue
from src.datasets.image_files import require_images
from src.extractors.weights import weights_of


def main() -> None:
    parser = Parser(__doc__)
    add_common_options(parser, dataset="amazon_men")
    add_extractor_options(parser)
    options = parser.parse_args()
    layout = Layout(options.dataset, options.root)
    layout.require_data()
    weights = weights_of(options, layout)
    require_images(layout.images)

    from src.extractors.distribution import process_group

    with process_group(options.gpu) as gpu:
        extract(options, layout, weights, gpu)


def extract(options: argparse.Namespace, layout: Layout, weights: Path | None, gpu: int) -> None:
    """Each process predicts its share of the images; process 0 joins the shares and writes."""
    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import Loading, select_device
    from src.extractors.distribution import rank, wait_for_all
    from src.extractors.inference import join_parts, predict_parts
    from src.extractors.recorded import RecordedExtractor

    experiment = Experiment(model_dir_of(options))
    catalogue = open_whole_catalogue(layout.images)
    device = select_device(gpu)
    loading = Loading.on(device, options.image_batch, options.workers)
    extractor = load_extractor(options.arch, weights, device)
    trained_size = extractor.trained_size
    sizes = catalogue.store.sizes
    resize = choose_resize(sizes, options.resize, trained_size)
    catalogue = catalogue.resized(resize)
    print(describe_reading(sizes, resize, trained_size))

    recorded = RecordedExtractor.of(extractor, resize, options.precision)
    manifest = Manifest.of(
        "classify_extract",
        {**recorded.options(), "image_batch": loading.batch_size},
        [layout.images],
    )
    outputs = (
        layout.classes(experiment),
        layout.features(experiment),
        layout.image_notes(experiment),
    )
    if not options.force and manifest.is_current(outputs):
        print(f"{layout.experiment(experiment)} is up to date (use --force to redo)")
        return

    parts = Parts.of(manifest, outputs[0])
    predict_parts(
        extractor,
        catalogue,
        parts,
        batch_size=loading.batch_size,
        workers=loading.workers,
        precision=options.precision,
    )
    wait_for_all()
    if rank():
        return
    predictions = join_parts(extractor, catalogue, parts, batch_size=loading.batch_size)
    classes = Classes(
        catalogue.ids, predictions.numbers, predictions.labels, predictions.probabilities
    )
    with atomic_outputs(*outputs) as (classes_file, features_file, notes_file):
        write_classes(classes_file, classes)
        write_features(features_file, predictions.features)
        notes = pd.DataFrame(predictions.notes, columns=["item", "note"])
        notes.to_csv(notes_file, sep="\t", index=False)
    manifest.write(outputs)
    parts.discard()
    say_classes(classes)
    for item, note in predictions.notes:
        print(f"image {item}: {note}")
    print("written:", *outputs, sep="\n  ")


def say_classes(classes: Classes, top: int = 10) -> None:
    """Print the most frequent classes: candidates for the origin and target of an attack."""
    numbers, counts = np.unique(classes.numbers, return_counts=True)
    print(f"{len(numbers)} classes seen; the most frequent:")
    for row in np.argsort(-counts, kind="stable")[:top]:
        print(f"{counts[row]:7d}  {numbers[row]:4d}  {classes.label_of(numbers[row])}")


if __name__ == "__main__":
    sys.exit(run(main))
