"""Runs of ranking attacks on labelled images, and measurement of the rankings."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.attacks.profiles import AttackSpec, Definitions
from src.attacks.ranking.aims import Aim
from src.attacks.ranking.descent import NES, Descent
from src.attacks.ranking.gallery import Embed, Gallery, embed_with
from src.attacks.ranking.kinds import RankingAttack, build_ranking_attack
from src.attacks.storage import to_pixels
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.extractors.extractor import Extractor, Precision, fast_copy
from src.extractors.feeding import FittingBatches
from src.extractors.inference import reading

Progress = Callable[[int], object]
Store = Callable[[AttackSpec, np.ndarray, Tensor, np.ndarray], object]
"""Function of the attack, positions, attacked images (N, C, H, W) and clean levels (N, H, W, C)."""


@dataclass(frozen=True)
class Ranker:
    """Network with its embeddings of the clean images."""

    embed: Embed
    gallery: Gallery

    @classmethod
    def of(
        cls,
        embed: Embed,
        images: ImageSet,
        device: torch.device | str,
        batch_size: int,
        progress: Progress | None = None,
    ) -> "Ranker":
        """Embed all images once; ``UserError`` if the network cannot read them."""
        parts, fitting = [], FittingBatches()
        for positions, levels in read_ahead(
            images.batch, images.batches(np.arange(len(images)), batch_size)
        ):
            work = partial(_embed, embed, to_pixels(levels, device))
            parts += fitting.run(work, len(positions))
            if progress:
                progress(len(positions))
        return cls(embed, Gallery(torch.cat(parts), torch.from_numpy(images.classes).to(device)))


class Scores(NamedTuple):
    """Scores of n attacked images by measure, (n,) float64, before and after the attack."""

    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RankingTask:
    """Images, attacked network and source of gradients of attacks on rankings."""

    images: ImageSet
    victim: Ranker
    """Network whose rankings are measured, with its clean embeddings as the gallery."""
    attacker: Ranker
    """Network through which the attack takes gradients (or values): the victim or a surrogate."""
    definitions: Definitions
    nes: NES | None = None
    batch_size: int = 64
    store: Store | None = field(default=None, repr=False)
    _fitting: FittingBatches = field(default_factory=FittingBatches, init=False, repr=False)

    @classmethod
    def of(
        cls,
        extractor: Extractor,
        images: ImageSet,
        definitions: Definitions,
        *,
        surrogate: Extractor | None = None,
        precision: Precision = "fp32",
        nes: NES | None = None,
        batch_size: int = 64,
    ) -> "RankingTask":
        """Embed ``images`` with ``extractor``, the victim, and with the source of gradients.

        The source is ``surrogate`` or, without one, the victim, in ``precision``. Measurements are in
        fp32. Shows a progress bar.
        """
        exact = surrogate is None and precision == "fp32"
        with progress_bar(total=(2 - exact) * len(images), desc="embedding", unit="img") as bar:

            def ranker(network: Extractor) -> Ranker:
                embed = embed_with(network)
                return Ranker.of(embed, images, network.device, batch_size, bar.update)

            victim = ranker(fast_copy(extractor))
            attacker = victim if exact else ranker(fast_copy(surrogate or extractor, precision))
        return cls(images, victim, attacker, definitions, nes, batch_size)

    def run(
        self,
        spec: AttackSpec,
        positions: np.ndarray,
        seed: Sequence[int],
        progress: Progress | None = None,
    ) -> Scores:
        """Attack the images at ``positions`` (n,), each separately, and score them.

        Random choices depend only on ``seed``, the kind and the size of the attack: its aim is the same
        for all budgets, victims and combinations of attacks.
        """
        generator = _generator(*seed, zlib.crc32(f"{spec.title} {spec.size}".encode()))
        parts = []
        batches = self.images.batches(positions, self.batch_size)
        for batch, levels in read_ahead(self.images.batch, batches):
            parts += self._run_batch(spec, batch, levels, generator)
            if progress:
                progress(len(batch))
        before, after = (_joined(states) for states in zip(*parts, strict=True))
        return Scores(before, after)

    def _run_batch(
        self,
        spec: AttackSpec,
        positions: np.ndarray,
        levels: np.ndarray,
        generator: torch.Generator,
    ) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Return scores before and after the attack, of the whole batch or of the parts that fit."""
        gallery, attack = self.victim.gallery, build_ranking_attack(spec, self.definitions)
        own = torch.from_numpy(positions).to(gallery.classes.device)
        aim = attack.select(gallery, own, generator)
        work = partial(self._run_rows, spec, attack, aim, positions, levels, generator)
        return self._fitting.run(work, len(positions))

    def _run_rows(
        self,
        spec: AttackSpec,
        attack: RankingAttack,
        aim: Aim,
        positions: np.ndarray,
        levels: np.ndarray,
        generator: torch.Generator,
        rows: slice,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        gallery, aim, levels = self.victim.gallery, aim[rows], levels[rows]
        images = to_pixels(levels, gallery.classes.device)
        loss = attack.objective(self.attacker.gallery, aim)
        attacked, one_step_early = Descent(spec, self.nes).run(
            images, lambda points: loss(self.attacker.embed(points)), generator
        )
        if self.store:
            self.store(spec, positions[rows], attacked, levels)
        with torch.no_grad():
            before = attack.score(gallery.embeddings[aim.own], gallery, aim)
            after = attack.score(self.victim.embed(attacked), gallery, aim)
            if self.definitions.es_before_last_step and spec.kind == "ES":
                early = attack.score(self.victim.embed(one_step_early), gallery, aim)
                after["distance"] = early["distance"]
        return before, after


def choose_positions(n: int, limit: int | None, seed: Sequence[int]) -> np.ndarray:
    """Return all ``n`` positions, or ``limit`` random ones, in ascending order."""
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def usual_batch(side: int, device: torch.device) -> int:
    """Return the batch size for images of ``side`` pixels: the pixels of eight of 224, 128 on a GPU."""
    images = 8 * (224 / max(side, 1)) ** 2
    return 128 if device.type == "cuda" else int(min(max(images, 8), 128))


def _generator(*seed: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _embed(embed: Embed, images: Tensor, rows: slice) -> Tensor:
    with reading(images.shape[2:], "--resize"), torch.no_grad():
        embeddings = embed(images[rows])
    if not embeddings.isfinite().all():
        raise UserError("the network returns embeddings that are not finite")
    return embeddings


def _joined(states: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    return {
        name: torch.cat([state[name] for state in states]).double().cpu().numpy()
        for name in states[0]
    }
