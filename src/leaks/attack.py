"""Inversion attack on many images in stacks, of which a kill costs at most one."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.artifacts.parts import Parts
from src.artifacts.progress import ProgressBar, progress_bar
from src.attacks.storage import to_pixels
from src.datasets.image_set import ImageSet
from src.extractors.architectures import build_extractor, check_arch
from src.extractors.checkpoints import load_extractor
from src.extractors.device import select_device
from src.extractors.extractor import Extractor
from src.extractors.feeding import FittingBatches
from src.extractors.inference import reading
from src.leaks.labels import label_from_gradient
from src.leaks.observations import (
    Observation,
    cross_entropy,
    features_of,
    gradients_of,
    local_updates_of,
    pairwise_ranking,
)
from src.leaks.presets import Preset
from src.leaks.reconstruction import reconstruct
from src.training.sharing import SharingDefence


def load_trained(options: argparse.Namespace) -> Extractor | None:
    """Load the classifier that ``--checkpoint`` names; None for an attack on an untrained one."""
    if options.checkpoint is None:
        return None
    return load_extractor(options.arch, options.checkpoint, select_device(options.gpu))


def build_untrained(options: argparse.Namespace, labels: Sequence[str]) -> Extractor:
    """Build a classifier of the classes named ``labels`` with the random weights of ``--seed``."""
    arch = check_arch(options.arch)
    torch.manual_seed(options.seed)
    extractor = build_extractor(arch, labels).to(select_device(options.gpu))
    return extractor.eval().requires_grad_(False)


@dataclass(frozen=True)
class Sharing:
    """Settings of the observation that is shared about images."""

    observation: str
    """Kind: ``gradients``, ``local_steps``, ``features`` or ``bpr``."""
    batch: int
    """Images of one observation; 2 for ``bpr``, a positive and a negative item."""
    local_steps: int
    local_lr: float

    def of(self, extractor: Extractor, given: Tensor | None) -> Observation:
        """Return the observation of ``extractor`` with the classes, or users of ``bpr``, ``given``."""
        match self.observation:
            case "gradients":
                return gradients_of(extractor, cross_entropy, given)
            case "local_steps":
                steps, lr = self.local_steps, self.local_lr
                return local_updates_of(extractor, cross_entropy, given, steps=steps, lr=lr)
            case "bpr":
                return gradients_of(extractor, pairwise_ranking, given)
            case _:
                return features_of(extractor)


@dataclass(frozen=True)
class InversionOutcome:
    """Reconstructions of n images, in the order of the images."""

    pixels: np.ndarray
    """Images (n, side, side, 3) uint8."""
    classes: np.ndarray
    """Reconstructed classes (n,) int64; -1 if the classes were given."""
    costs: np.ndarray
    """Costs (n,) float32 of the observation to which an image belongs."""
    restarts: np.ndarray
    """Number (n,) int64 of the best restart; -1 if all restarts diverged."""
    seconds: np.ndarray
    """Time per image in seconds, (n,) float64, the time of its stack divided by the stack's images."""

    @classmethod
    def of(cls, parts: list[Mapping[str, np.ndarray]]) -> "InversionOutcome":
        return cls(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


@dataclass(frozen=True)
class InversionAttack:
    """Attack on ``images``, whose number is a multiple of the mini-batch.

    Starts depend on the seed and the id of an image, noise and users on the seed and the stack, so that a
    run that was killed and continued gives the results of an uninterrupted run.
    """

    extractor: Extractor
    images: ImageSet
    sharing: Sharing
    preset: Preset
    labels: str
    """Source of the classes: ``given``, ``analytic`` or ``joint``."""
    defence: SharingDefence | None = None
    targets: int = 16
    """Number of targets in a stack, which are attacked together."""
    seed: int = 0

    def __post_init__(self) -> None:
        largest = int(self.images.classes.max())
        if self.sharing.observation in ("gradients", "local_steps") and (
            largest >= self.extractor.n_classes
        ):
            raise UserError(
                f"an image has class {largest}, but the network knows {self.extractor.n_classes} classes"
            )
        _check_size(self.extractor, self.images.batch(np.arange(1)))

    def run(self, parts: Parts, name: str) -> InversionOutcome:
        """Attack all images; ``parts`` keeps finished stacks, and ``name`` labels the progress bar."""
        per_stack = self.targets * self.sharing.batch
        stacks = [
            slice(first, first + per_stack) for first in range(0, len(self.images), per_stack)
        ]
        done = [parts.load(number) for number in range(len(stacks))]
        steps = self.preset.restarts * self.preset.iterations
        fitting = FittingBatches(of="target")
        finished = sum(len(part["classes"]) for part in done if part is not None)
        with progress_bar(
            total=len(self.images) // self.sharing.batch * steps,
            initial=finished // self.sharing.batch * steps,
            desc=name,
            unit="step",
            smoothing=0,
        ) as bar:
            for number, rows in enumerate(stacks):
                if done[number] is None:
                    done[number] = self._attack_stack(number, rows, fitting, bar)
                    parts.save(number, done[number])
        return InversionOutcome.of(done)

    def _attack_stack(
        self, number: int, rows: slice, fitting: FittingBatches, bar: ProgressBar
    ) -> dict[str, np.ndarray]:
        """Attack one stack and return the fields of its ``InversionOutcome``."""
        started = time.monotonic()
        stack = self.images.take(rows)
        attack = partial(self._attack_targets, number, stack, bar)
        found = fitting.run(attack, len(stack) // self.sharing.batch)
        return {
            **{name: np.concatenate([of[name] for of in found]) for name in found[0]},
            "seconds": np.full(len(stack), (time.monotonic() - started) / len(stack)),
        }

    def _attack_targets(
        self, number: int, stack: ImageSet, bar: ProgressBar, targets: slice
    ) -> dict[str, np.ndarray]:
        """Attack some ``targets`` of a stack together and return what is found of their images.

        Noise and users depend on the first target too, for a stack that had to be halved.
        """
        batch = self.sharing.batch
        generator = torch.Generator().manual_seed(_seed_of(self.seed, number, targets.start))
        taken = stack.take(slice(targets.start * batch, targets.stop * batch))
        images = self._grouped(to_pixels(taken.pixels(), self.extractor.device))
        classes = self._grouped(torch.from_numpy(taken.classes))
        observe = self.sharing.of(self.extractor, self._given(classes, generator))
        observed = observe(images)
        if self.defence is not None:
            observed = self.defence.stacked(observed, generator)
        if self.labels == "analytic":
            observe = replace(observe, given=label_from_gradient(observe, observed))
        found = reconstruct(
            observe,
            observed,
            images.shape,
            self.preset,
            seed=self.seed,
            targets=self.targets,
            ids=taken.ids[::batch].tolist(),
            n_classes=self.extractor.n_classes if self.labels == "joint" else None,
            progress=bar.update,
        )
        if self.labels == "joint":
            inferred = found.shares.argmax(dim=-1)
        else:
            inferred = observe.given if self.labels == "analytic" else torch.full_like(classes, -1)
        return {
            "pixels": _to_levels(found.images.flatten(0, -4)),
            "classes": inferred.flatten().cpu().numpy(),
            "costs": found.costs.cpu().numpy().repeat(batch),
            "restarts": found.restarts.cpu().numpy().repeat(batch),
        }

    def _grouped(self, of_images: Tensor) -> Tensor:
        """Group values of images: (targets, ...) for single images, (targets, n, ...) for batches."""
        batch = self.sharing.batch
        return of_images if batch == 1 else of_images.unflatten(0, (-1, batch))

    def _given(self, classes: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the second input of an observation: classes, or random users for ``bpr``."""
        if self.sharing.observation == "bpr":
            return torch.randn(len(classes), self.extractor.n_features, generator=generator)
        return classes


def _check_size(extractor: Extractor, pixels: np.ndarray) -> None:
    """Raise ``UserError`` if the network cannot read images of the size of ``pixels`` (n, H, W, 3)."""
    remedy = "{side} (--size, for images in files)"
    with reading(pixels.shape[1:3], remedy, extractor.arch), torch.inference_mode():
        extractor(to_pixels(pixels, extractor.device))


def _to_levels(images: Tensor) -> np.ndarray:
    """Round images to the nearest levels: (n, 3, H, W) in [0, 1] -> (n, H, W, 3) uint8."""
    return images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _seed_of(seed: int, stack: int, first: int) -> int:
    """Return a seed, independent of others, for the targets of ``stack`` from its ``first`` on."""
    return int(np.random.SeedSequence((seed, stack, first)).generate_state(1, np.uint64)[0] >> 1)
