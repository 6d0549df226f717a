"""Figure of reconstructions of many conditions below the attacked images."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from src.artifacts.atomic import atomic_output
from src.artifacts.reconstructions import Pair, diverged_images, read_pairs
from src.measures.accuracy_figure import LOOK
from src.measures.reconstruction_tables import conditions_in, read_records, title
from src.metrics.image_quality import psnr

N_IMAGES = 8
_LINE = 26
"""Characters of a row's name on one line."""


@dataclass(frozen=True)
class Row:
    """Row of pictures."""

    name: str
    pixels: np.ndarray
    """Pixels (images, height, width, 3) uint8."""
    captions: tuple[str, ...]


def draw_conditions(root: Path, folders: Sequence[Path]) -> Path:
    """Draw ``<root>/grid.png`` of ``folders`` and all other conditions of ``root``; return the file.

    The first ``N_IMAGES`` images of the first of ``folders`` are shown; conditions that have not
    reconstructed all of them are left out.
    """
    every = dict.fromkeys([*folders, *conditions_in(root)])
    pairs = {folder: _by_place(read_pairs(folder)) for folder in every}
    shown = list(pairs[folders[0]])[:N_IMAGES]
    conditions = {
        title(record): [pairs[folder][place] for place in shown]
        for folder, record in zip(pairs, read_records(list(pairs)), strict=True)
        if pairs[folder].keys() >= set(shown)
    }
    grid = root / "grid.png"
    with atomic_output(grid) as temporary:
        draw_grid(conditions, temporary)
    return grid


def draw_grid(conditions: Mapping[str, Sequence[Pair]], path: Path) -> None:
    """Draw a column per image and a row per condition; ``conditions`` maps names to pairs of images.

    The attacked image, transformed or not, is above the conditions that attacked it. The text below a
    reconstruction is its PSNR against the attacked image, or says that it diverged.
    """
    rows: list[Row] = []
    attacked: np.ndarray | None = None
    for name, pairs in conditions.items():
        originals = _read([pair.original for pair in pairs])
        if attacked is None or not np.array_equal(attacked, originals):
            attacked = originals
            rows.append(Row("attacked image", originals, tuple(f"image {p.id}" for p in pairs)))
        found = _read([pair.reconstruction for pair in pairs])
        values = psnr(originals / 255, found / 255)
        lost = diverged_images(pairs[0].reconstruction.parent)
        captions = tuple(
            "diverged" if (pair.id, pair.label) in lost else f"{value:.1f} dB"
            for pair, value in zip(pairs, values, strict=True)
        )
        rows.append(Row(name, found, captions))
    _draw(rows, path)


def _by_place(pairs: list[Pair]) -> dict[tuple[int, int], Pair]:
    return {(pair.id, pair.label): pair for pair in pairs}


def _read(paths: list[Path]) -> np.ndarray:
    """Read (images, height, width, 3) uint8."""
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def _draw(rows: list[Row], path: Path) -> None:
    n_columns = len(rows[0].pixels)
    with mpl.rc_context(LOOK | {"axes.grid": False, "font.size": 7}):
        figure = Figure(figsize=(0.85 * n_columns + 1.6, 1.02 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), n_columns, squeeze=False)
        for row, line in zip(rows, grid, strict=True):
            for axes, pixels, caption in zip(line, row.pixels, row.captions, strict=True):
                axes.imshow(pixels)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                axes.set_xlabel(caption, labelpad=2)
            line[0].set_ylabel(
                "\n".join(textwrap.wrap(row.name, _LINE)),
                rotation="horizontal",
                horizontalalignment="right",
                verticalalignment="center",
            )
        figure.savefig(path, dpi=150)
