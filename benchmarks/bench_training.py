"""Speed of adversarial training of embedders beside the bare network, in image passes per second.

    python benchmarks/bench_training.py [--batch 128] [--steps 4] [--gpu -1] [--precision fp32]

One step of HM[S, g_LGA] & ICS on B pairs needs steps x 3B passes that end at the pixels, 3B passes that
end at the weights, and 2B more for ICS; a pass is a forward and a backward of one image. The peer is the
bare network: forward and backward of equally many images at once, including the gradients of weights.
Forwards for mining (2B per step) are not counted. With the objective l2 every triplet takes all steps;
with et, the published objective, triplets that are hard enough leave early, and the passes that they save
are counted as if they had been run.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from timing import seconds

from src.extractors.architectures import build_extractor, input_size
from src.extractors.device import select_device
from src.extractors.extractor import Extractor
from src.training.adversaries import AdversaryBudget
from src.training.recipes import Recipe, hardness_manipulation
from src.training.steps import State, train_step
from src.training.terms import intraclass_structure

GOAL = 0.85
N_CLASSES = 10
EPS = 8 / 255


def recipe_of(objective: str, steps: int) -> Recipe:
    recipe = hardness_manipulation("softhard", "lga", objective)
    budget = AdversaryBudget(EPS, EPS / steps, steps)
    return replace(
        recipe,
        adversary=replace(recipe.adversary, budget=budget),
        terms=((0.5, intraclass_structure),),
    )


def passes(n_pairs: int, steps: int) -> int:
    """Count the image passes of one step: adversary, loss and term."""
    return steps * 3 * n_pairs + 3 * n_pairs + 2 * n_pairs


def bare_rate(extractor: Extractor, images: torch.Tensor, device: torch.device) -> float:
    """Measure images per second, forward and backward."""

    def work() -> None:
        extractor.zero_grad(set_to_none=True)
        extractor(images).features.square().mean().backward()

    return len(images) / seconds(work, device)


def step_rate(
    extractor: Extractor, recipe: Recipe, images: torch.Tensor, classes: torch.Tensor, steps: int
) -> float:
    """Measure image passes per second of one training step."""
    optimizer = torch.optim.Adam(extractor.parameters(), lr=1e-6)
    generator = torch.Generator().manual_seed(0)

    def work() -> None:
        train_step(extractor, [optimizer], recipe, State(), images, classes, generator)

    return passes(len(images) // 2, steps) / seconds(work, images.device)


def measure(arch: str, options: argparse.Namespace) -> None:
    device = select_device(options.gpu)
    torch.manual_seed(0)
    extractor = build_extractor(f"{arch}+512", [str(label) for label in range(N_CLASSES)])
    extractor.to(device, memory_format=torch.channels_last)
    extractor.precision = options.precision
    side = options.size if arch == "resnet18" and options.size else input_size(arch)
    channels = 1 if arch == "c2f2" else 3
    images = torch.rand(2 * options.batch, channels, side, side, device=device)
    classes = torch.randint(N_CLASSES, (options.batch,), device=device).repeat_interleave(2)
    triplets = torch.rand(3 * options.batch, channels, side, side, device=device)
    recipes = {name: recipe_of(name, options.steps) for name in ("l2", "et")}
    rates: dict[str, list[float]] = {"bare": [], **{name: [] for name in recipes}}
    for _ in range(1 + options.repeats):  # the first run only warms up
        extractor.train()
        rates["bare"].append(bare_rate(extractor, triplets, device))
        for name, recipe in recipes.items():
            rates[name].append(step_rate(extractor, recipe, images, classes, options.steps))
    best = {name: max(measured[1:]) for name, measured in rates.items()}
    print(f"{arch}, {side} pixels, {options.batch} pairs, {options.steps} inner steps")
    print(f"  bare network   {best['bare']:9.1f} images/s forward and backward")
    for name in recipes:
        ratio = best[name] / best["bare"]
        goal = f" (at least {GOAL})" if name == "l2" else ""
        print(f"  HM, {name}         {best[name]:9.1f} passes/s: {ratio:.2f} of it{goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["c2f2", "resnet18"])
    parser.add_argument("--batch", type=int, default=128, help="pairs in a step")
    parser.add_argument("--steps", type=int, default=4, help="steps of the adversary")
    parser.add_argument("--size", type=int, default=0, help="side for resnet18; 0 is 224")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs, of which the best counts"
    )
    parser.add_argument("--gpu", type=int, default=0, help="CUDA device; -1 is the CPU")
    options = parser.parse_args()
    for arch in options.arch:
        measure(arch, options)


if __name__ == "__main__":
    main()
