"""Stage 3: attack the images of one class, then classify and describe what the files hold."""

import sys
from pathlib import Path

from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts
from src.attacks.clean import CleanSources
from src.attacks.command import AttackCommand
from src.cli import run
from src.datasets.catalogue import describe_reading, open_whole_catalogue
from src.extractors.weights import weights_of


def main() -> None:
    command = AttackCommand.parse(__doc__)
    clean = CleanSources.of(command.layout, command.experiment, command.fidelity)
    clean.require(command.stage_1)
    weights = weights_of(command.options, command.layout)

    from src.extractors.distribution import process_group

    with process_group(command.options.gpu) as gpu:
        attack(command, clean, weights, gpu)


def attack(command: AttackCommand, clean: CleanSources, weights: Path | None, gpu: int) -> None:
    """Each process attacks its share of the images; process 0 reads back what they stored."""
    from src.attacks.campaign import OUTPUTS, Campaign, change_sizes, publish
    from src.extractors.checkpoints import load_extractor
    from src.extractors.device import Loading, select_device
    from src.extractors.distribution import rank, wait_for_all
    from src.extractors.recorded import RecordedExtractor

    options, settings, layout = command.options, command.settings, command.layout
    resembled = command.resembled
    device = select_device(gpu)
    loading = Loading.on(device, options.image_batch, options.workers)
    extractor = load_extractor(options.arch, weights, device)
    settings.check_classes(extractor.n_classes, options.num_classes)

    kept = clean.recorded
    resize = kept.resize if options.resize is None else options.resize
    recorded = RecordedExtractor.of(extractor, resize, settings.precision)
    clean.require_same(recorded)
    manifest = Manifest.of(
        "classify_extract_attack",
        {
            **recorded.options(),
            **settings.described(),
            "fidelity": command.fidelity.name,
            "image_batch": loading.batch_size,
            "n_classes": extractor.n_classes,
        },
        [
            layout.images,
            layout.classes(clean.classes),
            layout.features(clean.features),
            *([resembled] if resembled else []),
        ],
    )
    folder = layout.experiment(command.experiment)
    if not options.force and manifest.is_current([folder / name for name in OUTPUTS]):
        print(f"{folder} is up to date (use --force to redo)")
        return

    catalogue = open_whole_catalogue(layout.images, resize)
    print(describe_reading(catalogue.store.sizes, resize, extractor.trained_size))
    start = clean.read_start(settings.origin)
    features = clean.read_features(len(catalogue), extractor)
    campaign = Campaign(
        extractor,
        settings,
        command.fidelity,
        catalogue,
        start.image_ids,
        loading.batch_size,
        loading.workers,
        kept.precision,
        resembled and change_sizes(resembled, start.image_ids),
    )
    print(f"{len(start.image_ids)} images of class {settings.origin}: {start.labels[0]}")
    parts = Parts.of(manifest, folder)
    unfinished = parts.folder / folder.name
    campaign.attack(unfinished, parts)
    wait_for_all()
    if rank():
        return
    outcome = campaign.judge(unfinished, parts)
    manifest.write(outcome.write(unfinished, start, features))
    publish(unfinished, folder, parts)
    before, after = outcome.success_rates
    print(f"success rate: {before:.2f} % before rounding, {after:.2f} % of the stored images")
    print("written:", *(folder / name for name in OUTPUTS), sep="\n  ")


if __name__ == "__main__":
    sys.exit(run(main))
