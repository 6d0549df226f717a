"""Cost of PGD through each defence in front, beside PGD without it and the defence's own forward passes.

python benchmarks/bench_defences.py
python benchmarks/bench_defences.py --arch squeezenet1_1 --threads 1
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import interleaved
from src.attacks.expectation import Expected
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.registry import PGD
from src.attacks.victim import ExtractorVictim
from src.defences.registry import parse_defence
from src.extractors.architectures import build_extractor
from src.extractors.extractor import Extractor

STEPS = 10
DRAWS = 4
SIDE = 224
TARGET = 1.3
DEFENCES = (
    "jpeg:quality=50",
    "bits:n=4",
    "resize:side=112",
    "blur:sigma=1",
    "median_filter:side=3",
    "tv:weight=0.05",
    "random_noise:sigma=0.05",
    f"smooth:sigma=0.1,n={DRAWS}",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet50", help="torchvision architecture")
    parser.add_argument("--batch", type=int, default=4, help=f"images of {SIDE} pixels in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--defences", nargs="+", default=DEFENCES, help="texts of --preprocess")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.arch} on {device}")
    print(f"PGD-{STEPS}: ms an image; target: {TARGET} times the undefended attack and the defence")
    torch.manual_seed(0)
    extractor = build_extractor(options.arch, [str(n) for n in range(1000)]).eval().to(device)
    images = torch.rand(options.batch, 3, SIDE, SIDE, device=device)
    for text in options.defences:
        compare(extractor, images, text, options.repeats)


def compare(extractor: Extractor, images: Tensor, text: str, repeats: int) -> None:
    """Print one line: the attack through the defence ``text`` beside its parts.

    Both attacks see equally many images: where the defence shows the network several copies of an
    image, or the attack several draws, the undefended attack is on as many images.
    """
    defence = parse_defence(text)
    defended = defence.in_front_of(extractor)
    n_draws = DRAWS if defence.is_random or not defence.changes_images else 1
    attack = PGD(8.0, nb_iter=STEPS)
    through = Expected(attack, n_draws) if defence.is_random else attack
    copies = images.repeat(n_draws, 1, 1, 1)

    def attacked(attack: PGD | Expected, network: Extractor, images: Tensor) -> Tensor:
        goal = ClassGoal(torch.zeros(len(images), dtype=torch.long, device=images.device))
        with frozen(network):
            return attack(ExtractorVictim(network), images, goal)

    def alone() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                defence(copies)

    sides = {
        "through": lambda: attacked(through, defended, images),
        "undefended": lambda: attacked(attack, extractor, copies),
        "defence": alone if defence.changes_images else lambda: None,
    }
    _, taken = interleaved(sides, repeats, images.device)
    ratio = statistics.median(
        of / (plain + own)
        for of, plain, own in zip(
            taken["through"], taken["undefended"], taken["defence"], strict=True
        )
    )
    through_ms, plain_ms, own_ms = (
        1000 * statistics.median(of) / len(images) for of in taken.values()
    )
    print(
        f"{text:25} through {through_ms:8.1f}  undefended {plain_ms:8.1f}  "
        f"defence {own_ms:7.1f}  ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
