"""Cost of FGSM, PGD and C&W as ratios to CleverHans in the same run.

python benchmarks/bench_attacks.py
python benchmarks/bench_attacks.py --arch mobilenet_v2 --weights FILE --images DIR
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import interleaved
from src.attacks.attack import Attack
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal, predict_reached
from src.attacks.registry import CW, FGSM, PGD
from src.attacks.storage import to_pixels
from src.attacks.victim import ExtractorVictim
from src.datasets.catalogue import open_catalogue
from src.extractors.architectures import build_extractor
from src.extractors.checkpoints import load_extractor
from src.extractors.extractor import Extractor, fast_layout

LEVELS = 8.0
EPS = LEVELS / 255
STEPS = 10
TARGETS = {"exact": 0.75, "fast": 0.62, "bf16": 0.35}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet50", help="torchvision architecture")
    parser.add_argument("--weights", type=Path, help="checkpoint (default: random weights)")
    parser.add_argument("--images", type=Path, help="image folder (default: random images)")
    parser.add_argument("--batch", type=int, default=4, help="images of 224 pixels in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each variant")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--skip", choices=("gradient", "cw"), help="leave out one half")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.arch}")
    extractor = victim_network(options.arch, options.weights)
    images = read_images(options.images, options.batch)
    with torch.no_grad():
        goal = ClassGoal(extractor(images).logits.argsort(dim=1)[:, -2])
    if options.skip != "gradient":
        print("\nFGSM and PGD-10, eps 8/255, targets: exact .75, fast .62, bf16 .35")
        compare_gradient_attacks(extractor, images, goal, options.repeats)
    if options.skip != "cw":
        print("\nC&W, 5 x 1000, on a small network trained here; target: 2.5 times fewer passes")
        compare_carlini_wagner()


def victim_network(arch: str, weights: Path | None) -> Extractor:
    """Return the network with the order in memory that stage 3 gives it."""
    torch.manual_seed(0)
    extractor = (
        load_extractor(arch, weights)
        if weights
        else build_extractor(arch, [str(n) for n in range(1000)]).eval()
    )
    return extractor.to(memory_format=fast_layout("fp32", extractor.device))


def read_images(folder: Path | None, n: int) -> Tensor:
    """Read or draw images (n, 3, 224, 224) in [0, 1]."""
    if folder is None:
        return torch.rand(n, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    catalogue = open_catalogue(folder, resize=224)
    return to_pixels(catalogue.batch(np.arange(min(n, len(catalogue)))))


def compare_gradient_attacks(
    extractor: Extractor, images: Tensor, goal: ClassGoal, repeats: int
) -> None:
    """Run all variants of each attack in turn and print one line for each."""
    extractor.requires_grad_(True)  # a user's model has gradients of weights when CleverHans runs
    victims = {
        "exact": ExtractorVictim(extractor),
        "fast": ExtractorVictim(extractor, fast=True),
        "bf16": ExtractorVictim(extractor, fast=True, precision="bf16"),
    }
    for name, attack, theirs in (
        ("FGSM", FGSM(LEVELS), cleverhans_fgsm),
        ("PGD", PGD(LEVELS, nb_iter=STEPS), cleverhans_pgd),
    ):
        runs: dict[str, Callable[[], Tensor]] = {
            "CleverHans": lambda theirs=theirs: theirs(extractor, images, goal)
        }
        for variant, victim in victims.items():
            runs[variant] = lambda attack=attack, victim=victim: run(attack, victim, images, goal)
        found, seconds = interleaved(runs, repeats, images.device)
        reached = {key: predict_reached(victims["exact"], found[key], goal) for key in runs}
        for variant in runs:
            equal = (reached[variant] == reached["CleverHans"]).float().mean()
            pixels = (found[variant] == found["CleverHans"]).float().mean()
            ratio = statistics.median(
                a / b for a, b in zip(seconds[variant], seconds["CleverHans"], strict=True)
            )
            milliseconds = 1000 * statistics.median(seconds[variant]) / len(images)
            print(
                f"{name:4} {variant:10} {milliseconds:8.1f} ms/image  ratio {ratio:.3f}  "
                f"equal outcomes {equal:.1%}  equal pixels {pixels:.2%}  "
                f"bitwise {torch.equal(found[variant], found['CleverHans'])}"
            )


def run(attack: Attack, victim: ExtractorVictim, images: Tensor, goal: ClassGoal) -> Tensor:
    torch.manual_seed(0)
    with frozen(*victim.networks):
        return attack(victim, images, goal)


def cleverhans_fgsm(extractor: Extractor, images: Tensor, goal: ClassGoal) -> Tensor:
    return fast_gradient_method(
        lambda x: extractor(x).logits, images, EPS, np.inf, 0, 1, y=goal.classes, targeted=True
    ).detach()


def cleverhans_pgd(extractor: Extractor, images: Tensor, goal: ClassGoal) -> Tensor:
    torch.manual_seed(0)
    return projected_gradient_descent(
        lambda x: extractor(x).logits,
        images,
        EPS,
        LEVELS / 6 / 255,
        STEPS,
        np.inf,
        0,
        1,
        y=goal.classes,
        targeted=True,
    ).detach()


def compare_carlini_wagner(n: int = 16) -> None:
    """Compare C&W with per-image abort and without abort on the same images."""
    network = train_stripes()
    images, classes = draw_stripes(n, seed=1)
    goal = ClassGoal((classes + 1 + torch.arange(n) % (N_STRIPES - 1)) % N_STRIPES)
    outcomes = {}
    for abort in ("never", "image"):
        victim = ExtractorVictim(network)
        start = time.perf_counter()
        with frozen(network):
            attacked = CW(abort=abort)(victim, images, goal)
        seconds = time.perf_counter() - start
        passes = victim.passes
        reached = predict_reached(victim, attacked, goal)
        distance = (attacked - images).flatten(1).norm(dim=1)
        outcomes[abort] = passes, distance
        print(
            f"abort {abort:5}  {passes:6d} image passes  {seconds:6.1f} s  "
            f"success {reached.float().mean():.1%}  mean L2 {distance.mean():.4f}"
        )
    passes, distances = zip(*(outcomes[abort] for abort in ("never", "image")), strict=True)
    print(
        f"passes {passes[0] / passes[1]:.2f} times fewer, mean L2 "
        f"{distances[1].mean() / distances[0].mean() - 1:+.2%}, per image "
        f"{(distances[1] / distances[0]).mean() - 1:+.2%}"
    )


N_STRIPES = 8
"""Number of classes of the small victim, which are directions of stripes."""


def draw_stripes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw noisy stripes in one of several directions: images (n, 3, 32, 32) and classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % N_STRIPES
    angle = classes * torch.pi / N_STRIPES + 0.1 * torch.randn(n, generator=generator)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    phase = 6.3 * torch.rand(n, 1, 1, generator=generator)
    along = angle.cos()[:, None, None] * x + angle.sin()[:, None, None] * y
    stripes = torch.sin(0.8 * along + phase)[:, None] * torch.rand(n, 3, 1, 1, generator=generator)
    noise = 0.15 * torch.randn(n, 3, 32, 32, generator=generator)
    return (0.5 + 0.3 * stripes + noise).clamp(0, 1), classes


def train_stripes() -> Extractor:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, N_STRIPES),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(150):
        images, classes = draw_stripes(128, seed=1000 + step)
        loss = nn.functional.cross_entropy(network(images), classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    images, classes = draw_stripes(256, seed=2)
    accuracy = (network(images).argmax(dim=1) == classes).float().mean()
    print(f"victim: {accuracy:.1%} of unseen images right")
    labels = [str(number) for number in range(N_STRIPES)]
    return Extractor(network, labels, "8", mean=(0, 0, 0), std=(1, 1, 1)).eval()


if __name__ == "__main__":
    main()
