"""Repeated runs of many attacks that keep finished results, and files of attacked images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from src.artifacts.errors import UserError
from src.artifacts.parts import Parts
from src.artifacts.progress import progress_bar
from src.attacks.attack import Budget
from src.attacks.profiles import AttackSpec
from src.attacks.ranking.aims import KEPT
from src.attacks.ranking.evaluation import RankingTask, Scores, Store, choose_positions
from src.attacks.storage import to_levels, write_images
from src.datasets.image_set import ImageSet

_BEFORE, _AFTER = "before ", "after "


@dataclass(frozen=True)
class RankingStudy:
    """Runs of all ``attacks`` in ``repeats`` repeats, each with other images if ``max_images`` is set."""

    attacks: tuple[AttackSpec, ...]
    repeats: int = 1
    max_images: int | None = None
    seed: int = 0
    save_images: Path | None = None
    """Folder of the attacked images ``repeat_<repeat>/<attack>/<position>.png``."""

    def check(self, images: ImageSet) -> None:
        """Raise ``UserError`` if the attacks need more images or classes."""
        needed = max(spec.size for spec in self.attacks) + KEPT + 1
        if len(images) < needed or len(np.unique(images.classes)) < 2:
            raise UserError(
                f"{len(images)} images of {len(np.unique(images.classes))} classes are too few: these "
                f"attacks need {needed} images and two classes"
            )

    def run(self, task: RankingTask, parts: Parts) -> dict[AttackSpec, list[Scores]]:
        """Return the scores of every attack in each repeat; finished ones come from ``parts``."""
        n_attacked = min(self.max_images or len(task.images), len(task.images))
        scores: dict[AttackSpec, list[Scores]] = {spec: [] for spec in self.attacks}
        total = n_attacked * len(self.attacks) * self.repeats
        with progress_bar(total=total, desc="attacks", unit="img") as bar:
            for repeat in range(self.repeats):
                seed = (self.seed, repeat)
                positions = choose_positions(len(task.images), self.max_images, seed)
                storing = replace(task, store=self._store(repeat))
                for number, spec in enumerate(self.attacks, repeat * len(self.attacks)):
                    bar.set_postfix_str(spec.title)
                    found = _load(parts, number)
                    if found is None:
                        found = storing.run(spec, positions, seed, bar.update)
                        _save(parts, number, found)
                    else:
                        bar.update(n_attacked)
                    scores[spec].append(found)
        return scores

    def _store(self, repeat: int) -> Store | None:
        return self.save_images and png_store(self.save_images / f"repeat_{repeat}")


def png_store(folder: Path) -> Store:
    """Return a function that writes attacked images to ``<folder>/<attack>/<position>.png``.

    Files are 8-bit RGB with the nearest levels that the budget allows. Each is read back; ``UserError``
    if a file exceeds the budget.
    """

    def store(spec: AttackSpec, positions: np.ndarray, attacked: Tensor, clean: np.ndarray) -> None:
        budget = Budget(255 * spec.eps)
        levels = _as_rgb(to_levels(attacked, clean, budget=budget))
        to = folder / str(spec).replace("/", "-").replace(":", "_")
        write_images(to, positions.tolist(), levels, _as_rgb(clean), budget, ".png")

    return store


def _as_rgb(levels: np.ndarray) -> np.ndarray:
    """Repeat a single channel: (n, h, w, 3 or 1) -> (n, h, w, 3)."""
    return np.broadcast_to(levels, (*levels.shape[:3], 3))


def _save(parts: Parts, number: int, scores: Scores) -> None:
    before = {_BEFORE + name: values for name, values in scores.before.items()}
    after = {_AFTER + name: values for name, values in scores.after.items()}
    parts.save(number, before | after)


def _load(parts: Parts, number: int) -> Scores | None:
    arrays = parts.load(number)
    return arrays and Scores(_named(arrays, _BEFORE), _named(arrays, _AFTER))


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
