"""Trials of attacks on a network; finished trials are kept."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from src.artifacts.parts import Parts
from src.artifacts.progress import progress_bar
from src.attacks.attack import LEVELS, Attack
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal, predict_reached
from src.attacks.registry import AutoAttack, Effort, attack_named
from src.attacks.repeated import Restarted
from src.attacks.robustness.images import network_classes
from src.attacks.robustness.trials import CLEAN, Trial, TrialResult
from src.attacks.storage import to_pixels
from src.attacks.victim import ExtractorVictim
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.extractors.extractor import Extractor, Precision
from src.extractors.feeding import FittingBatches
from src.extractors.inference import reading


@dataclass(frozen=True)
class LabelledVictim:
    """Network and, for each image of the set, its class in that network, (n,) int64."""

    victim: ExtractorVictim
    classes: np.ndarray

    @classmethod
    def of(
        cls, extractor: Extractor, images: ImageSet, precision: Precision = "fp32"
    ) -> "LabelledVictim":
        """Match the classes of ``images`` to those of ``extractor``; ``UserError`` if it lacks one."""
        classes = network_classes(images, extractor)
        return cls(ExtractorVictim(extractor, fast=True, precision=precision), classes)

    def classes_of(self, positions: np.ndarray, device: torch.device) -> Tensor:
        return torch.from_numpy(self.classes[positions]).to(device)


@dataclass(frozen=True)
class TrialRunner:
    """Trials on the images at ``positions`` (n,): attacks see a tuned copy, the network judges."""

    network: LabelledVictim
    images: ImageSet
    positions: np.ndarray
    device: torch.device
    batch_size: int = 64
    effort: Effort = "standard"
    restarts: int = 1
    seed: int = 0
    """Seed of random choices; those of a trial do not depend on other trials."""
    surrogate: LabelledVictim | None = None
    """Network that transferred trials attack."""
    _fitting: FittingBatches = field(default_factory=FittingBatches, init=False, repr=False)

    def run(self, trials: Sequence[Trial], parts: Parts) -> dict[Trial, TrialResult]:
        """Return the results of distinct ``trials``, of which ``CLEAN`` is the first.

        Only images that the network classifies correctly are attacked. Finished trials come from
        ``parts``.
        """
        clean = _load(parts, 0) or _save(parts, 0, self._classify())
        outcomes = {CLEAN: clean}
        n_attacked = int(clean.right.sum())
        with progress_bar(total=n_attacked * (len(trials) - 1), desc="attacks", unit="img") as bar:
            for number, trial in enumerate(trials[1:], 1):
                bar.set_postfix_str(trial.name)
                found = _load(parts, number)
                if found is None:
                    found = _save(parts, number, self._attack(trial, clean.right, bar.update))
                else:
                    bar.update(n_attacked)
                outcomes[trial] = found
        return outcomes

    def _classify(self) -> TrialResult:
        right = []
        for positions, images in self._batches(self.positions):
            right += self._fitting.run(partial(self._judge, images, positions), len(images))
        return TrialResult(np.concatenate(right), 0.0)

    def _attack(
        self, trial: Trial, right: np.ndarray, progress: Callable[[int], object]
    ) -> TrialResult:
        """Attack the images that are ``right``, (n,) bool, without an attack."""
        attacked_network = self.surrogate if trial.transferred else self.network
        attack = build_attack(trial, self.effort, self.restarts)
        torch.manual_seed(_seed_of(self.seed, trial))
        still_right, linf = [np.empty(0, bool)], [0.0]
        for positions, images in self._batches(self.positions[right]):
            work = partial(self._attack_rows, attack, attacked_network, images, positions)
            for of_rows, largest in self._fitting.run(work, len(images)):
                still_right.append(of_rows)
                linf.append(largest)
            progress(len(positions))
        after = right.copy()
        after[right] = np.concatenate(still_right)
        return TrialResult(after, max(linf))

    def _attack_rows(
        self,
        attack: Attack,
        network: LabelledVictim,
        images: Tensor,
        positions: np.ndarray,
        rows: slice,
    ) -> tuple[np.ndarray, float]:
        """Attack some ``rows`` of a batch; return which stay right, and the largest change in levels."""
        clean = images[rows]
        goal = ClassGoal(network.classes_of(positions[rows], self.device), targeted=False)
        attacked = perturb(attack, network.victim, clean, goal)
        largest = LEVELS * float((attacked - clean).abs().max())
        return self._judge(attacked, positions[rows], slice(None)), largest

    def _judge(self, images: Tensor, positions: np.ndarray, rows: slice) -> np.ndarray:
        """Return whether the network classifies each of some ``images`` correctly, (m,) bool."""
        victim = self.network.victim
        readable = reading(images.shape[2:], "--resize")
        with readable, frozen(*victim.networks), torch.no_grad():
            predicted = victim.exact(images[rows]).logits.argmax(dim=1)
        right = predicted == self.network.classes_of(positions[rows], self.device)
        return right.cpu().numpy()

    def _batches(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (positions, images in [0, 1]) of each batch."""
        batches = self.images.batches(positions, self.batch_size)
        for rows, levels in read_ahead(self.images.batch, batches):
            yield rows, to_pixels(levels, self.device)


def build_attack(trial: Trial, effort: Effort, restarts: int) -> Attack:
    """Return the attack of a trial other than the clean one."""
    attack = attack_named(trial.attack, trial.eps)
    if isinstance(attack, AutoAttack):
        return replace(attack, effort=effort)
    return Restarted(attack, restarts) if attack.has_random_start else attack


def perturb(attack: Attack, victim: ExtractorVictim, images: Tensor, goal: ClassGoal) -> Tensor:
    """Attack the tuned copy, and the network itself with images that fool only the copy."""
    with frozen(*victim.networks):
        attacked = attack(victim, images, goal)
        fooled = predict_reached(victim, attacked, goal)
        missed = fooled & ~predict_reached(victim.exact, attacked, goal)
        if missed.any():
            attacked[missed] = attack(victim.exact, images[missed], goal[missed])
    return attacked


def _seed_of(seed: int, trial: Trial) -> int:
    """Return the seed of a trial, which does not depend on other trials."""
    words = np.random.SeedSequence((seed, zlib.crc32(repr(trial).encode())))
    return int(words.generate_state(1, np.uint32)[0])


def _save(parts: Parts, number: int, outcome: TrialResult) -> TrialResult:
    parts.save(number, {"right": outcome.right, "linf": np.array(outcome.linf)})
    return outcome


def _load(parts: Parts, number: int) -> TrialResult | None:
    arrays = parts.load(number)
    return arrays and TrialResult(arrays["right"], float(arrays["linf"]))
