"""Attention of one network to clean and attacked images, and the cost of erasing what it attends to.

Attention, its completeness and its scatter are those of Wu et al., "Attention, please! Adversarial
defense via activation rectification and preservation" (2018), measured for any extractor and, beside
its classes, for what a recommender reads from its features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.attacks.attack import Victim
from src.attacks.goals import ClassGoal, predict_reached
from src.attacks.observed import Explained, Observed, Seen
from src.attacks.pgd import pgd
from src.attacks.storage import to_levels, to_pixels
from src.attacks.victim import ExtractorVictim
from src.datasets.image_set import ImageSet
from src.datasets.read_ahead import read_ahead
from src.extractors.attention import Watched, class_directions, erase, fill_of, top_cells
from src.extractors.extractor import Extractor
from src.extractors.feeding import FittingBatches
from src.extractors.lime_explanations import explain

Result = TypeVar("Result")

ROUNDS = 6
STEPS = 10
STEP = 1 / 6
"""Length of a PGD step as a part of its budget, in the search for the smallest budget, as in stage 3."""


@dataclass(frozen=True)
class AttentionStudy:
    """Maps of the same images before and after an attack, by read-out.

    - ``class``: the row of the head for the origin class, the same before and after;
    - ``predicted``: the row of the class that the network predicts for the image;
    - ``target``: the row of the attack's target, if it has one;
    - ``score``: the direction of a recommender's score, if one is given.
    """

    watched: Watched
    origin: int
    target: int | None = None
    score: np.ndarray | None = None
    """Read-out (D,) of a recommender."""
    share: float = 0.125
    """Share of a map's cells, the largest ones, that count as attended."""
    batch_size: int = 8
    _fitting: FittingBatches = field(default_factory=FittingBatches, init=False, repr=False)

    @property
    def extractor(self) -> Extractor:
        return self.watched.extractor

    def read(self, images: ImageSet, positions: np.ndarray, progress: str) -> Seen:
        """Predict the images at ``positions`` with one forward.

        Raises ``UserError`` if their maps differ in size or have a single cell.
        """
        logits, maps = [], []
        for pixels in self._batches(images, positions, progress):
            for of_logits, of_maps in self._of_rows(self._attend, pixels):
                logits.append(of_logits.cpu().numpy())
                maps.append({name: of.cpu().numpy() for name, of in of_maps.items()})
        joined = {name: np.concatenate([batch[name] for batch in maps]) for name in maps[0]}
        return Seen(np.concatenate(logits), joined)

    def read_erased(
        self, images: ImageSet, positions: np.ndarray, seen: Seen
    ) -> dict[str, np.ndarray]:
        """Return probabilities (n,) of the origin class without the attended cells, by read-out."""
        # The attacked class is mostly the predicted one, so that two read-outs have equal maps.
        twins = {
            name: next(other for other in seen.maps if np.array_equal(seen.maps[other], maps))
            for name, maps in seen.maps.items()
        }
        probabilities = {name: np.empty(len(positions)) for name in twins.values()}
        first = 0
        for pixels in self._batches(images, positions, "clean images, erased"):
            rows = slice(first, first + len(pixels))
            for name, of in probabilities.items():
                erased = self._erase(pixels, seen.maps[name][rows])
                of[rows] = torch.cat(self._of_rows(self._shares, erased)).cpu().numpy()
            first += len(pixels)
        return {name: probabilities[twin] for name, twin in twins.items()}

    def erase(self, levels: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """Return images (n, height, width, 3) uint8 without the top cells of their ``maps`` (n, h, w)."""
        erased = self._erase(to_pixels(levels, self.extractor.device), maps)
        return to_levels(erased, levels)

    def minimal_eps(self, images: ImageSet, positions: np.ndarray, largest: float) -> np.ndarray:
        """Return the smallest budgets (n,) float64, in grey levels, of ``minimal_eps``."""
        classes = self.origin if self.target is None else self.target

        def budgets(pixels: Tensor) -> Tensor:
            goal = ClassGoal(torch.full((len(pixels),), classes), self.target is not None)
            victim = ExtractorVictim(self.extractor)
            return minimal_eps(victim, pixels, goal.to(pixels.device), largest / 255)

        found = []
        for pixels in self._batches(images, positions, "smallest budgets"):
            found += self._of_rows(budgets, pixels)
        return 255 * torch.cat(found).double().cpu().numpy()

    def explain(
        self, clean: ImageSet, attacked: ImageSet, observed: Observed, n: int, seed: int
    ) -> Explained:
        """Explain ``n`` random images with LIME, before and after, each for its predicted class."""
        n = min(n, len(attacked))
        rows = np.sort(np.random.default_rng(seed).choice(len(attacked), n, replace=False))
        positions = clean.positions(attacked.ids[rows])
        masks = [
            explain(
                self.extractor,
                images.batch(where),
                seen.predicted[rows],
                seed=seed,
                batch_size=self.batch_size,
            )
            for images, where, seen in (
                (clean, positions, observed.clean),
                (attacked, rows, observed.attacked),
            )
        ]
        return Explained(rows, *masks)

    def _batches(self, images: ImageSet, positions: np.ndarray, progress: str) -> Iterator[Tensor]:
        """Yield pixels (N, 3, height, width) in [0, 1] in the order of ``positions``."""
        if len(images.store.of_one_size(positions)) > 1:
            raise UserError(
                "images of unlike sizes have maps of unlike sizes: run stages 1 and 3 with --resize"
            )
        with progress_bar(total=len(positions), desc=progress, unit="img") as bar:
            batches = images.batches(positions, self.batch_size)
            for batch, levels in read_ahead(images.batch, batches):
                yield to_pixels(levels, self.extractor.device)
                bar.update(len(batch))

    def _of_rows(self, work: Callable[[Tensor], Result], pixels: Tensor) -> list[Result]:
        """Return the results of ``work`` on the ``pixels``, or on the parts of them that fit."""
        return self._fitting.run(lambda rows: work(pixels[rows]), len(pixels))

    def _shares(self, pixels: Tensor) -> Tensor:
        """Return the probabilities (N,) float64 of the origin class."""
        with torch.inference_mode():
            logits = self.extractor(pixels).logits
        return logits.double().softmax(dim=1)[:, self.origin]

    def _attend(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        # Without the closed form a map is a gradient, for which the pixels alone need gradients.
        needs_gradient = not self.watched.averaged
        with torch.set_grad_enabled(needs_gradient):
            attended = self.watched(pixels.requires_grad_(needs_gradient))
            maps = {
                name: self.watched.attention(attended, directions).detach()
                for name, directions in self._directions(attended.logits).items()
            }
        if maps["class"][0].numel() < 2:
            height, width = pixels.shape[2:]
            raise UserError(
                f"layer {self.watched.layer} has a single cell for images of {height}x{width} pixels: "
                "choose an earlier one by --layer, or larger images by --resize in stages 1 and 3"
            )
        return attended.logits.detach(), maps

    def _directions(self, logits: Tensor) -> dict[str, Tensor]:
        """Return read-outs (N, D) by name."""
        n, device = len(logits), logits.device
        classes = {
            "class": torch.full((n,), self.origin, device=device),
            "predicted": logits.argmax(dim=1),
        }
        if self.target is not None:
            classes["target"] = torch.full((n,), self.target, device=device)
        directions = {name: class_directions(self.extractor, of) for name, of in classes.items()}
        if self.score is not None:
            directions["score"] = torch.from_numpy(self.score).to(device).expand(n, -1)
        return directions

    def _erase(self, pixels: Tensor, maps: np.ndarray) -> Tensor:
        cells = top_cells(torch.from_numpy(maps).to(pixels.device), self.share)
        return erase(pixels, cells, fill_of(self.extractor, pixels, "mean"))


def observe(
    study: AttentionStudy,
    clean: ImageSet,
    attacked: ImageSet,
    success: np.ndarray,
    largest: float | None = None,
) -> Observed:
    """Observe all images of ``attacked`` before and after; ``success`` (n,) bool is their outcome.

    The smallest budgets are searched up to ``largest`` grey levels; None skips the search.
    """
    positions = clean.positions(attacked.ids)
    before = study.read(clean, positions, "clean images")
    after = study.read(attacked, np.arange(len(attacked)), "attacked images")
    return Observed(
        attacked.ids,
        success,
        study.origin,
        study.target,
        study.share,
        before,
        after,
        study.read_erased(clean, positions, before),
        None if largest is None else study.minimal_eps(clean, positions, largest),
    )


def minimal_eps(
    victim: Victim,
    images: Tensor,
    goal: ClassGoal,
    largest: float,
    *,
    rounds: int = ROUNDS,
    steps: int = STEPS,
) -> Tensor:
    """Return the smallest L-inf budgets (N,) float32 at which PGD brings images to their goals.

    ``images`` (N, 3, H, W) in [0, 1]; budgets in the same unit. The first round tries ``largest``; the
    result is infinite if it fails. The other rounds halve the bracket of each image down to
    ``largest / 2 ** (rounds - 1)``. PGD starts from the clean image, with steps of a sixth of
    its budget. PGD may fail at a larger budget than the one found, so that the result is an upper
    bound of the smallest budget.
    """
    found = images.new_full((len(images),), torch.inf)
    rows = torch.arange(len(images), device=images.device)
    failed, reached = images.new_zeros(len(images)), images.new_full((len(images),), largest)
    for number in range(rounds):
        tried = reached[rows] if number == 0 else (failed[rows] + reached[rows]) / 2
        done = _reached(victim, images[rows], goal[rows], tried, steps)
        reached[rows[done]], failed[rows[~done]] = tried[done], tried[~done]
        if number == 0:
            rows = rows[done]
        if len(rows) == 0:
            break
    found[rows] = reached[rows]
    return found


def _reached(victim: Victim, images: Tensor, goal: ClassGoal, eps: Tensor, steps: int) -> Tensor:
    """Return whether PGD reaches each goal within ``eps`` (N,), a budget for each image: (N,) bool."""
    budget = eps[:, None, None, None]
    attacked = pgd(images, lambda points: goal(victim(points)), budget, STEP * budget, steps)
    return predict_reached(victim, attacked, goal)
