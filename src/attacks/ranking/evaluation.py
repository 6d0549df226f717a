"""Running an attack over labelled images and measuring what becomes of the ranking."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from src.attacks.profiles import AttackSpec, Definitions
from src.attacks.ranking.descent import NES, Descent
from src.attacks.ranking.gallery import Embed, Gallery
from src.attacks.ranking.kinds import build_ranking_attack
from src.attacks.storage import to_pixels


class LabelledImages(Protocol):
    """Images with a class each."""

    labels: np.ndarray
    """(n,) int64."""

    def __len__(self) -> int: ...

    def read(self, positions: np.ndarray) -> np.ndarray:
        """(len(positions), height, width, 3 or 1) uint8."""
        ...


Progress = Callable[[int], object]
Store = Callable[[AttackSpec, np.ndarray, Tensor, np.ndarray], object]
"""Called with the attack, positions, attacked images (N, C, H, W) and clean levels (N, H, W, C)."""


@dataclass(frozen=True)
class Ranker:
    """A network and what it makes of the clean images."""

    embed: Embed
    gallery: Gallery

    @classmethod
    def of(
        cls,
        embed: Embed,
        images: LabelledImages,
        device: torch.device | str,
        batch_size: int,
        progress: Progress | None = None,
    ) -> "Ranker":
        """Embed all images, once."""
        parts = []
        for positions in _batches(np.arange(len(images)), batch_size):
            with torch.no_grad():
                parts.append(embed(to_pixels(images.read(positions), device)))
            if progress:
                progress(len(positions))
        return cls(embed, Gallery(torch.cat(parts), torch.from_numpy(images.labels).to(device)))


@dataclass(frozen=True)
class Scores:
    """What n attacked images score, by measure: (n,) float64 before and after the attack."""

    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Arena:
    """Who is attacked, by whom, on which images."""

    images: LabelledImages
    victim: Ranker
    """Its rankings are measured, with its clean embeddings as the gallery."""
    attacker: Ranker
    """The network that the attack differentiates (or probes): the victim itself, or a surrogate."""
    definitions: Definitions
    nes: NES | None = None
    batch_size: int = 64
    store: Store | None = field(default=None, repr=False)

    def run(
        self,
        spec: AttackSpec,
        positions: np.ndarray,
        seed: Sequence[int],
        progress: Progress | None = None,
    ) -> Scores:
        """Attack the images at ``positions`` (n,), each on its own, and score them.

        Random choices depend on ``seed`` and the attack's text only, so that an attack finds the same
        whichever others are run with it. Networks must be frozen (see ``freezing.frozen``).
        """
        generator = _generator(*seed, zlib.crc32(str(spec).encode()))
        parts = []
        for batch in _batches(positions, self.batch_size):
            parts.append(self._run_batch(spec, batch, generator))
            if progress:
                progress(len(batch))
        before, after = (_joined(states) for states in zip(*parts, strict=True))
        return Scores(before, after)

    def _run_batch(
        self, spec: AttackSpec, positions: np.ndarray, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        gallery, attack = self.victim.gallery, build_ranking_attack(spec, self.definitions)
        own = torch.from_numpy(positions).to(gallery.labels.device)
        aim = attack.select(gallery, own, generator)
        levels = self.images.read(positions)
        images = to_pixels(levels, gallery.labels.device)

        loss = attack.objective(self.attacker.gallery, aim)
        attacked, one_step_early = Descent(spec, self.nes).run(
            images, lambda points: loss(self.attacker.embed(points)), generator
        )
        if self.store:
            self.store(spec, positions, attacked, levels)
        with torch.no_grad():
            before = attack.score(gallery.embeddings[own], gallery, aim)
            after = attack.score(self.victim.embed(attacked), gallery, aim)
            if self.definitions.es_before_last_step and spec.kind == "ES":
                early = attack.score(self.victim.embed(one_step_early), gallery, aim)
                after["distance"] = early["distance"]
        return before, after


def choose_positions(n: int, limit: int | None, seed: Sequence[int]) -> np.ndarray:
    """All of ``n`` positions, or ``limit`` random ones, ascending."""
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def _batches(positions: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]


def _generator(*seed: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _joined(states: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    return {
        name: torch.cat([state[name] for state in states]).double().cpu().numpy()
        for name in states[0]
    }
