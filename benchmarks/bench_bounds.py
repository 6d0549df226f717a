"""Time of a proof: CROWN for one item and 1,000 users, and smoothing beside its bare forwards.

    python benchmarks/bench_bounds.py
    python benchmarks/bench_bounds.py --checkpoint FILE --images images.npz

The network is ``wong_small``, by default with random weights, which leave the sign of more units open
than the weights of a provable training do. The exit code is 1 where a mark is missed: CROWN takes at most
.3 seconds of one core an item within 8/255 with weights of a provable training, smoothing at most 1.5
times its forwards. Seconds are those of the processor, since other jobs stretch those on the clock.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.defences.bounds import Bounded
from src.defences.median_smoothing import smoothed_bounds
from src.defences.smoothing import noisy_features
from src.extractors.architectures import build_extractor
from src.extractors.checkpoints import load_extractor

ARCH, SIDE, USERS, COPIES, BLOCK = "wong_small", 28, 1_000, 1_000, 8
SECONDS, SLOWER = 0.3, 1.5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help=f"weights of {ARCH} (default: random ones)")
    parser.add_argument("--images", type=Path, help="x (n, 28, 28) uint8 (default: random ones)")
    parser.add_argument("--items", type=int, default=8, help="items to prove")
    parser.add_argument("--eps", type=float, default=8, help="budget in grey levels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    extractor = build_extractor(ARCH, "ab")
    if options.checkpoint:
        extractor = load_extractor(ARCH, options.checkpoint)
    extractor.eval().requires_grad_(False)
    images = torch.rand(options.items, 3, SIDE, SIDE)
    if options.images:
        pixels = torch.from_numpy(np.load(options.images)["x"][: options.items])
        images = (pixels[:, None].float() / 255).expand(-1, 3, -1, -1)
    slopes = torch.randn(USERS, extractor.n_features)
    kept = [
        time_crown(Bounded(extractor), images, slopes, options.eps / 255),
        time_smoothing(extractor, images, slopes),
    ]
    return 0 if all(kept) else 1


def time_crown(bounded: Bounded, images: Tensor, slopes: Tensor, eps: float) -> bool:
    """Time each item after one that warms up."""
    bounded.upper_bounds(images[0], eps, slopes)
    timings = [timed(lambda of=image: bounded.upper_bounds(of, eps, slopes)) for image in images]
    seconds = statistics.median(timings)
    print(
        f"CROWN for {USERS} users within {eps * 255:g}/255: {seconds:.3f} s an item (at most {SECONDS})"
    )
    return seconds <= SECONDS


def time_smoothing(extractor: torch.nn.Module, images: Tensor, slopes: Tensor) -> bool:
    """Time bounds of all users' medians beside the forwards of the noisy copies alone."""
    users, pixels = slopes.numpy(), images[:BLOCK]

    def forwards() -> Tensor:
        with torch.inference_mode():
            return noisy_features(extractor, pixels, 0.25, COPIES)

    def bounds() -> None:
        for noisy in forwards().transpose(0, 1).numpy():
            smoothed_bounds(users @ noisy.T, 0.125, 0.25, USERS)

    bare, whole = timed(forwards), timed(bounds)
    print(
        f"smoothing with {COPIES} copies: {whole / len(pixels):.3f} s an item, forwards alone "
        f"{bare / len(pixels):.3f} s, ratio {whole / bare:.2f} (at most {SLOWER})"
    )
    return whole <= SLOWER * bare


def timed(work: Callable[[], object]) -> float:
    """Return seconds of the processor."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
