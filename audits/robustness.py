"""Measure the accuracy of a classifier on labelled images under attack, AutoAttack included."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.attacks.robustness.command import (
    add_robustness_options,
    check_robustness_options,
    masking_trials_of,
    trials_of,
)
from src.cli import Parser, run
from src.datasets.image_set import ImageSet
from src.datasets.retrieval import check_set
from src.defences.defence import NONE
from src.extractors.weights import check_network, network_of

if TYPE_CHECKING:
    from src.attacks.robustness.study import TrialRunner
    from src.extractors.extractor import Extractor

RECORDED = ("dataset", "part", "max_images", "eps", "autoattack", "restarts", "seed")


def main() -> None:
    parser = Parser(__doc__)
    add_robustness_options(parser)
    options = parser.parse_args()
    check_robustness_options(options)
    trials, masking = trials_of(options), masking_trials_of(options)
    layout = Layout(options.dataset, options.root)
    network = network_of(options, layout)
    check_network(options.surrogate_arch, options.surrogate)
    check_set(options.dataset, options.data)

    from src.attacks.ranking.evaluation import usual_batch
    from src.datasets.catalogue import describe_side
    from src.datasets.retrieval import open_retrieval_set
    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import select_device
    from src.extractors.recorded import RecordedExtractor
    from src.measures.robust_accuracy import accuracy_table, masking_table

    device = select_device(options.gpu)
    extractor = options.preprocess.in_front_of(load_extractor(*network, device))
    opened = open_retrieval_set(
        options.dataset, options.data, size=options.resize, trained_size=extractor.trained_size
    )
    images = opened.all() if options.part == "all" else opened.test
    print(describe_side(images.side, extractor.trained_size))
    batch = options.batch or usual_batch(images.side, device)
    recipe = options.label or name_of(options, extractor.weights_file)

    described = {
        **RecordedExtractor.of(extractor, images.side, options.precision).options(),
        **{name: getattr(options, name) for name in RECORDED},
        "recipe": recipe,
        "trials": [repr(trial) for trial in (*trials, *masking)],
        "batch": batch,
    }
    inputs = [*images.inputs, *([options.surrogate] if options.surrogate else [])]
    manifest = Manifest.of("evaluate_robustness", described, inputs)
    table = options.out or layout.result("robust_accuracy.tsv")
    masking_file = table.with_name(f"{table.stem}_masking{table.suffix}")
    outputs = [table, masking_file] if masking else [table]
    stage = Stage(manifest, outputs)
    if stage.is_up_to_date(options.force):
        finish(options, outputs)
        return

    runner = runner_of(options, extractor, images, batch)
    outcomes = runner.run(tuple(dict.fromkeys((*trials, *masking))), stage.parts)
    tables = [accuracy_table({trial: outcomes[trial] for trial in trials}, recipe, options.seed)]
    if masking:
        found = {trial: outcomes[trial] for trial in masking}
        tables.append(masking_table(found, recipe, options.seed))
    stage.publish_tables(*tables)
    stage.say_written()
    finish(options, outputs)


def runner_of(
    options: argparse.Namespace, extractor: "Extractor", images: ImageSet, batch: int
) -> "TrialRunner":
    """Return the runner of trials on ``extractor``, and on ``--surrogate`` for images from there."""
    from src.attacks.ranking.evaluation import choose_positions
    from src.attacks.robustness.study import LabelledVictim, TrialRunner
    from src.extractors.checkpoints import load_extractor

    surrogate = options.surrogate and load_extractor(
        options.surrogate_arch, options.surrogate, extractor.device
    )
    return TrialRunner(
        LabelledVictim.of(extractor, images, options.precision),
        images,
        # All seeds have the same images, on which seeds and recipes are compared.
        choose_positions(len(images), options.max_images, (0,)),
        extractor.device,
        batch_size=batch,
        effort=options.autoattack,
        restarts=options.restarts,
        seed=options.seed,
        surrogate=surrogate and LabelledVictim.of(surrogate, images),
    )


def name_of(options: argparse.Namespace, weights: Path) -> str:
    """Return the checkpoint's name, and after a point the defence in front of it."""
    defence = options.preprocess
    return weights.stem if defence.text == NONE else f"{weights.stem}.{defence.folder}"


def finish(options: argparse.Namespace, outputs: list[Path]) -> None:
    """Show the tables and add the first one's rows to the table of recipes, if one is requested."""
    from src.measures.robust_accuracy import compare, masking_verdict, overview, read_table

    table, *masking = map(read_table, outputs)
    print(overview(table))
    for checks in masking:
        print(f"\n{overview(checks)}\n{masking_verdict(checks, options.eps)}")
    if options.compare:
        joint, name = options.compare
        compare(table, Path(joint), name)
        print(f"rows {name} of {joint}")


if __name__ == "__main__":
    sys.exit(run(main))
