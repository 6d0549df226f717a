"""Attack the rankings of an embedder with ten attacks, and compute its robustness score."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.attacks.profiles import COMPAT
from src.attacks.ranking.command import add_ranking_options, attacks_of, check_ranking_options
from src.cli import Parser, run
from src.datasets.catalogue import describe_side
from src.datasets.image_set import ImageSet
from src.datasets.labelled_folder import open_labelled_folder
from src.datasets.retrieval import check_pictures, check_set, open_retrieval_set
from src.extractors.weights import check_network, network_of

if TYPE_CHECKING:
    from src.attacks.ranking.evaluation import RankingTask
    from src.extractors.extractor import Extractor

RECORDED = ("dataset", "max_images", "repeats", "seed", "compat", "nes", "no_nmi")


def main() -> None:
    parser = Parser(__doc__)
    add_ranking_options(parser)
    options = parser.parse_args()
    check_ranking_options(options)
    attacks = attacks_of(options)
    layout = Layout(options.dataset, options.root)
    classes = classes_of(options, layout)
    network = network_of(options, layout, classes)
    check_network(None, options.transfer)
    require_files(options, layout)

    from src.attacks.ranking.evaluation import usual_batch
    from src.attacks.ranking.study import RankingStudy
    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import select_device
    from src.extractors.recorded import RecordedExtractor
    from src.measures.ranking_attacks import Benign, RankingOutcome, read_record, write_outcome

    device = select_device(options.gpu)
    extractor = load_extractor(*network, device)
    images = open_images(options, layout, extractor.trained_size)
    recorded = RecordedExtractor.of(extractor, images.side, options.precision)
    if options.arch is None and network.arch:
        recorded.require_same_network(RecordedExtractor.read(classes), classes)
    print(describe_side(images.side, extractor.trained_size))
    batch = options.batch or usual_batch(images.side, device)
    study = RankingStudy(
        attacks, options.repeats, options.max_images, options.seed, options.save_images
    )
    study.check(images)

    described = {
        **recorded.options(),
        **{name: getattr(options, name) for name in RECORDED},
        "attacks": [str(spec) for spec in attacks],
        "batch": batch,
        "save_images": options.save_images and str(options.save_images),
    }
    inputs = [*images.inputs, *([options.transfer] if options.transfer else [])]
    manifest = Manifest.of("attack_ranking", described, inputs)
    table = options.out or layout.result("attack_ranking.tsv")
    record = table.with_suffix(".json")
    outputs = [table, record, *([options.save_images] if options.save_images else [])]
    stage = Stage(manifest, outputs)
    if stage.is_up_to_date(options.force):
        finish(options, read_record(record))
        return

    task = task_of(options, extractor, images, batch)
    embeddings = task.victim.gallery.embeddings.cpu().numpy()
    benign = Benign.of(embeddings, images.classes, options.seed, with_nmi=not options.no_nmi)
    outcome = RankingOutcome.of(benign, study.run(task, stage.parts))
    content = write_outcome(outcome, described, table, record)
    stage.record()
    stage.say_written()
    finish(options, content)


def task_of(
    options: argparse.Namespace, extractor: "Extractor", images: ImageSet, batch: int
) -> "RankingTask":
    """Return the rankings of ``images`` to attack, through ``--transfer`` or with ``--nes``."""
    from src.attacks.ranking.descent import NES
    from src.attacks.ranking.evaluation import RankingTask
    from src.extractors.checkpoints import load_extractor

    surrogate = None
    if options.transfer:
        surrogate = load_extractor(None, options.transfer, extractor.device)
    return RankingTask.of(
        extractor,
        images,
        COMPAT[options.compat],
        surrogate=surrogate,
        precision=options.precision,
        nes=NES() if options.nes else None,
        batch_size=batch,
    )


def finish(options: argparse.Namespace, record: dict[str, Any]) -> None:
    """Show a record and add its row to the table of embedders, if one is requested."""
    from src.measures.ranking_attacks import compare, overview

    print(overview(record))
    if options.compare:
        table, name = options.compare
        compare(record, Path(table), name)
        print(f"row {name} of {table}")


def classes_of(options: argparse.Namespace, layout: Layout) -> Path | None:
    """Return the classes that stage 1 found in the images to rank; None for images of other sources."""
    if options.images or options.data:
        return None
    return layout.classes(Experiment(options.model_dir if options.defence else None))


def require_files(options: argparse.Namespace, layout: Layout) -> None:
    """Raise ``UserError`` if the images to rank are missing."""
    if options.images:
        check_pictures(options.images, options.labels)
    elif options.data:
        check_set(options.dataset, options.data)
    else:
        layout.require_data()


def open_images(options: argparse.Namespace, layout: Layout, trained_size: int | None) -> ImageSet:
    """Open the images to rank and attack."""
    if options.images:
        folder, table = options.images, options.labels
        return open_labelled_folder(folder, table, options.resize, trained_size).in_memory()
    sizes = {"size": options.resize, "trained_size": trained_size}
    if options.data:
        return open_retrieval_set(options.dataset, options.data, **sizes).test
    return open_retrieval_set("catalogue", layout.data, **sizes).test


if __name__ == "__main__":
    sys.exit(run(main))
