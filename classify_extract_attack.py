"""Stage 3: attack the images of one class, then classify and describe what the files hold."""

import argparse
import sys
from dataclasses import asdict

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts
from src.attacks.settings import AttackSettings, add_attack_options, attack_settings, experiment
from src.cli import (
    Parser,
    add_common_options,
    add_extractor_options,
    add_fidelity_option,
    fidelity_of,
    model_dir_of,
    run,
)
from src.datasets.catalogue import open_whole_catalogue


def main() -> None:
    parser = Parser(__doc__)
    add_common_options(parser, dataset="amazon_men")
    add_attack_options(parser)
    add_extractor_options(parser)
    add_fidelity_option(parser)
    options = parser.parse_args()
    fidelity = fidelity_of(options)
    settings = attack_settings(options, fidelity)

    from src.attacks.campaign import OUTPUTS, Campaign, publish
    from src.attacks.clean import CleanSources
    from src.extractors.checkpoints import load_extractor, weights_path
    from src.extractors.device import select_device
    from src.extractors.recorded import RecordedExtractor

    layout = Layout(options.dataset, options.root)
    layout.require_data()
    attacked = experiment(settings, model_dir_of(options), fidelity)
    folder = layout.experiment(attacked)
    clean = CleanSources.of(layout, attacked, fidelity)
    clean.require(stage_1_command(options))
    weights = weights_path(layout, options.defense, options.model_dir, options.model_file)
    extractor = load_extractor(options.arch, weights, select_device(options.gpu))
    check_classes(settings, extractor.n_classes, options.num_classes)

    kept = clean.recorded
    resize = kept.resize if options.resize is None else options.resize
    recorded = RecordedExtractor.of(extractor, resize, settings.precision)
    clean.require_same(recorded)
    choices = {"fidelity": fidelity.name, "image_batch": options.image_batch}
    manifest = Manifest.of(
        "classify_extract_attack",
        {**recorded.options(), **asdict(settings), **choices},
        [layout.images, layout.classes(clean.classes), layout.features(clean.features)],
    )
    if not options.force and manifest.is_current([folder / name for name in OUTPUTS]):
        print(f"{folder} is up to date (use --force to redo)")
        return

    catalogue = open_whole_catalogue(layout.images, resize)
    start = clean.read_start(settings.origin)
    features = clean.read_features(len(catalogue), extractor)
    campaign = Campaign(
        extractor,
        settings,
        fidelity,
        catalogue,
        start.image_ids,
        options.image_batch,
        options.workers,
        kept.precision,
    )
    print(f"{len(start.image_ids)} images of class {settings.origin}: {start.labels[0]}")
    parts = Parts.of(manifest, folder)
    unfinished = parts.folder / folder.name
    outcome = campaign.run(unfinished, parts)
    manifest.write(outcome.write(unfinished, start, features))
    publish(unfinished, folder, parts)
    before, after = outcome.success_rates
    print(f"success rate: {before:.2f} % before rounding, {after:.2f} % of the stored images")
    print("written:", *(folder / name for name in OUTPUTS), sep="\n  ")


def stage_1_command(options: argparse.Namespace) -> str:
    """The command that classifies the clean images with the same extractor."""
    command = f"python classify_extract.py --dataset {options.dataset} --defense {options.defense}"
    if options.defense:
        command += f" --model_dir {options.model_dir}"
    if options.model_file:
        command += f" --model_file {options.model_file}"
    return command + (f" --arch {options.arch}" if options.arch else "")


def check_classes(settings: AttackSettings, n_classes: int, expected: int | None) -> None:
    """``UserError`` unless the model has the classes that the options speak of."""
    if expected not in (None, n_classes):
        raise UserError(f"--num_classes is {expected}, but the model has {n_classes} classes")
    for option, number in (("origin", settings.origin), ("target", settings.target)):
        if number is not None and number >= n_classes:
            raise UserError(
                f"--{option}_class {number}: the model has classes 0 to {n_classes - 1}"
            )


if __name__ == "__main__":
    sys.exit(run(main))
