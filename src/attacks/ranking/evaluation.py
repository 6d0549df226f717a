"""Running an attack over labelled images and measuring what becomes of the ranking."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from src.artifacts.errors import UserError
from src.attacks.profiles import AttackSpec, Definitions
from src.attacks.ranking.descent import NES, Descent
from src.attacks.ranking.gallery import Embed, Gallery, embed_with
from src.attacks.ranking.kinds import build_ranking_attack
from src.attacks.storage import to_pixels
from src.datasets.labelled_images import LabelledImages
from src.extractors.extractor import Extractor, Precision, fast_copy

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
        """Embed all images, once; ``UserError`` where the network cannot."""
        parts = []
        for positions in _batches(np.arange(len(images)), batch_size):
            parts.append(_embed(embed, to_pixels(images.read(positions), device)))
            if progress:
                progress(len(positions))
        return cls(embed, Gallery(torch.cat(parts), torch.from_numpy(images.labels).to(device)))


class Scores(NamedTuple):
    """What n attacked images score, by measure: (n,) float64 before and after the attack."""

    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RankingTask:
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

    @classmethod
    def of(
        cls,
        extractor: Extractor,
        images: LabelledImages,
        definitions: Definitions,
        *,
        surrogate: Extractor | None = None,
        precision: Precision = "fp32",
        nes: NES | None = None,
        batch_size: int = 64,
    ) -> "RankingTask":
        """Embed ``images`` with ``extractor``, which is attacked, and with what attacks it.

        That is ``surrogate``, if there is one, in ``precision``; fp32 judges. Shows a progress bar.
        """
        exact = surrogate is None and precision == "fp32"
        with tqdm(total=(2 - exact) * len(images), desc="embedding", unit="img") as bar:

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
        """Attack the images at ``positions`` (n,), each on its own, and score them.

        Random choices depend on ``seed``, the kind and the size of the attack only: it aims at the same
        images whatever its budget, whoever is attacked, and whichever attacks are run beside it.
        """
        generator = _generator(*seed, zlib.crc32(f"{spec.title} {spec.size}".encode()))
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


def usual_batch(side: int, device: torch.device) -> int:
    """Images of ``side`` pixels in a batch: as many as eight of 224 in pixels, far more on a GPU."""
    images = 8 * (224 / max(side, 1)) ** 2
    return 128 if device.type == "cuda" else int(min(max(images, 8), 128))


def _batches(positions: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]


def _generator(*seed: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _embed(embed: Embed, images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    try:
        with torch.no_grad():
            embeddings = embed(images)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"the network cannot read images of {width}x{height} pixels ({error}): try --resize"
        ) from error
    if not embeddings.isfinite().all():
        raise UserError("the network makes embeddings that are not finite")
    return embeddings


def _joined(states: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    return {
        name: torch.cat([state[name] for state in states]).double().cpu().numpy()
        for name in states[0]
    }
