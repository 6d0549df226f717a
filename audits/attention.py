"""Measure how attacks move attention, and whether incomplete attention makes images vulnerable."""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from src.artifacts.attack_report import read_attack_report
from src.artifacts.errors import UserError
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.artifacts.tables import write_table
from src.attacks.attention_command import (
    RECORDED,
    add_attention_options,
    check_attention_options,
)
from src.attacks.command import AttackCommand
from src.cli import run
from src.datasets.catalogue import describe_reading, open_catalogue, open_whole_catalogue
from src.datasets.image_set import ImageSet
from src.datasets.interactions import load_interactions
from src.extractors.weights import network_of
from src.recommenders.read_out import add_user_option, score_direction

if TYPE_CHECKING:
    from src.attacks.attention_study import AttentionStudy
    from src.attacks.observed import Observed
    from src.extractors.extractor import Extractor
    from src.measures.attention_figures import Shown

ENDINGS = (".tsv", "_summary.tsv", "_panels.png", "_scatter.png")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_attention_options(parser)
    add_user_option(parser)


def main() -> None:
    command = AttackCommand.parse(__doc__, add_options=add_options)
    options, layout, experiment = command.options, command.layout, command.experiment
    check_attention_options(options)
    command.require_attacked()
    network = network_of(options, layout, layout.classes(experiment))
    scored_by = command.scored_by
    if scored_by is None and options.user is not None:
        raise UserError("--user needs a recommender: --score_model or --weights")

    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import Loading, select_device
    from src.extractors.recorded import RecordedExtractor
    from src.measures.attention_figures import draw_outcomes, draw_panels, rows_to_draw
    from src.measures.attention_tables import (
        attention_overview,
        attention_summary,
        attention_table,
        object_sizes,
    )
    from src.measures.object_boxes import read_object_cells

    device = select_device(options.gpu)
    loading = Loading.on(device, options.batch, options.workers)
    extractor = options.preprocess.in_front_of(load_extractor(*network, device))
    attacked_with = RecordedExtractor.read(layout.classes(experiment))
    recorded = RecordedExtractor.of(extractor, attacked_with.resize, "fp32")
    recorded.require_same(attacked_with, layout.classes(experiment))

    inputs = [layout.attack_report(experiment), layout.attacked_images(experiment), layout.images]
    inputs += [path for path in (scored_by, options.boxes) if path]
    described = {name: getattr(options, name) for name in RECORDED}
    manifest = Manifest.of("evaluate_attention", {**recorded.options(), **described}, inputs)
    outputs = [layout.attention(experiment, ending) for ending in ENDINGS]
    stage = Stage(manifest, outputs)
    if stage.is_up_to_date(options.force):
        print(attention_overview(*(pd.read_csv(path, sep="\t") for path in outputs[:2])))
        return

    clean = open_whole_catalogue(layout.images, recorded.resize)
    print(describe_reading(clean.store.sizes, recorded.resize, extractor.trained_size))
    attacked = open_catalogue(layout.attacked_images(experiment), resize=0)
    positions = clean.positions(attacked.ids)
    drawn = attacked.positions(np.array(options.drawn)) if options.drawn else None
    study = study_of(command, extractor, len(clean), loading.batch_size)
    observed = observed_by(study, command, clean, attacked)
    objects = None
    if options.boxes:
        grid = observed.clean.maps["class"].shape[1:]
        objects = read_object_cells(options.boxes, attacked.ids, clean.store.sizes[positions], grid)
    table = attention_table(observed, object_sizes(clean, positions), objects)
    summary = attention_summary(table)

    rows = rows_to_draw(observed, table) if drawn is None else drawn
    shown = pictures_of(study, observed, rows, clean.batch(positions[rows]), attacked.batch(rows))
    with stage.publish() as (images_file, summary_file, panels_file, scatter_file):
        write_table(images_file, table)
        write_table(summary_file, summary)
        draw_panels(observed, shown, extractor.labels, panels_file)
        draw_outcomes(table, scatter_file)
    print(attention_overview(table, summary))
    stage.say_written()


def study_of(
    command: AttackCommand, extractor: "Extractor", n_items: int, batch_size: int
) -> "AttentionStudy":
    """Return the study of the network's attention to both classes, and to a recommender's score."""
    from src.attacks.attention_study import AttentionStudy
    from src.extractors.attention import Watched

    options, settings, direction = command.options, command.settings, None
    if command.scored_by:
        interactions = load_interactions(command.layout, n_items)
        read = (interactions, extractor.n_features, options.user)
        direction = score_direction(command.scored_by, *read)
    watched = Watched(extractor, options.layer)
    both = (settings.origin, settings.target)
    return AttentionStudy(watched, *both, direction, options.share, batch_size)


def observed_by(
    study: "AttentionStudy", command: AttackCommand, clean: ImageSet, attacked: ImageSet
) -> "Observed":
    """Observe the network on clean and attacked images; explain its predictions with ``--lime``."""
    from src.attacks.attention_study import observe

    options = command.options
    path = command.layout.attack_report(command.experiment)
    report = read_attack_report(path, needs=["success"]).set_index("image")
    success = report["success"].loc[attacked.ids].eq(1).to_numpy()
    observed = observe(study, clean, attacked, success, options.minimal_eps)
    if not options.lime:
        return observed
    explained = study.explain(clean, attacked, observed, options.lime, options.seed)
    return replace(observed, explained=explained)


def pictures_of(
    study: "AttentionStudy",
    observed: "Observed",
    rows: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> "list[Shown]":
    """Return the images of ``rows`` to draw: clean, attacked, and without what the network looks at."""
    from src.measures.attention_figures import Shown

    erased = study.erase(before, observed.clean.maps["class"][rows])
    return [Shown(*of) for of in zip(rows, before, after, erased, strict=True)]


if __name__ == "__main__":
    sys.exit(run(main))
