"""Hot loops on a GPU, each beside the bare network in the same run: ratios, and their marks.

    python benchmarks/bench_gpu.py [--device cuda|cpu] [--size full|small] [--what stage1 pgd ...]

The bare network works on images that are on the device already: a forward; a forward and the gradient of
the pixels; a training step. A ratio is the time that the bare network takes for the work of our loop, in
its stated units (``training/cost.py``), over the time of our loop. Both are the fastest of ``--repeats``
interleaved runs; 1 is a loop that costs nothing beside its network. Stage 1 reads JPEG files
with Pillow, and with the decoder of the device. PGD with ``--fast`` has the exact PGD as a second peer.
Networks have random weights.

The exit code is 1 if a mark is missed on a GPU. ``--device cpu`` runs the same code, where marks do not
count, and ``--size small`` takes seconds.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from timing import seconds
from torch import Tensor

from src.attacks.carlini_wagner import CarliniWagner
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.registry import PGD
from src.attacks.victim import ExtractorVictim
from src.datasets.catalogue import open_catalogue
from src.datasets.image_set import ImageArray, ImageSet
from src.datasets.interactions import Interactions
from src.extractors.architectures import build_extractor
from src.extractors.decoding import JpegDecoder
from src.extractors.device import Loading, select_device
from src.extractors.extractor import Extractor, Precision, fast_copy, fast_layout
from src.extractors.inference import predict
from src.leaks.observations import cross_entropy, gradients_of
from src.leaks.presets import PRESETS
from src.leaks.reconstruction import reconstruct
from src.recommenders.gpu_ranking import lists_and_ranks_on
from src.training.adversaries import AdversaryBudget
from src.training.cost import FORWARD, INPUT_GRADIENT, cost_of
from src.training.pictures import FLIPPED, read_pixels, to_images
from src.training.recipes import RECIPES, Recipe, hardness_manipulation
from src.training.steps import State, train_step

N_CLASSES = 10
NOT_SLOWER = 0.97
"""Mark of ``--fast`` beside the exact attack; the rest is noise of timing."""
FACTORS, TOP_K = 64, 150


@dataclass(frozen=True)
class Size:
    """Sizes of all loops."""

    arch: str
    side: int
    files: int
    """Files that stage 1 reads."""
    batch: int
    steps: int
    """Steps of PGD, and of a training's adversary."""
    batches: int
    """Training steps, and batches of attacks, in one timed run."""
    iterations: int
    """Steps of C&W and of inversion."""
    targets: int
    """Images that are inverted together."""
    users: int
    items: int


SIZES = {
    "full": Size("resnet50", 224, 8192, 128, 10, 8, 100, 32, 200_000, 100_000),
    "small": Size("cifar_resnet20", 32, 12, 4, 2, 1, 3, 2, 50, 40),
}
INVERTED_ARCH, INVERTED_SIDE = "cifar_resnet20", 32


@dataclass(frozen=True)
class Loop:
    """Our loop and its bare peer."""

    name: str
    ours: Callable[[], object]
    bare: Callable[[], object]
    units: float = 1.0
    """Work of one run of ``ours``, in runs of ``bare``."""
    mark: float | None = None
    """Least ratio on a GPU."""


@dataclass(frozen=True)
class Bench:
    """Loops of one size on one device."""

    size: Size
    device: torch.device
    folder: Path

    def extractor(self, arch: str | None = None) -> Extractor:
        torch.manual_seed(0)
        built = build_extractor(arch or self.size.arch, [str(n) for n in range(N_CLASSES)])
        return built.eval().to(self.device)

    def images(self, n: int, precision: Precision = "fp32") -> Tensor:
        """Draw images (n, 3, side, side) on the device, in the memory layout of the precision."""
        images = torch.rand(n, 3, self.size.side, self.size.side, device=self.device)
        return images.contiguous(memory_format=fast_layout(precision, self.device))

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return ("fp32", "bf16") if self.device.type == "cpu" else ("fp32", "tf32", "bf16")

    def stage1(self) -> Iterator[Loop]:
        """Yield stage 1 from files, by each decoder, beside the forward alone."""
        rng, side = np.random.default_rng(0), self.size.side
        for item in range(self.size.files):
            coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
            whole = coarse.resize((side, side), Image.Resampling.BICUBIC)
            whole.save(self.folder / f"{item}.jpg")
        catalogue, extractor = open_catalogue(self.folder), self.extractor()
        workers = Loading.on(self.device, None, None).workers
        gpu_decoder = JpegDecoder(self.device)
        for precision in self.precisions:
            fast, images = fast_copy(extractor, precision), self.images(self.size.batch, precision)

            def ours(decoder: JpegDecoder | None, precision: Precision = precision) -> None:
                predict(
                    extractor,
                    catalogue,
                    batch_size=self.size.batch,
                    workers=workers,
                    precision=precision,
                    progress=None,
                    decoder=decoder,
                )

            def bare(fast: Extractor = fast, images: Tensor = images) -> None:
                with torch.inference_mode():
                    fast(images)

            units = self.size.files / self.size.batch
            for decoder, by, mark in ((None, "Pillow", 0.5), (gpu_decoder, "the device", 0.7)):
                name = f"stage 1, {precision}, decoded by {by}"
                mark = mark if precision == "bf16" else None
                yield Loop(name, partial(ours, decoder), bare, units, mark)

    def pgd(self) -> Iterator[Loop]:
        """Yield PGD, beside a forward and a gradient of the pixels for each of its steps."""
        extractor, n = self.extractor().requires_grad_(False), self.size.batch
        attack = PGD(8.0, nb_iter=self.size.steps)
        exact = self._attacking(ExtractorVictim(extractor), attack)
        yield Loop("PGD, exact", exact, self._input_gradient(extractor, "fp32"), self._passes)
        for precision in self.precisions:
            victim = ExtractorVictim(extractor, fast=True, precision=precision)
            bare = self._input_gradient(victim.network, precision)
            name = f"PGD, --fast {precision}"
            mark = 0.8 if precision == "bf16" else None
            ours = self._attacking(victim, attack)
            yield Loop(f"{name}, {n} images", ours, bare, self._passes, mark)
            yield Loop(f"{name}, beside the exact PGD", ours, exact, 1.0, NOT_SLOWER)

    @property
    def _passes(self) -> float:
        return float(self.size.batches * self.size.steps)

    def _attacking(self, victim: ExtractorVictim, attack: Callable) -> Callable[[], None]:
        images = self.images(self.size.batch)
        goal = ClassGoal(torch.zeros(len(images), dtype=torch.long, device=self.device))

        def attack_all() -> None:
            with frozen(*victim.networks):
                for _ in range(self.size.batches):
                    attack(victim, images, goal)

        return attack_all

    def _input_gradient(self, network: Extractor, precision: Precision) -> Callable[[], None]:
        images = self.images(self.size.batch, precision).requires_grad_()

        def forward_and_backward() -> None:
            torch.autograd.grad(network(images).logits.sum(), images)

        return forward_and_backward

    def cw(self) -> Iterator[Loop]:
        """Yield C&W whose images all take all steps, beside as many gradients of the pixels."""
        extractor = self.extractor().requires_grad_(False)
        attack = CarliniWagner(search_steps=1, iterations=self.size.iterations, abort="never")
        for precision in self.precisions:
            victim = ExtractorVictim(extractor, fast=True, precision=precision)
            yield Loop(
                f"C&W, {precision}",
                self._attacking(victim, attack),
                self._input_gradient(victim.network, precision),
                float(self.size.batches * self.size.iterations),
                0.7 if precision == "bf16" else None,
            )

    def training(self) -> Iterator[Loop]:
        """Yield training with reading and augmentation, beside the bare training step in stated units."""
        budget = AdversaryBudget(8 / 255, 2 / 255, self.size.steps)
        madry = RECIPES["madry"]
        madry = replace(madry, adversary=replace(madry.adversary, budget=budget))
        manipulated = hardness_manipulation("softhard", "lga", "l2")
        manipulated = replace(manipulated, adversary=replace(manipulated.adversary, budget=budget))
        # By drawn image: mining reads it once, and a pair becomes a triplet in all other passes.
        of_triplets = FORWARD + 1.5 * (self.size.steps * INPUT_GRADIENT + 1)
        precision: Precision = "bf16"
        for name, recipe, units, mark in (
            ("plain", RECIPES["plain"], 1.0, 0.75),
            ("Madry", madry, cost_of(madry).total, 0.7),
            ("Free-AT", RECIPES["free"], cost_of(RECIPES["free"]).total, 0.7),
            ("HM", manipulated, of_triplets, 0.7),
        ):
            arch = self.size.arch + ("+512" if name == "HM" else "")
            ours = self._steps(self._trained(arch, precision), recipe, precision)
            bare = self._bare_step(self._trained(arch, precision), precision)
            total = units * self.size.batches
            yield Loop(f"training, {name}, {precision}", ours, bare, total, mark)

    def _trained(self, arch: str, precision: Precision) -> tuple[Extractor, torch.optim.Optimizer]:
        extractor = self.extractor(arch).train()
        extractor.to(memory_format=fast_layout(precision, self.device))
        extractor.precision = precision
        return extractor, torch.optim.SGD(extractor.parameters(), 1e-4, momentum=0.9, nesterov=True)

    def _steps(
        self,
        trained: tuple[Extractor, torch.optim.Optimizer],
        recipe: Recipe,
        precision: Precision,
    ) -> Callable[[], None]:
        """Return the steps of an epoch of ``training.loop``."""
        extractor, optimizer = trained
        n, side = self.size.batch * self.size.batches, self.size.side
        pixels = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        classes = np.arange(n) // 2 % N_CLASSES
        pictures = ImageSet.of(ImageArray(pixels), classes, [str(n) for n in range(N_CLASSES)])
        batches = torch.arange(n).split(self.size.batch)
        state, on_device = State(), torch.from_numpy(classes).to(self.device)

        def epoch() -> None:
            generator = torch.Generator().manual_seed(0)
            for rows, of_batch in read_pixels(pictures, batches, self.device):
                images = to_images(FLIPPED.training(of_batch, generator), precision)
                own = on_device[rows[0] : rows[-1] + 1]
                train_step(extractor, [optimizer], recipe, state, images, own, generator)
            state.seen.clear()

        return epoch

    def _bare_step(
        self, trained: tuple[Extractor, torch.optim.Optimizer], precision: Precision
    ) -> Callable[[], None]:
        extractor, optimizer = trained
        images = self.images(self.size.batch, precision)

        def step() -> None:
            optimizer.zero_grad()
            extractor(images).features.square().mean().backward()
            optimizer.step()

        return step

    def inversion(self) -> Iterator[Loop]:
        """Yield gradient inversion, beside the gradient of the pixels through the shared gradient."""
        extractor, n = self.extractor(INVERTED_ARCH), self.size.targets
        images = torch.rand(n, 3, INVERTED_SIDE, INVERTED_SIDE, device=self.device)
        classes = torch.arange(n, device=self.device) % N_CLASSES
        observe = gradients_of(extractor, cross_entropy, classes)
        observed = observe(images)
        preset = replace(PRESETS["inversed"], decay=False, iterations=self.size.iterations)

        def ours() -> None:
            reconstruct(observe, observed, images.shape, preset, seed=0, targets=n)

        def bare() -> None:
            points = images.clone().requires_grad_()
            shared = observe(points)
            torch.autograd.grad(sum(gradient.square().sum() for gradient in shared), points)

        yield Loop("gradient inversion", ours, bare, float(self.size.iterations), 0.7)

    def ranking(self) -> Iterator[Loop]:
        """Yield lists and ranks of all users, beside products and ``topk`` of one block."""
        rng = np.random.default_rng(0)
        n_users, n_items = self.size.users, self.size.items
        users, items = (rng.standard_normal((n, FACTORS), np.float32) for n in (n_users, n_items))
        owners = np.arange(n_users)
        train, test = (
            np.stack([owners, rng.integers(0, n_items, n_users)], axis=1) for _ in range(2)
        )
        test[:, 1] = np.where(test[:, 1] == train[:, 1], (test[:, 1] + 1) % n_items, test[:, 1])
        interactions = Interactions(train, test, n_users, n_items)
        block = min(n_users, 1024)
        own, table = (torch.from_numpy(of).to(self.device) for of in (users[:block], items))

        def ours() -> None:
            lists_and_ranks_on(self.device, users, items, interactions, TOP_K)

        def bare() -> None:
            (own @ table.T).topk(min(TOP_K, n_items), dim=1)

        yield Loop("ranking", ours, bare, n_users / block)


WHAT: dict[str, Callable[[Bench], Iterator[Loop]]] = {
    "stage1": Bench.stage1,
    "pgd": Bench.pgd,
    "cw": Bench.cw,
    "training": Bench.training,
    "inversion": Bench.inversion,
    "ranking": Bench.ranking,
}


def measured(loop: Loop, device: torch.device, repeats: int) -> tuple[float, float]:
    """Return the least seconds of our loop and of the bare network for its work."""
    times: list[tuple[float, float]] = []
    for _ in range(1 + repeats):  # the first run only warms up
        times.append((seconds(loop.ours, device), seconds(loop.bare, device)))
    ours, bare = (min(of) for of in zip(*times[1:], strict=True))
    return ours, loop.units * bare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--what", nargs="+", choices=tuple(WHAT), default=tuple(WHAT))
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs of each loop and its peer"
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device: --device cpu runs the same code")
    device = select_device(0 if options.device == "cuda" else -1)
    has_marks = device.type == "cuda"
    name = (
        torch.cuda.get_device_name(device)
        if has_marks
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{name}, torch {torch.__version__}, size {options.size}")
    print(f"{'loop':44s} {'ours':>10s} {'bare':>10s} {'ratio':>6s}  mark")
    missed = 0
    for what in options.what:
        with tempfile.TemporaryDirectory() as folder:
            for loop in WHAT[what](Bench(SIZES[options.size], device, Path(folder))):
                ours, bare = measured(loop, device, options.repeats)
                fails = has_marks and loop.mark is not None and bare / ours < loop.mark
                missed += fails
                mark = "" if loop.mark is None else f"{loop.mark:.2f}" + " missed" * fails
                print(
                    f"{loop.name:44s} {ours:9.3f}s {bare:9.3f}s {bare / ours:6.2f}  {mark}",
                    flush=True,
                )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
