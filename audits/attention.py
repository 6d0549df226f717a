"""Measure how attacks move attention, and whether incomplete attention makes images vulnerable."""

import argparse
import sys
from dataclasses import replace

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
from src.datasets.interactions import load_interactions
from src.extractors.weights import weights_of
from src.recommenders.read_out import add_user_option, score_direction

ENDINGS = (".tsv", "_summary.tsv", "_panels.png", "_scatter.png")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_attention_options(parser)
    add_user_option(parser)


def main() -> None:
    command = AttackCommand.parse(__doc__, add_options=add_options)
    options, layout, experiment = command.options, command.layout, command.experiment
    check_attention_options(options)
    command.require_attacked()
    weights = weights_of(options, layout)
    scored_by = command.scored_by
    if scored_by is None and options.user is not None:
        raise UserError("--user needs a recommender: --score_model or --weights")

    from src.attacks.attention_study import AttentionStudy, observe
    from src.extractors.attention import Watched
    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import Loading, select_device
    from src.extractors.recorded import RecordedExtractor
    from src.measures.attention_figures import Shown, draw_outcomes, draw_panels, rows_to_draw
    from src.measures.attention_tables import (
        attention_overview,
        attention_summary,
        attention_table,
        object_sizes,
    )
    from src.measures.object_boxes import read_object_cells

    device = select_device(options.gpu)
    loading = Loading.on(device, options.batch, options.workers)
    extractor = options.preprocess.in_front_of(load_extractor(options.arch, weights, device))
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
    direction = None
    if scored_by:
        interactions = load_interactions(layout, len(clean))
        direction = score_direction(scored_by, interactions, extractor.n_features, options.user)
    study = AttentionStudy(
        Watched(extractor, options.layer),
        command.settings.origin,
        command.settings.target,
        direction,
        options.share,
        loading.batch_size,
    )
    report = read_attack_report(inputs[0], needs=["success"]).set_index("image")
    success = report["success"].loc[attacked.ids].eq(1).to_numpy()
    observed = observe(study, clean, attacked, success, options.minimal_eps)
    if options.lime:
        explained = study.explain(clean, attacked, observed, options.lime, options.seed)
        observed = replace(observed, explained=explained)
    objects = None
    if options.boxes:
        grid = observed.clean.maps["class"].shape[1:]
        objects = read_object_cells(options.boxes, attacked.ids, clean.store.sizes[positions], grid)
    table = attention_table(observed, object_sizes(clean, positions), objects)
    summary = attention_summary(table)

    rows = rows_to_draw(observed, table) if drawn is None else drawn
    before, after = clean.batch(positions[rows]), attacked.batch(rows)
    erased = study.erase(before, observed.clean.maps["class"][rows])
    shown = [Shown(*of) for of in zip(rows, before, after, erased, strict=True)]
    with stage.publish() as (images_file, summary_file, panels_file, scatter_file):
        write_table(images_file, table)
        write_table(summary_file, summary)
        draw_panels(observed, shown, extractor.labels, panels_file)
        draw_outcomes(table, scatter_file)
    print(attention_overview(table, summary))
    stage.say_written()


if __name__ == "__main__":
    sys.exit(run(main))
