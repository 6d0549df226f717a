"""Stage 3: attack the images of one class, then classify the files and extract their features."""

import src.interrupts

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
from src.extractors.weights import Network, item_classes_of, network_of
from src.measures.pairs import reversed_pair
from src.recommenders.audience import audience_of
from src.recommenders.buyers import SAMPLED_BUYERS, buyers_of
from src.recommenders.data import TrainingData
from src.recommenders.pixels import read_pixels
from src.recommenders.read_out import load_recommender

if TYPE_CHECKING:
    import torch

    from src.artifacts.classes import Classes
    from src.attacks.campaign import AttackOutcome, Campaign
    from src.extractors.device import Loading
    from src.extractors.extractor import Extractor
    from src.extractors.recorded import RecordedExtractor
    from src.recommenders.audience import Audience
    from src.recommenders.buyers import Buyers


def main() -> None:
    command = AttackCommand.parse(__doc__)
    require_catalogue(command.layout)
    clean = CleanSources.of(command.layout, command.experiment, command.fidelity)
    clean.require(command.stage_1)
    network = network_of(command.options, command.layout, command.layout.classes(clean.own))
    item_classes = item_classes_of(command.options)
    if item_classes:
        item_classes.require_items(image_ids(command.layout.images))
    given = command.given

    from src.extractors.distribution import process_group

    with process_group(command.options.gpu) as gpu:
        attack(command, clean, network, item_classes, given, gpu)


def attack(
    command: AttackCommand,
    clean: CleanSources,
    network: Network,
    item_classes: ItemClasses | None,
    given: Mapping[int, Path],
    gpu: int,
) -> None:
    """Attack the images, a share in each process; process 0 reads back the stored images."""
    from src.attacks.campaign import OUTPUTS
    from src.extractors.device import Loading, select_device
    from src.extractors.distribution import rank, wait_for_all, wait_for_turn

    options, settings, layout = command.options, command.settings, command.layout
    resembled = command.resembled
    device = select_device(gpu)
    loading = Loading.on(device, options.batch, options.workers)
    networks = load_networks(command, clean, network, item_classes, device)
    n_classes = len(item_classes.labels) if item_classes else networks.judging.n_classes
    settings.check_classes(n_classes, options.num_classes)
    described = {
        **networks.recorded.options(),
        **settings.described(),
        "fidelity": command.fidelity.name,
        "image_batch": loading.batch_size,
        "n_classes": n_classes,
    }
    inputs = [layout.images, layout.classes(clean.classes), layout.features(clean.features)]
    inputs += [*([resembled] if resembled else []), *command.chosen_by]
    folder = layout.experiment(command.experiment)
    manifest = Manifest.of("classify_extract_attack", described, inputs)
    stage = Stage(manifest, [folder / name for name in OUTPUTS], folder, folder)
    wait_for_turn(stage)
    if stage.is_up_to_date(options.force):
        return

    start, features, campaign = campaign_of(command, clean, networks, given, loading)
    what = settings.items.name or f"class {settings.origin}: {start.labels[0]}"
    print(f"{len(start.image_ids)} images of {settings.attack.images_from if given else what}")
    if not rank() and (warning := reversed_pair(layout, command.experiment)):
        print(warning, file=sys.stderr)
    if networks.judging is not networks.undefended:
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
    say_outcome(campaign, outcome)
    stage.say_written()


class Networks(NamedTuple):
    """Extractor of an attack, with and without the defence in front of it."""

    judging: "Extractor"
    """Extractor behind its defence, which classifies the stored images."""
    undefended: "Extractor"
    recorded: "RecordedExtractor"
    """Record of the former, as manifests have it."""


def load_networks(
    command: AttackCommand,
    clean: CleanSources,
    network: Network,
    item_classes: ItemClasses | None,
    device: "torch.device",
) -> Networks:
    """Load the attacked extractor; ``UserError`` unless it made the clean results."""
    from src.extractors.checkpoints import load_extractor, with_zero_shot
    from src.extractors.extractor import fast_layout
    from src.extractors.recorded import RecordedExtractor

    options, defence = command.options, command.options.preprocess
    undefended = load_extractor(*network, device, options.head)
    undefended.to(memory_format=fast_layout("fp32", device))
    if options.head == ZERO_SHOT:
        undefended = with_zero_shot(undefended, item_classes.labels)
    judging = defence.in_front_of(undefended)
    resize = clean.recorded.resize if options.resize is None else options.resize
    recorded = RecordedExtractor.of(judging, resize, options.precision, options.head, item_classes)
    clean.require_same(recorded)
    if options.head == CLASS_MEANS:
        undefended = clean.with_class_means(undefended, item_classes)
        judging = defence.in_front_of(undefended)
    return Networks(judging, undefended, recorded)


def campaign_of(
    command: AttackCommand,
    clean: CleanSources,
    networks: Networks,
    given: Mapping[int, Path],
    loading: "Loading",
) -> "tuple[Classes, np.ndarray, Campaign]":
    """Return the clean predictions of the attacked images, the features of all items, and the attack."""
    from src.attacks.campaign import Campaign, change_sizes

    settings, layout, resembled = command.settings, command.layout, command.resembled
    extractor, resize = networks.judging, networks.recorded.resize
    catalogue = open_whole_catalogue(layout.images, resize)
    print(describe_reading(catalogue.store.sizes, resize, extractor.trained_size))
    features = clean.read_features(len(catalogue), extractor)
    start = clean.read_start(settings, given)
    ids = start.image_ids
    if given:
        check_given(given, catalogue, settings.attack)
    audience, accounts, scorer = lists_of(command, clean, features, ids, extractor.device)
    reading = {"batch_size": loading.batch_size, "workers": loading.workers}
    guard = None
    if settings.evade:
        guard = Guard.of(settings.evade, extractor, catalogue, features, ids, **reading)
    campaign = Campaign(
        extractor,
        settings,
        command.fidelity,
        catalogue,
        ids,
        **reading,
        features_precision=clean.recorded.precision,
        attacked=networks.undefended if settings.unaware else extractor,
        sizes=resembled and change_sizes(resembled, ids),
        audience=audience,
        accounts=accounts,
        given=given,
        scorer=scorer,
        guard=guard,
    )
    return start, features, campaign


def lists_of(
    command: AttackCommand,
    clean: CleanSources,
    features: np.ndarray,
    image_ids: np.ndarray,
    device: "torch.device",
) -> "tuple[Audience | Buyers | None, Audience | None, Extractor | None]":
    """Return the users whose lists are attacked, the accounts that are asked, and their own network.

    Each is None where the attack has none: the accounts belong to an attack that sees places alone, the
    network to a recommender that reads pixels.
    """
    settings = command.settings
    if not (settings.objective and command.scored_by):
        return None, None, None
    seen = read_pixels(command.layout, clean.features) if command.reads_pixels else features
    data = TrainingData(load_interactions(command.layout, len(features)), seen)
    _, recommender = load_recommender(command.scored_by, data)
    scorer = recommender.extractor(device) if command.reads_pixels else None
    lists = (recommender, data, image_ids, settings.top_k)
    if recommender.moves_users:
        audience = buyers_of(*lists, settings.target_item, at_most=SAMPLED_BUYERS)
        print(
            f"no image of these items alone shows item {settings.target_item} to more than "
            f"{audience.reach.mean():.2%} of its buyers"
        )
    else:
        audience = audience_of(*lists)
    accounts = None
    if settings.attack.asks_places:
        at_most = settings.attack.accounts
        accounts = audience_of(*lists, at_most=at_most, seed=settings.seed, with_rivals=True)
    return audience, accounts, scorer


def say_outcome(campaign: "Campaign", outcome: "AttackOutcome") -> None:
    """Print how many images succeed, before rounding, as stored, and over draws of the defence."""
    if campaign.knows_success:
        before, after = outcome.success_rates
        print(f"success rate: {before:.2f} % before rounding, {after:.2f} % of the stored images")
    if "draws_mean" in outcome.images:
        mean, worst = outcome.images[["draws_mean", "draws_worst"]].mean()
        what = "exposure" if campaign.settings.objective else "success"
        print(f"{what} over fresh draws of the defence: {mean:.4f}, at worst {worst:.4f} an image")


def describe_defence(defence: Defence, settings: AttackSettings) -> str:
    """Return the defence in front of the network, and whether the attack knows it, in words."""
    if settings.unaware or not settings.attack.sees_network:
        return f"judged through {defence.text}, which the attack does not know"
    draws = f", mean of {settings.eot} draws" if settings.eot else ""
    return f"attacked through {defence.text} (backward: {defence.backward}{draws})"


if __name__ == "__main__":
    sys.exit(run(main))
