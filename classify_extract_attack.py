"""Stage 3: attack the images of one class, then classify the files and extract their features."""

import src.interrupts

import sys
from collections.abc import Mapping
from pathlib import Path

from src.artifacts.experiments import CLASS_MEANS, ZERO_SHOT
from src.artifacts.item_classes import ItemClasses
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.attacks.clean import CleanSources
from src.attacks.command import AttackCommand
from src.attacks.given import check_given
from src.attacks.settings import AttackSettings
from src.cli import run
from src.datasets.catalogue import (
    describe_reading,
    image_ids,
    open_whole_catalogue,
    require_catalogue,
)
from src.datasets.interactions import load_interactions
from src.defences.defence import Defence
from src.defences.detectors import Guard
from src.extractors.weights import item_classes_of, weights_of
from src.measures.pairs import reversed_pair
from src.recommenders.audience import audience_of
from src.recommenders.buyers import SAMPLED_BUYERS, buyers_of
from src.recommenders.data import TrainingData
from src.recommenders.pixels import read_pixels
from src.recommenders.read_out import load_recommender


def main() -> None:
    command = AttackCommand.parse(__doc__)
    require_catalogue(command.layout)
    clean = CleanSources.of(command.layout, command.experiment, command.fidelity)
    clean.require(command.stage_1)
    weights = weights_of(command.options, command.layout)
    item_classes = item_classes_of(command.options)
    if item_classes:
        item_classes.require_items(image_ids(command.layout.images))
    given = command.given

    from src.extractors.distribution import process_group

    with process_group(command.options.gpu) as gpu:
        attack(command, clean, weights, item_classes, given, gpu)


def attack(
    command: AttackCommand,
    clean: CleanSources,
    weights: Path | None,
    item_classes: ItemClasses | None,
    given: Mapping[int, Path],
    gpu: int,
) -> None:
    """Attack the images, a share in each process; process 0 reads back the stored images."""
    from src.attacks.campaign import OUTPUTS, Campaign, change_sizes
    from src.extractors.checkpoints import load_extractor, with_zero_shot
    from src.extractors.device import Loading, select_device
    from src.extractors.distribution import rank, wait_for_all, wait_for_turn
    from src.extractors.recorded import RecordedExtractor

    options, settings, layout = command.options, command.settings, command.layout
    resembled = command.resembled
    device = select_device(gpu)
    loading = Loading.on(device, options.batch, options.workers)
    undefended = load_extractor(options.arch, weights, device, options.head)
    if options.head == ZERO_SHOT:
        undefended = with_zero_shot(undefended, item_classes.labels)
    extractor = options.preprocess.in_front_of(undefended)
    kept = clean.recorded
    resize = kept.resize if options.resize is None else options.resize
    recorded = RecordedExtractor.of(
        extractor, resize, settings.precision, options.head, item_classes
    )
    clean.require_same(recorded)
    if options.head == CLASS_MEANS:
        undefended = clean.with_class_means(undefended, item_classes)
        extractor = options.preprocess.in_front_of(undefended)
    n_classes = len(item_classes.labels) if item_classes else extractor.n_classes
    settings.check_classes(n_classes, options.num_classes)
    manifest = Manifest.of(
        "classify_extract_attack",
        {
            **recorded.options(),
            **settings.described(),
            "fidelity": command.fidelity.name,
            "image_batch": loading.batch_size,
            "n_classes": n_classes,
        },
        [
            layout.images,
            layout.classes(clean.classes),
            layout.features(clean.features),
            *([resembled] if resembled else []),
            *command.chosen_by,
        ],
    )
    folder = layout.experiment(command.experiment)
    stage = Stage(manifest, [folder / name for name in OUTPUTS], folder, folder)
    wait_for_turn(stage)
    if stage.is_up_to_date(options.force):
        return

    catalogue = open_whole_catalogue(layout.images, resize)
    print(describe_reading(catalogue.store.sizes, resize, extractor.trained_size))
    features = clean.read_features(len(catalogue), extractor)
    start = clean.read_start(settings, given)
    if given:
        check_given(given, catalogue, settings.attack)
    audience, accounts, scorer = None, None, None
    if settings.objective and command.scored_by:
        seen = read_pixels(layout, clean.features) if command.reads_pixels else features
        data = TrainingData(load_interactions(layout, len(features)), seen)
        _, recommender = load_recommender(command.scored_by, data)
        if command.reads_pixels:
            scorer = recommender.extractor(device)
        if recommender.moves_users:
            audience = buyers_of(
                recommender,
                data,
                start.image_ids,
                settings.top_k,
                settings.target_item,
                at_most=SAMPLED_BUYERS,
            )
            print(
                f"no image of these items alone shows item {settings.target_item} to more than "
                f"{audience.reach.mean():.2%} of its buyers"
            )
        else:
            audience = audience_of(recommender, data, start.image_ids, settings.top_k)
        if settings.attack.asks_places:
            accounts = audience_of(
                recommender,
                data,
                start.image_ids,
                settings.top_k,
                at_most=settings.attack.accounts,
                seed=settings.seed,
                with_rivals=True,
            )
    guard = None
    if settings.evade:
        guard = Guard.of(
            settings.evade,
            extractor,
            catalogue,
            features,
            start.image_ids,
            batch_size=loading.batch_size,
            workers=loading.workers,
        )
    campaign = Campaign(
        extractor,
        settings,
        command.fidelity,
        catalogue,
        start.image_ids,
        loading.batch_size,
        loading.workers,
        kept.precision,
        undefended if settings.unaware else extractor,
        resembled and change_sizes(resembled, start.image_ids),
        audience,
        accounts,
        given,
        scorer,
        guard,
    )
    what = settings.items.name or f"class {settings.origin}: {start.labels[0]}"
    if given:
        what = settings.attack.images_from
    print(f"{len(start.image_ids)} images of {what}")
    if not rank() and (warning := reversed_pair(layout, command.experiment)):
        print(warning, file=sys.stderr)
    if extractor is not undefended:
        print(describe_defence(options.preprocess, settings))
    parts = stage.parts
    unfinished = parts.folder / folder.name
    campaign.attack(unfinished, parts)
    wait_for_all()
    if rank():
        return
    outcome = campaign.judge(unfinished, parts)
    manifest.write(outcome.write(unfinished, start, features))
    stage.publish_folder(unfinished)
    if campaign.knows_success:
        before, after = outcome.success_rates
        print(f"success rate: {before:.2f} % before rounding, {after:.2f} % of the stored images")
    if "draws_mean" in outcome.images:
        mean, worst = outcome.images[["draws_mean", "draws_worst"]].mean()
        what = "exposure" if settings.objective else "success"
        print(f"{what} over fresh draws of the defence: {mean:.4f}, at worst {worst:.4f} an image")
    stage.say_written()


def describe_defence(defence: Defence, settings: AttackSettings) -> str:
    """Print the defence in front of the network, and whether the attack knows it."""
    if settings.unaware or not settings.attack.sees_network:
        return f"judged through {defence.text}, which the attack does not know"
    draws = f", mean of {settings.eot} draws" if settings.eot else ""
    return f"attacked through {defence.text} (backward: {defence.backward}{draws})"


if __name__ == "__main__":
    sys.exit(run(main))
