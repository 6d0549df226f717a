"""Labelled pictures held in memory, and their augmentation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.datasets.catalogue import open_catalogue

COLUMNS = ("item", "category", "label")


@dataclass(frozen=True)
class Pictures:
    """``pixels`` (n, 3, H, W) uint8 and ``categories`` (n,) int64; ``labels`` names the categories."""

    pixels: Tensor
    categories: Tensor
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Tensor) -> "Pictures":
        return Pictures(self.pixels[rows], self.categories[rows], self.labels)

    def split(self, share: float, seed: int) -> tuple["Pictures", "Pictures"]:
        """(training, held out), the latter a random ``share`` of all."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        n_held_out = round(share * len(self))
        return self[order[n_held_out:]], self[order[:n_held_out]]


def read_pictures(images: Path, labels: Path, size: int = 0) -> Pictures:
    """Read the pictures that ``labels`` (CSV: item, category, label) lists from the folder ``images``.

    ``size``: side in pixels to which they are resized; 0 keeps native sizes, which must be equal.
    Raises ``UserError`` for a wrong table, a category without a picture or with two labels, and items
    without a picture.
    """
    table = _read_labels(labels)
    catalogue = open_catalogue(images, size)
    positions = catalogue.positions(table["item"].to_numpy(np.int64))
    if not size and len(np.unique(catalogue.sizes[positions], axis=0)) > 1:
        raise UserError(f"the pictures of {images} differ in size: give --size")
    pixels = np.stack([catalogue[position] for position in positions])
    names = table.drop_duplicates("category").set_index("category")["label"].sort_index()
    return Pictures(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(table["category"].to_numpy()),
        tuple(names.astype(str)),
    )


def _read_labels(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    try:
        table = pd.read_csv(path, dtype={"label": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV table: {error}") from error
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


def to_images(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 -> float in [0, 1]."""
    return pixels.to(device).float() / 255


def augment(pixels: Tensor) -> Tensor:
    """Flip half of the pictures and shift each by up to a sixteenth of its side.

    Random numbers come from torch's global generator.
    """
    n, _, height, width = pixels.shape
    reach = max(1, min(height, width) // 16)
    padded = functional.pad(pixels, (reach, reach, reach, reach), mode="replicate")
    rows = torch.randint(2 * reach + 1, (n, 1)) + torch.arange(height)
    columns = torch.randint(2 * reach + 1, (n, 1)) + torch.arange(width)
    flipped = torch.rand(n, 1) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    return padded[
        torch.arange(n)[:, None, None, None],
        torch.arange(3)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
