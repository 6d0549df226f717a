"""Single items before and after an attack: their pictures, their classes, their ranks in users' lists."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from src.artifacts.classes import Classes, read_attacked_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import read_record
from src.datasets.image_files import images_of, read_image
from src.datasets.shards import ImagePath
from src.measures.runs import Lists, read_categories, read_lists, require_same_users
from src.measures.verdicts import CONTROL
from src.report.blocks import Section
from src.report.names import PROTOCOLS
from src.report.study import Study

ITEMS, USERS = 4, 3
"""Numbers of items and users that are shown by default."""
_FULL_SWING = 127
"""Grey levels to which the largest change of an image is amplified."""
_SMALLEST_SIDE = 192
"""Pixels: smaller pictures are enlarged, pixel by pixel."""


@dataclass(frozen=True)
class Picture:
    """Picture in the page."""

    title: str
    caption: str
    alt: str
    source: str
    """Image as a data URI."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of an item in a recommender's lists, before and after."""

    recommender: str
    reach: str
    """Number of users with the item in their top K."""
    users: tuple[tuple[int, str, str], ...]
    """Triples (user, rank before, rank after)."""


@dataclass(frozen=True)
class Card:
    """Item under an attack."""

    item: int
    succeeded: bool
    pictures: tuple[Picture, ...]
    ranks: tuple[Ranks, ...]


@dataclass(frozen=True)
class Gallery:
    """Items under an attack."""

    title: str
    cards: tuple[Card, ...]
    kind = "gallery"


@dataclass(frozen=True)
class Compared:
    """Lists of a recommender on clean and on attacked features; ranks count from 1, 0 is not listed."""

    run: Run
    before: Lists
    after: Lists

    @classmethod
    def read(cls, layout: Layout, run: Run, n_items: int) -> "Compared":
        before, after = (read_lists(layout, of, n_items) for of in (run.clean, run))
        require_same_users(layout, after.users, run, before.users, run.clean)
        return cls(run, before, after)

    def ranks(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ranks (users,) before and after."""
        return _ranks(self.before.items, item), _ranks(self.after.items, item)

    def gained(self, items: np.ndarray, k: int) -> np.ndarray:
        """Return the growth (items,) of the number of top-k lists with each item."""
        size = int(max(self.before.items.max(), self.after.items.max(), items.max())) + 2
        counts = [
            np.bincount(lists.items[:, :k].ravel() + 1, minlength=size)[1:]
            for lists in (self.before, self.after)
        ]
        return (counts[1] - counts[0])[items]


def _ranks(items: np.ndarray, item: int) -> np.ndarray:
    listed = items == item
    return np.where(listed.any(axis=1), listed.argmax(axis=1) + 1, 0)


@dataclass(frozen=True)
class ShownAttack:
    """Attacked experiment whose items are shown."""

    study: Study
    experiment: Experiment

    @cached_property
    def classes(self) -> tuple[Classes, Classes]:
        """Predictions (clean, attacked) for the attacked images."""
        attacked, clean = read_attacked_classes(self.study.layout.classes(self.experiment))
        return clean, attacked

    @cached_property
    def lists(self) -> list[Compared]:
        """Lists of each recommender, of the smallest seed, at test time if it was run."""
        runs: dict[str, Run] = {}
        of_experiment = (run for run in self.study.runs if run.experiment == self.experiment)
        for run in sorted(of_experiment, key=lambda run: (run.protocol != "test_time", run.seed)):
            runs.setdefault(run.model, run)
        n_items = len(read_categories(self.study.layout, self.experiment).of_item)
        return [Compared.read(self.study.layout, run, n_items) for run in runs.values()]

    def gains(self) -> dict[int, float]:
        """Return the number of further lists with each item under attack, over all recommenders.

        Without lists it is the probability of the predicted class, negative if that is still the item's
        own class.
        """
        clean, attacked = self.classes
        if self.lists:
            gain = sum(lists.gained(attacked.image_ids, self.study.k) for lists in self.lists)
        else:
            hit = attacked.classes != clean.classes
            gain = np.where(hit, attacked.probabilities, -attacked.probabilities)
        return dict(zip(attacked.image_ids.tolist(), np.asarray(gain).tolist(), strict=True))

    def gallery(self, items: Sequence[int], users: Sequence[int]) -> Gallery:
        study = self.study
        title = f"{study.label(self.experiment)} on extractor {self.experiment.extractor}"
        return Gallery(title, tuple(self._card(item, users) for item in items))

    def _card(self, item: int, users: Sequence[int]) -> Card:
        if item not in self.classes[1].image_ids:
            raise UserError(f"item {item} is not among the attacked ones of {self.experiment.name}")
        clean, attacked = (of.rows(np.array([item])) for of in self.classes)
        target = self.experiment.target
        number = int(attacked.classes[0])
        succeeded = number == target if target is not None else number != self.experiment.origin
        ranks = tuple(self._item_ranks(lists, item, users) for lists in self.lists)
        return Card(item, succeeded, self._pictures(item, clean, attacked), ranks)

    def _pictures(self, item: int, clean: Classes, attacked: Classes) -> tuple[Picture, ...]:
        layout = self.study.layout
        folder = layout.attacked_images(self.experiment)
        resize = read_record(layout.classes(self.experiment)).get("options", {}).get("resize") or 0
        after = read_image(_image_of(layout.attacked_images(self.experiment), item))[0]
        before = read_image(_image_of(layout.images, item), resize)[0]
        if before.shape != after.shape:
            raise UserError(f"{folder}: the image of item {item} has not the size of the clean one")
        difference = after.astype(np.int16) - before
        largest = int(np.abs(difference).max())
        factor = max(1, _FULL_SWING // max(largest, 1))
        amplified = np.clip(128 + factor * difference, 0, 255).astype(np.uint8)
        said = [
            f"{of.labels[0]}, {100 * of.probabilities[0]:.1f}\u00a0%" for of in (clean, attacked)
        ]
        changed = f"item {item}, what the attack changed by at most {largest} grey levels"
        return (
            Picture("original", said[0], f"item {item}, seen as {said[0]}", _png(before)),
            Picture("attacked", said[1], f"item {item} attacked, seen as {said[1]}", _png(after)),
            Picture(
                f"difference ×\u00a0{factor}", f"at most {largest} levels", changed, _png(amplified)
            ),
        )

    def _item_ranks(self, lists: Compared, item: int, users: Sequence[int]) -> Ranks:
        before, after = lists.ranks(item)
        k, length = self.study.k, lists.run.top_k
        reached = [int(((of > 0) & (of <= k)).sum()) for of in (before, after)]
        reach = f"in the top {k} of {reached[0]} → {reached[1]} of {len(before)} users"
        shown = self._users(lists, item, users)
        rows = [
            (int(lists.after.users[at]), _rank(before[at], length), _rank(after[at], length))
            for at in shown
        ]
        seed = f", seed {lists.run.seed}" if lists.run.seed else ""
        name = f"{lists.run.model} {PROTOCOLS[lists.run.protocol]}{seed}"
        return Ranks(name, reach, tuple(rows))

    def _users(self, lists: Compared, item: int, users: Sequence[int]) -> np.ndarray:
        """Return rows of the requested users, or of random users with the item in a list."""
        known = lists.after.users
        if users:
            if unknown := sorted(set(users).difference(known.tolist())):
                raise UserError(f"user {unknown[0]} has no list in {lists.run.name}")
            return np.searchsorted(known, users)
        before, after = lists.ranks(item)
        listed = np.flatnonzero((before > 0) | (after > 0))
        rng = np.random.default_rng(item)
        return np.sort(rng.choice(listed, min(USERS, len(listed)), replace=False))


def evenly_spaced_items(gains: Mapping[int, float]) -> list[int]:
    """Return items at even distances in their order from the largest gain to the smallest."""
    order = sorted(gains, key=gains.__getitem__, reverse=True)
    places = np.linspace(0, len(order) - 1, min(ITEMS, len(order))).round().astype(int)
    return [order[place] for place in places]


def gallery_section(
    study: Study, anchor: str, title: str, items: Sequence[int], users: Sequence[int]
) -> Section:
    of_pair: dict[tuple, list[ShownAttack]] = {}
    for attack in shown_attacks(study):
        of_pair.setdefault((attack.experiment.origin, attack.experiment.aim), []).append(attack)
    galleries = [
        attack.gallery(shown, users)
        for of in of_pair.values()
        for attack, shown in _shown_items(of, items)
    ]
    if not galleries:
        return Section(
            anchor, title, missing="python classify_extract_attack.py (its images are gone)"
        )
    text = [
        "One attack of each pair of classes, the same on every extractor: of the attacks on the most "
        f"extractors, the one with the highest success rate. {_chosen(study, items)} The class under a "
        "picture is the opinion of the extractor, whatever the item is sold as."
    ]
    if study.runs:
        drawn = "drawn among those whose lists show the item before or after"
        text.append(f"Users: {'as asked for' if users else drawn}.")
    return Section(anchor, title, text, galleries)


def _chosen(study: Study, items: Sequence[int]) -> str:
    """Return a sentence about the choice of the items."""
    if items:
        return "Items as asked for."
    order = (
        "the number of further lists that the attack brings them into"
        if study.runs
        else "the probability of the class that the attack reached"
    )
    return (
        f"The items are attacked on every extractor and were moved by the attack. They are sorted by "
        f"{order}, summed over the extractors; those at even distances in this order are shown, from the "
        "largest gain to the smallest. Differences are amplified around grey."
    )


def _shown_items(
    attacks: Sequence[ShownAttack], items: Sequence[int]
) -> list[tuple[ShownAttack, list[int]]]:
    """Return the items to show of each attack, if possible the same for every extractor."""
    attacked = [set(attack.classes[1].image_ids.tolist()) for attack in attacks]
    if unknown := set(items).difference(*attacked):
        raise UserError(f"item {min(unknown)} is not among the attacked ones")
    if items:
        found = [(attack, [item for item in items if item in of])
                 for attack, of in zip(attacks, attacked, strict=True)]  # fmt: skip
        return [(attack, shown) for attack, shown in found if shown]
    gains = [attack.gains() for attack in attacks]
    common = set.intersection(*attacked)
    total = {item: sum(of[item] for of in gains) for item in sorted(common)}
    same = evenly_spaced_items(_moved(total))
    return [
        (attack, same or evenly_spaced_items(_moved(of)))
        for attack, of in zip(attacks, gains, strict=True)
    ]


def _moved(gains: Mapping[int, float]) -> Mapping[int, float]:
    """Return the items that gained something; all of them if none did."""
    return {item: gain for item, gain in gains.items() if gain > 0} or gains


def shown_attacks(study: Study) -> list[ShownAttack]:
    """Return one attack for each pair of classes, on every extractor that met it.

    It is the attack on the most extractors, and among these the one with the highest success rate.
    """
    rate = study.outcomes.set_index("experiment")["success_rate"]
    candidates: dict[tuple, dict[str, list[Experiment]]] = {}
    for experiment in study.attacked:
        if experiment.attack != CONTROL and _has_pictures(study.layout, experiment):
            pair = candidates.setdefault((experiment.origin, experiment.aim), {})
            pair.setdefault(experiment.attack_name, []).append(experiment)

    def place(of: Sequence[Experiment]) -> tuple[int, float]:
        success = rate[[experiment.name for experiment in of]].mean()
        return len(of), -1.0 if np.isnan(success) else float(success)

    chosen = (max(pair.values(), key=place) for pair in candidates.values())
    return [ShownAttack(study, experiment) for of in chosen for experiment in of]


def _has_pictures(layout: Layout, experiment: Experiment) -> bool:
    return layout.attacked_images(experiment).is_dir() and layout.images.is_dir()


def _image_of(folder: Path, item: int) -> ImagePath:
    path = next((path for path in images_of(folder) if path.stem == str(item)), None)
    if path is None:
        raise UserError(f"no image of item {item} in {folder}")
    return path


def _rank(rank: int, length: int) -> str:
    return str(rank) if rank else f"beyond {length}"


def _png(pixels: np.ndarray) -> str:
    """Return a data URI; small pictures are enlarged so that their pixels can be seen."""
    image = Image.fromarray(pixels)
    scale = -(-_SMALLEST_SIDE // min(image.size))
    if scale > 1:
        size = (image.width * scale, image.height * scale)
        image = image.resize(size, Image.Resampling.NEAREST)
    return data_uri(encoded(image, "png"), "image/png")


def encoded(image: Image.Image, suffix: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=suffix, optimize=True)
    return stream.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
