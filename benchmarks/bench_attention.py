"""Cost of attention: in training beside the stated units, and in closed form beside Grad-CAM.

    python benchmarks/bench_attention.py [--arch cifar_resnet20 resnet18] [--steps 3] [--gpu -1]

A unit is a step of plain training on equally many pictures in the same run. ``train_extractor.py`` states
the cost of a recipe before it trains; the benchmark compares this statement with the measured time. The
peer of the closed form is autograd's Grad-CAM at the same layer, which needs a graph and a backward pass.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from timing import seconds

from src.extractors.architectures import build_extractor, input_size
from src.extractors.attention import Watched, class_directions
from src.extractors.device import select_device
from src.extractors.extractor import Extractor
from src.training.adversaries import AdversaryBudget
from src.training.cost import cost_of
from src.training.recipes import RECIPES, Recipe
from src.training.steps import State, train_step

TIMED = ("plain", "pgd_at", "preserve", "rectify", "arp")
EPS = 8 / 255
N_CLASSES = 10


def recipe_named(name: str, steps: int) -> Recipe:
    recipe = RECIPES[name]
    if recipe.adversary is None:
        return recipe
    budget = AdversaryBudget(EPS, EPS / steps, steps)
    return replace(recipe, adversary=replace(recipe.adversary, budget=budget))


def best_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    # The first run only warms up.
    return min([seconds(work, device) for _ in range(1 + repeats)][1:])


def step_seconds(
    extractor: Extractor, recipe: Recipe, images: torch.Tensor, classes: torch.Tensor, repeats: int
) -> float:
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=1e-6)
    state, generator = State.of(recipe, extractor, n_steps=1), torch.Generator().manual_seed(0)

    def work() -> None:
        train_step(extractor, [optimizer], recipe, state, images, classes, generator)

    return best_seconds(work, images.device, repeats)


def map_seconds(
    extractor: Extractor, images: torch.Tensor, classes: torch.Tensor, repeats: int
) -> tuple[float, float]:
    """Measure the seconds of the closed form and of Grad-CAM on one batch, including the forward."""
    watched, directions = Watched(extractor.eval()), class_directions(extractor, classes).detach()

    def read() -> None:
        watched.attention(watched(images), directions)

    extractor.requires_grad_(False)
    with torch.inference_mode():
        closed = best_seconds(read, images.device, repeats)
    extractor.requires_grad_(True)
    watched.averaged = False
    return closed, best_seconds(read, images.device, repeats)


def measure(arch: str, options: argparse.Namespace) -> None:
    device = select_device(options.gpu)
    torch.manual_seed(0)
    extractor = build_extractor(arch, [str(label) for label in range(N_CLASSES)])
    extractor.to(device, memory_format=torch.channels_last)
    side = min(input_size(arch), options.size)
    images = torch.rand(options.batch, 3, side, side, device=device)
    classes = torch.randint(N_CLASSES, (options.batch,), device=device)
    print(f"{arch}, {side} pixels, {options.batch} pictures, {options.steps} inner steps")
    unit = None
    for name in TIMED:
        recipe = recipe_named(name, options.steps)
        took = step_seconds(extractor, recipe, images, classes, options.repeats)
        unit = unit or took
        stated = cost_of(recipe).total
        print(f"  {name:9s} {1e3 * took:8.1f} ms: {took / unit:5.2f} units, {stated:.2f} stated")
    closed, differentiated = map_seconds(extractor, images, classes, options.repeats)
    print(
        f"  maps      {1e3 * closed:8.1f} ms in closed form, {1e3 * differentiated:.1f} by Grad-CAM: "
        f"{differentiated / closed:.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["cifar_resnet20", "resnet18"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="steps of the adversary")
    parser.add_argument("--size", type=int, default=64, help="largest side in pixels")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed runs, of which the best counts"
    )
    parser.add_argument("--gpu", type=int, default=0, help="CUDA device; -1 is the CPU")
    options = parser.parse_args()
    for arch in options.arch:
        measure(arch, options)


if __name__ == "__main__":
    main()
