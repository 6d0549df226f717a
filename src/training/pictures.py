"""Labelled pictures for training, and their augmentation."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.artifacts.tables import read_labelled
from src.datasets.catalogue import open_catalogue
from src.datasets.labelled_images import LabelledImages
from src.training.ats import Policy, parse_policy

COLUMNS = ("item", "category", "label")


class PictureSet(Protocol):
    """Pictures of one size with their categories."""

    @property
    def categories(self) -> Tensor:
        """(n,) int64 numbers of categories, from 0."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the categories."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: Tensor) -> Tensor:
        """Read the pixels (m, C, H, W) uint8 of the pictures ``rows`` (m,)."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Pictures in memory: ``pixels`` (n, 3, H, W) uint8, ``categories`` (n,) int64, their ``labels``."""

    pixels: Tensor
    categories: Tensor
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: Tensor) -> Tensor:
        return self.pixels[rows]

    def __getitem__(self, rows: Tensor) -> "Pictures":
        return Pictures(self.pixels[rows], self.categories[rows], self.labels)

    def split(self, share: float, seed: int) -> tuple["Pictures", "Pictures"]:
        """Hold out a random ``share`` of the pictures: (training, held-out) pictures."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        n_held_out = round(share * len(self))
        return self[order[n_held_out:]], self[order[:n_held_out]]


class SetPictures:
    """Part of a retrieval set; its categories are the classes that have an image in it."""

    def __init__(self, images: LabelledImages) -> None:
        self.images = images
        present, categories = np.unique(images.labels, return_inverse=True)
        self.categories = torch.from_numpy(categories.astype(np.int64))
        self.labels = tuple(images.class_names[label] for label in present)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.images.read(rows.numpy())).permute(0, 3, 1, 2).contiguous()


class ChosenPictures:
    """Random choice of ``n`` pictures of a set; its categories are those that have a picture in it."""

    def __init__(self, pictures: PictureSet, n: int, seed: int) -> None:
        self.pictures = pictures
        generator = torch.Generator().manual_seed(seed)
        self.rows = torch.randperm(len(pictures), generator=generator)[:n].sort().values
        present, self.categories = pictures.categories[self.rows].unique(return_inverse=True)
        self.labels = tuple(pictures.labels[category] for category in present)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Tensor) -> Tensor:
        return self.pictures.read(self.rows[rows])


def read_pictures(
    images: Path, labels: Path, size: int | None = 0, trained_size: int | None = None
) -> Pictures:
    """Read the pictures that ``labels`` (CSV: item, category, label) lists from the folder ``images``.

    ``catalogue.choose_resize`` says what ``size`` and ``trained_size`` mean; native sizes must be
    equal. Raises ``UserError`` for a wrong table, a category without a picture or with
    two labels, and items without a picture.
    """
    table = _read_labels(labels)
    catalogue = open_catalogue(images, size, trained_size)
    positions = catalogue.positions(table["item"].to_numpy(np.int64))
    if not catalogue.resize and len(np.unique(catalogue.sizes[positions], axis=0)) > 1:
        raise UserError(f"the pictures of {images} differ in size: give --size")
    pixels = np.stack([catalogue[position] for position in positions])
    names = table.drop_duplicates("category").set_index("category")["label"].sort_index()
    return Pictures(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(table["category"].to_numpy()),
        tuple(names.astype(str)),
    )


def _read_labels(path: Path) -> pd.DataFrame:
    table = read_labelled(path)
    if missing := [column for column in COLUMNS if column not in table]:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}")
    for column in ("item", "category"):
        if not pd.api.types.is_integer_dtype(table[column]):
            raise UserError(f"{path}: column {column} holds something that is not an integer")
    if (repeated := table["item"].duplicated()).any():
        raise UserError(f"{path}: item {table['item'][repeated].iloc[0]} stands there twice")
    present = np.unique(table["category"])
    if len(present) < 2 or (present != np.arange(len(present))).any():
        raise UserError(f"{path}: categories must be 0, 1, ... without gaps, at least two")
    labels_of = table.groupby("category")["label"].nunique(dropna=False)
    if (labels_of > 1).any():
        raise UserError(f"{path}: category {labels_of.idxmax()} has several labels")
    return table


_BATCHES_AHEAD = 4
"""Number of batches that threads read at once while the network works."""


def read_ahead(pictures: PictureSet, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, their pixels) of each of the ``batches`` of rows, in order."""
    with ThreadPoolExecutor(_BATCHES_AHEAD) as pool:
        waiting: deque[tuple[Tensor, Future[Tensor]]] = deque()
        try:
            for rows in batches:
                waiting.append((rows, pool.submit(pictures.read, rows)))
                if len(waiting) > _BATCHES_AHEAD:
                    first, pixels = waiting.popleft()
                    yield first, pixels.result()
            while waiting:
                first, pixels = waiting.popleft()
                yield first, pixels.result()
        finally:
            for _, pixels in waiting:
                pixels.cancel()


def to_images(pixels: Tensor, device: torch.device) -> Tensor:
    """Convert uint8 pixels to float in [0, 1] on ``device``."""
    return pixels.to(device).float() / 255


def flip_and_shift(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the pictures and shift each by up to a sixteenth of its side."""
    height, width = pixels.shape[2:]
    reach = max(1, min(height, width) // 16)
    padded = functional.pad(pixels, (reach, reach, reach, reach), mode="replicate")
    return _random_windows(padded, height, width, generator)


_FRAME = 4


def flip_and_crop(pixels: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Flip half of the pictures and cut a random square of ``side`` pixels out of each."""
    height, width = pixels.shape[2:]
    return _random_windows(pixels, min(side, height), min(side, width), generator)


def flip_and_pad(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the pictures, add a black frame of ``_FRAME`` pixels, and crop to the old size."""
    height, width = pixels.shape[2:]
    padded = functional.pad(pixels, (_FRAME, _FRAME, _FRAME, _FRAME))
    return _random_windows(padded, height, width, generator)


def centre_crop(pixels: Tensor, side: int) -> Tensor:
    """Crop larger pictures to the central square of ``side`` pixels."""
    height, width = pixels.shape[2:]
    top, left = max(height - side, 0) // 2, max(width - side, 0) // 2
    return pixels[:, :, top : top + side, left : left + side]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of pictures in training."""

    kind: Literal["none", "flip", "shift", "crop", "padded_crop"]
    """Transformation: flip flips half of the pictures, shift is ``flip_and_shift``, crop is
    ``flip_and_crop``, padded_crop is ``flip_and_pad``."""
    side: int = 0
    """Side of the windows that crop takes from larger pictures."""
    policy: Policy | None = None
    """Policy that is applied afterwards, for privacy."""

    def training(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Augment (n, C, H, W) uint8; the result depends only on the state of ``generator``."""
        moved = self._moved(pixels, generator)
        return moved if self.policy is None else self.policy(moved, generator)

    def _moved(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        match self.kind:
            case "flip":
                return flip_and_crop(pixels, max(pixels.shape[2:]), generator)
            case "shift":
                return flip_and_shift(pixels, generator)
            case "crop":
                return flip_and_crop(pixels, self.side, generator)
            case "padded_crop":
                return flip_and_pad(pixels, generator)
            case _:
                return pixels

    def testing(self, pixels: Tensor) -> Tensor:
        """Return the test form of pictures for an extractor that was trained with this augmentation."""
        return centre_crop(pixels, self.side) if self.kind == "crop" else pixels


UNCHANGED = Augmentation("none")
FLIPPED = Augmentation("flip")
SHIFTED = Augmentation("shift")
PADDED = Augmentation("padded_crop")
AUGMENTATIONS = {"none": UNCHANGED, "flip": FLIPPED, "shift": SHIFTED, "crop": PADDED}
"""Augmentations by the names in options."""


def parse_augmentation(text: str) -> Augmentation:
    """Parse a key of ``AUGMENTATIONS``, or ``ats:<policy>``, which is crop and a policy.

    Raises ``UserError`` for other texts.
    """
    name, colon, policy = text.partition(":")
    if name == "ats" and colon:
        return replace(PADDED, policy=parse_policy(policy))
    if text not in AUGMENTATIONS:
        raise UserError(
            f"unknown augmentation {text}: choose from {', '.join(AUGMENTATIONS)}, ats:<policy> "
            "(ats:3-1-7+43-18-18)"
        )
    return AUGMENTATIONS[text]


def _random_windows(pixels: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Cut a random window of ``height`` x ``width`` from each picture, and flip half of them."""
    n, channels = pixels.shape[:2]
    tops, lefts = pixels.shape[2] - height + 1, pixels.shape[3] - width + 1
    rows = torch.randint(tops, (n, 1), generator=generator) + torch.arange(height)
    columns = torch.randint(lefts, (n, 1), generator=generator) + torch.arange(width)
    flipped = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    return pixels[
        torch.arange(n)[:, None, None, None],
        torch.arange(channels)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
