"""Speed of stacked inversion beside one image at a time, in steps of one target per second.

    python benchmarks/bench_inversion.py [--arch cifar_resnet20] [--targets 16 32] [--gpu -1]

A step computes the gradient of the weights, its cost and the gradient of that cost by the pixels, and
updates with Adam. The peer is the published way: autograd with ``create_graph`` through the unchanged
network, one image. Our side is ``reconstruct``, including scoring, for a single target and for stacks.
Nothing is timed unless pixels of a stack are within 1e-3 of those of a single target after 50 unsigned
steps, and within 1e-3 of the peer's after 10: the peer sums in another order, later a rounding error
switches a ReLU, and Adam then moves single pixels by more.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from timing import seconds
from torch import Tensor

from src.extractors.architectures import build_extractor, input_size
from src.extractors.device import select_device
from src.extractors.extractor import Extractor
from src.leaks.observations import cross_entropy, gradients_of
from src.leaks.presets import PRESETS
from src.leaks.reconstruction import reconstruct, total_variation

GOAL = 2.5
TOLERANCE = 1e-3
CHECKED_STEPS = {"single": 50, "peer": 10}
N_CLASSES = 10
PRESET = replace(PRESETS["inversed"], signed=False, decay=False)


def one_at_a_time(extractor: Extractor, image: Tensor, label: Tensor, steps: int) -> Tensor:
    """Invert one image (1, 3, H, W) with the published loop, from ``reconstruct``'s start of seed 0."""
    parameters = list(extractor.parameters())
    mean, std = extractor.mean, extractor.std
    observed = torch.autograd.grad(cross_entropy(extractor(image), label), parameters)
    start = np.random.default_rng([0, 0, 0]).standard_normal(image.shape[1:], dtype=np.float32)
    points = torch.from_numpy(start)[None].to(image.device).requires_grad_()
    optimizer = torch.optim.Adam([points], PRESET.lr)
    for _ in range(steps):
        loss = cross_entropy(extractor(points * std + mean), label)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        pairs = list(zip(gradients, observed, strict=True))
        product = sum((g * o).sum() for g, o in pairs)
        lengths = [
            sum(tensor.square().sum() for tensor in side).sqrt() for side in (gradients, observed)
        ]
        cost = 1 - product / (lengths[0] * lengths[1])
        objective = cost + PRESET.tv * total_variation(points).sum()
        (points.grad,) = torch.autograd.grad(objective, points)
        optimizer.step()
        with torch.no_grad():
            points.clamp_(-mean / std, (1 - mean) / std)
    return (points * std + mean).detach()


def stacked(extractor: Extractor, images: Tensor, classes: Tensor, steps: int) -> Tensor:
    observe = gradients_of(extractor, cross_entropy, classes)
    preset = replace(PRESET, iterations=steps)
    found = reconstruct(observe, observe(images), images.shape, preset, seed=0, targets=len(images))
    return found.images


def check(extractor: Extractor, images: Tensor, classes: Tensor) -> None:
    """Exit unless all sides find the same first image."""
    first = images[:1], classes[:1]
    for name, work in (("single", stacked), ("peer", one_at_a_time)):
        steps = CHECKED_STEPS[name]
        ours = stacked(extractor, images, classes, steps)[:1]
        apart = (ours - work(extractor, *first, steps)).abs().max().item()
        if apart > TOLERANCE:
            raise SystemExit(f"pixels of stack and {name} are {apart:.1e} apart")
        print(f"stack and {name} are {apart:.0e} apart after {steps} steps")


def measure(arch: str, options: argparse.Namespace) -> None:
    device = select_device(options.gpu)
    torch.manual_seed(0)
    extractor = build_extractor(arch, [str(label) for label in range(N_CLASSES)]).to(device).eval()
    side, most = input_size(arch), max(options.targets)
    coarse = torch.rand(most, 3, 4, 4, device=device)
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    classes = torch.arange(most, device=device) % N_CLASSES
    check(extractor, images[:2], classes[:2])
    rates: dict[int, list[float]] = {n: [] for n in (0, 1, *options.targets)}
    for _ in range(1 + options.repeats):  # the first run only warms up
        for n, measured in rates.items():
            work = stacked if n else one_at_a_time
            chosen = slice(0, max(n, 1))
            lasted = seconds(
                lambda work=work, chosen=chosen: work(
                    extractor, images[chosen], classes[chosen], options.steps
                ),
                device,
            )
            measured.append(options.steps * max(n, 1) / lasted)
    best = {n: max(measured[1:]) for n, measured in rates.items()}
    print(f"{arch}, {side} pixels")
    print(f"  one at a time   {best[0]:8.1f} steps/s, {1e3 / best[0]:6.2f} ms a step")
    for n in (1, *options.targets):
        goal = f" (at least {GOAL})" if n > 1 else ""
        ratio = best[n] / best[0]
        print(
            f"  stack of {n:3d}    {best[n]:8.1f} steps/s, {1e3 / best[n]:6.2f} ms: {ratio:.2f}x{goal}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["cifar_resnet20", "lenet_zhu"])
    parser.add_argument(
        "--targets", type=int, nargs="+", default=[16, 32], help="targets in a stack"
    )
    parser.add_argument("--steps", type=int, default=5, help="steps in each timed run")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs, of which the best counts"
    )
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device; -1 is the CPU")
    options = parser.parse_args()
    for arch in options.arch:
        measure(arch, options)


if __name__ == "__main__":
    main()
