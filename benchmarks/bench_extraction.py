"""Images per second of stage 1 beside a loop with two forwards per image, and peak memory.

The peer works as published code: for each image one forward for the class and one for the features, with
a batch of one, in evaluation mode, with gradients enabled. Both read the same JPEG files; rounds are
interleaved, and ratios are of the fastest round of each. The network has random weights and reads 224
pixels on the CPU.

    python benchmarks/bench_extraction.py [--images 64] [--rounds 3]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIDE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="resnet50", help="torchvision architecture")
    parser.add_argument("--images", type=int, default=64, help="images in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each variant")
    parser.add_argument(
        "--batch", type=int, default=8, help="images in one forward pass of our side"
    )
    parser.add_argument("--workers", type=int, default=0, help="threads that read images")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--memory_of", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(peak_memory(options))
        return
    measure_speed(options)
    few, many = (measure_memory(options, n) for n in (200, 400))
    print(f"peak memory: {few:.0f} MiB for 200 images, {many:.0f} MiB for 400")


def measure_speed(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = draw_catalogue(Path(folder), options.images)
        extractor = build_extractor(options.arch)
        variants: dict[str, Callable[[], object]] = {
            "two forwards an image": lambda: two_forwards(extractor, catalogue.store.paths),
            "ours, fp32": lambda: ours(extractor, catalogue, options, "fp32"),
            "ours, bf16": lambda: ours(extractor, catalogue, options, "bf16"),
        }
        seconds = {name: [] for name in variants}
        for _ in range(options.rounds):
            for name, variant in variants.items():
                started = time.perf_counter()
                variant()
                seconds[name].append(time.perf_counter() - started)
    best = {name: min(times) for name, times in seconds.items()}
    peer = best["two forwards an image"]
    for name, least in best.items():
        print(f"{name:22s} {options.images / least:7.2f} images/s  {peer / least:5.2f}x")


def build_extractor(arch: str):
    import torch

    from src.extractors.architectures import build_extractor, imagenet_labels

    torch.manual_seed(0)
    extractor = build_extractor(arch, imagenet_labels())
    return extractor.eval()


def draw_catalogue(folder: Path, n: int):
    from src.datasets.catalogue import open_catalogue

    rng = np.random.default_rng(0)
    for item in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{item}.jpg")
    return open_catalogue(folder)


def two_forwards(extractor, paths) -> None:
    """Compute class and features of one image after another, each with a separate forward."""
    from torch import nn
    from torchvision.transforms.functional import normalize, to_tensor

    from src.extractors.zoo import IMAGENET_MEAN, IMAGENET_STD

    network = extractor.network.requires_grad_(True)
    head = extractor.head_name.split(".")[0]
    body = nn.Sequential(*(part for name, part in network.named_children() if name != head))
    for path in paths:
        image = normalize(to_tensor(Image.open(path).convert("RGB")), IMAGENET_MEAN, IMAGENET_STD)
        network(image[None]).softmax(dim=1).max(dim=1)
        body(image[None]).detach().flatten().numpy()


def ours(extractor, catalogue, options: argparse.Namespace, precision: str) -> None:
    from src.extractors.inference import predict

    predict(
        extractor,
        catalogue,
        batch_size=options.batch,
        workers=options.workers,
        precision=precision,
        progress=None,
    )


def measure_memory(options: argparse.Namespace, n: int) -> float:
    """Return the peak memory in MiB of a separate process that extracts ``n`` images."""
    command = [sys.executable, __file__, "--memory_of", n, "--arch", options.arch]
    command += ["--batch", options.batch, "--threads", options.threads]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return float(done.stdout)


def peak_memory(options: argparse.Namespace) -> float:
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = draw_catalogue(Path(folder), options.memory_of)
        ours(build_extractor(options.arch), catalogue, options, "fp32")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
