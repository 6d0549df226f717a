"""Train an extractor on labelled pictures, plainly or with adversarial training."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

from src.artifacts.errors import UserError
from src.artifacts.manifest import Manifest
from src.artifacts.parts import Parts
from src.cli import Parser, pixel_levels, run

HELD_OUT = 0.2
RECIPE_NAMES = ("plain", "free")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures <item>.png")
    parser.add_argument("--labels", type=Path, required=True, help="CSV: item, category, label")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument(
        "--recipe",
        choices=RECIPE_NAMES,
        default="plain",
        help="free: adversarial training for free",
    )
    parser.add_argument("--arch", default="resnet18", help="torchvision architecture")
    parser.add_argument(
        "--epochs", type=int, default=12, help="passes over the pictures, replays included"
    )
    parser.add_argument("--batch", type=int, default=64, help="pictures in a step")
    parser.add_argument("--lr", type=float, default=0.05, help="largest learning rate (SGD)")
    parser.add_argument(
        "--eps", type=pixel_levels, default=4.0, help="L-inf budget in grey levels of 255"
    )
    parser.add_argument(
        "--replays",
        type=int,
        default=None,
        help="steps on each mini-batch (default: 4 with free, else 1)",
    )
    parser.add_argument("--size", type=int, default=0, help="side in pixels; 0: native")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, split, order, augmentation"
    )
    parser.add_argument("--gpu", type=int, default=0, help="CUDA device; -1 is the CPU")
    parser.add_argument(
        "--force", action="store_true", help="train even where the manifest matches"
    )
    options = parser.parse_args()
    for name in ("epochs", "batch", "lr", "eps"):
        if getattr(options, name) <= 0:
            raise UserError(f"--{name} must be above 0")

    import torch

    from src.attacks.gradient_sign import PGD
    from src.extractors.architectures import build_network
    from src.extractors.checkpoints import save_extractor
    from src.extractors.device import select_device
    from src.extractors.extractor import Extractor
    from src.training.accuracy import accuracy
    from src.training.loop import Schedule, train
    from src.training.pictures import read_pictures
    from src.training.recipes import RECIPES

    recipe = RECIPES[options.recipe]
    if options.replays is not None:
        recipe = replace(recipe, replays=options.replays)
    schedule = Schedule(options.epochs, options.batch, options.lr, seed=options.seed)
    manifest = Manifest.of(
        "train_extractor",
        {
            **asdict(schedule),
            "recipe": options.recipe,
            "replays": recipe.replays,
            "eps": options.eps,
            "arch": options.arch,
            "size": options.size,
        },
        [options.images, options.labels],
    )
    if not options.force and manifest.is_current([options.out]):
        print(f"{options.out} is up to date (use --force to redo)")
        return

    pictures = read_pictures(options.images, options.labels, options.size)
    training, held_out = pictures.split(HELD_OUT, options.seed)
    print(
        f"{len(training)} pictures in {len(pictures.labels)} categories to train on, "
        f"{len(held_out)} held out"
    )
    torch.manual_seed(options.seed)
    network = build_network(options.arch, len(pictures.labels))
    extractor = Extractor(network, pictures.labels, arch=options.arch).to(
        select_device(options.gpu)
    )
    parts = Parts.of(manifest, options.out)
    eps = options.eps / 255
    train(extractor, training, recipe, schedule, eps, parts.folder / "training.pt")
    save_extractor(options.out, extractor)
    manifest.write([options.out])
    parts.discard()

    torch.manual_seed(options.seed)
    clean, attacked = (
        accuracy(extractor, held_out),
        accuracy(extractor, held_out, PGD(eps, eps / 4)),
    )
    print(
        f"accuracy on held-out pictures: {clean:.1%} clean, "
        f"{attacked:.1%} under PGD-10 at {options.eps:g}/255"
    )
    print(f"written: {options.out}")


if __name__ == "__main__":
    sys.exit(run(main))
