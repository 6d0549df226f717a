"""Reconstruct images from the gradients that training on them shares, defended or not."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from src.artifacts.locks import sole_maker
from src.artifacts.manifest import Manifest
from src.artifacts.reconstructions import originals_folder
from src.artifacts.stage import Stage
from src.cli import Parser, run
from src.datasets.catalogue import describe_side
from src.datasets.image_set import ImageSet
from src.datasets.retrieval import check_set
from src.extractors.weights import check_network
from src.extractors.zoo import code_of, recorded_name
from src.leaks.command import (
    NO_DEFENCE,
    RECONSTRUCTIONS,
    TrainingRecord,
    add_inversion_options,
    check_inversion_options,
    condition_name,
    open_inverted_images,
    preset_of,
)

if TYPE_CHECKING:
    from src.training.pictures import Augmentation

RECORDED = ("dataset", "part", "size", "observation", "labels", "optim", "batch_targets", "seed")
SHARED = ("shared_batch", "local_steps", "local_lr")


def main() -> None:
    parser = Parser(__doc__)
    add_inversion_options(parser)
    options = parser.parse_args()
    check_inversion_options(options)
    check_network(options.arch, options.checkpoint, published=False)
    if options.dataset != RECONSTRUCTIONS:
        check_set(options.dataset, options.data)

    from src.leaks.attack import InversionAttack, Sharing, build_untrained, load_trained
    from src.measures.reconstruction_grid import draw_conditions
    from src.measures.reconstruction_tables import outputs_of, overview, write_condition
    from src.training.pictures import parse_augmentation
    from src.training.sharing import parse_gradient_defence

    preset = preset_of(options)
    defences = [
        None if name == NO_DEFENCE else parse_gradient_defence(name)
        for name in options.gradient_defence
    ]
    trained = TrainingRecord.of(options)
    augmentation = parse_augmentation(trained.augmentation)
    extractor = load_trained(options)
    untransformed = open_inverted_images(options, extractor and extractor.trained_size)
    print(describe_side(untransformed.side, extractor and extractor.trained_size))
    attacked = as_in_training(untransformed, augmentation, options.seed)
    extractor = extractor or build_untrained(options, untransformed.labels)
    sharing = Sharing(options.observation, *(getattr(options, key) for key in SHARED))

    checkpoint = [options.checkpoint] if options.checkpoint else []
    inputs = [*untransformed.inputs, *checkpoint]
    folders = []
    for defence in dict.fromkeys(defences):
        arch, defended = recorded_name(extractor.arch), defence and defence.name
        described = {
            "arch": arch,
            **({"code": code} if (code := code_of(extractor.arch)) else {}),
            "epochs": trained.epochs,
            "augmentation": trained.augmentation,
            "trained_augmentation": trained.training,
            "trained_defence": trained.defence,
            "defence": defended,
            "side": untransformed.side,
            **{key: getattr(options, key) for key in (*RECORDED, *SHARED)},
            "preset": asdict(preset),
        }
        folder = options.out / condition_name(options, arch, trained, defended)
        folders.append(folder)
        manifest = Manifest.of(
            "invert_gradients", {**described, "ids": attacked.ids.tolist()}, inputs
        )
        originals = [originals_folder(folder, untransformed=state) for state in (False, True)]
        outputs = [*outputs_of(folder, attacked), *originals]
        stage = Stage(manifest, outputs, folder)
        if stage.is_up_to_date(options.force):
            continue
        attack = InversionAttack(
            extractor,
            attacked,
            sharing,
            preset,
            options.labels,
            defence,
            options.batch_targets,
            options.seed,
        )
        outcome = attack.run(stage.parts, f"{options.optim}, {defended or 'open'}")
        with sole_maker(originals[0]):  # conditions share their originals
            write_condition(folder, described, outcome, attacked, untransformed)
            stage.record()
    print(overview(folders))
    grids = [] if options.no_grid else [draw_conditions(options.out, folders)]
    print("written:", *folders, *grids, sep="\n  ")


def as_in_training(images: ImageSet, augmentation: "Augmentation", seed: int) -> ImageSet:
    """Return ``images`` as a training with this augmentation sees them in one step."""
    import torch

    pixels = torch.from_numpy(images.pixels()).permute(0, 3, 1, 2)
    seen = augmentation.training(pixels, torch.Generator().manual_seed(seed))
    return images.with_pixels(seen.permute(0, 2, 3, 1).contiguous().numpy())


if __name__ == "__main__":
    sys.exit(run(main))
