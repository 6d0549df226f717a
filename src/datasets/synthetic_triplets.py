"""Damaged images in the folder layout of judged reconstructions. THE LABELS ARE NOT HUMAN.

The images serve to try out and test the training of SemSim. Mild damage stands for recognisable images
and strong damage for unrecognisable ones. No person judged them, so a metric trained on them says nothing
about people.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from src.artifacts.atomic import staging_folder
from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.datasets.image_files import read_image
from src.datasets.images import find_images
from src.datasets.retrieval import open_retrieval_set
from src.datasets.triplet_folders import ROOT, SYNTHETIC, squashed

NOT_HUMAN = "synthetic labels, NOT human: no person judged these images"
NOTE = "NOT_HUMAN_LABELS.txt"
MILD, STRONG = (0.02, 0.15), (0.75, 1.0)
"""Bounds of the uniformly drawn strength of damage."""
_CELLS = 8
"""Number of cells along a side that ``shuffle`` moves."""
_ORIGINALS_AT_ONCE = 512

Damage = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Function of images (n, side, side, 3) float32 in [0, 1], strengths (n,) in [0, 1] and a generator that
returns damaged images, which the caller clips to [0, 1]."""


def blur(images: np.ndarray, strengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur with Gaussians of up to a quarter of the side, blended from the two nearest fixed widths."""
    widths = images.shape[1] * np.array([0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4])
    levels = np.stack([gaussian_filter(images, (0, width, width, 0)) for width in widths])
    level = strengths * (len(widths) - 1)
    lower = np.minimum(level.astype(np.int64), len(widths) - 2)
    rows = np.arange(len(images))
    return _blend(levels[lower, rows], levels[lower + 1, rows], level - lower)


def noise(images: np.ndarray, strengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of up to 1."""
    return images + _per_image(strengths) * rng.standard_normal(images.shape, np.float32)


def shuffle(images: np.ndarray, strengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move a share of the cells, each to the place of another; pixels beyond whole cells stay."""
    n, side = images.shape[:2]
    cell = side // _CELLS
    if cell == 0:
        raise UserError(f"images of {side} pixels have no {_CELLS}x{_CELLS} cells to shuffle")
    covered = (slice(None), slice(cell * _CELLS), slice(cell * _CELLS))
    grid = images[covered].reshape(n, _CELLS, cell, _CELLS, cell, 3)
    cells = grid.swapaxes(2, 3).reshape(n, _CELLS**2, -1)
    # The moved cells, the first of a random order, follow each other in one cycle.
    order = rng.random(cells.shape[:2]).argsort(axis=1)
    step = np.arange(_CELLS**2)
    n_moved = np.rint(strengths * _CELLS**2).astype(np.int64)[:, None]
    following = np.where(step < n_moved, (step + 1) % np.maximum(n_moved, 1), step)
    source = np.empty_like(order)
    np.put_along_axis(source, order, np.take_along_axis(order, following, axis=1), axis=1)
    moved = np.take_along_axis(cells, source[:, :, None], axis=1)
    shuffled = images.copy()
    grid = moved.reshape(n, _CELLS, _CELLS, cell, cell, 3).swapaxes(2, 3)
    shuffled[covered] = grid.reshape(n, cell * _CELLS, cell * _CELLS, 3)
    return shuffled


def invert(images: np.ndarray, strengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend the negative with the image, such that strength 1 leaves no contrast."""
    return _blend(images, 1 - images, 1 - strengths / 2)


DAMAGES: dict[str, Damage] = {"blur": blur, "noise": noise, "shuffle": shuffle, "invert": invert}


def _blend(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + _per_image(share) * (b - a)


def _per_image(values: np.ndarray) -> np.ndarray:
    return values[:, None, None, None].astype(np.float32)


def damaged(
    pixels: np.ndarray, name: str, strengths: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return ``pixels`` (n, side, side, 3) uint8 after the damage ``name``, in equal shape and type."""
    drawn = rng.uniform(*strengths, len(pixels))
    images = DAMAGES[name](pixels.astype(np.float32) / 255, drawn, rng)
    return np.rint(255 * images.clip(0, 1)).astype(np.uint8)


def choose_images(
    source: Path, layout: str | None, n: int, side: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose at most ``n`` random images: (pixels (m, side, side, 3) uint8, classes (m,) int64).

    ``source`` is a set in the ``layout`` (``retrieval.LAYOUTS``), of which the training part is used, or,
    if ``layout`` is None, a folder of images, all of class 0.
    """
    if layout is None:
        files = list(find_images(source).values())
        rows = _choice(len(files), n, seed)
        images = [read_image(files[row])[0] for row in rows]
        classes = np.zeros(len(rows), np.int64)
    else:
        chosen = open_retrieval_set(layout, source).train
        rows = _choice(len(chosen), n, seed)
        pixels, classes = chosen.batch(rows), chosen.classes[rows]
        images = list(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))
    return np.stack([squashed(image, side) for image in images]), classes


def _choice(n_all: int, n: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(n_all)[:n])


def write_synthetic_triplets(
    folder: Path, pixels: np.ndarray, classes: np.ndarray, *, seed: int = 0
) -> None:
    """Write ``pixels`` (n, side, side, 3) uint8 of ``classes`` (n,) with all their damages.

    Image 12 of class 3 gets ``train_with_ori/12/12_3_ori.png``, mild damages such as
    ``12/12_3_rec_synthetic_mild_blur.png`` and strong damages in ``-12/``. ``folder`` is replaced as a
    whole or not at all; a file in it says that no person judged the images. Raises ``UserError`` if
    ``folder`` exists and holds other data.
    """
    if folder.exists() and not (folder / NOTE).is_file():
        raise UserError(f"{folder} exists and holds no synthetic triplets: name another folder")
    rng = np.random.default_rng(seed)
    with (
        staging_folder(folder) as staged,
        progress_bar(total=len(pixels), desc="damaging images", unit="image") as bar,
    ):
        for first in range(0, len(pixels), _ORIGINALS_AT_ONCE):
            block = slice(first, first + _ORIGINALS_AT_ONCE)
            _write_block(staged / ROOT, first, pixels[block], classes[block], rng)
            bar.update(len(pixels[block]))
        (staged / NOTE).write_text(NOT_HUMAN + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)


def _write_block(
    root: Path, first: int, pixels: np.ndarray, classes: np.ndarray, rng: np.random.Generator
) -> None:
    """Write the images ``first``, ``first`` + 1, ... with all damages."""
    _write(root, "", "ori", first, classes, pixels)
    for name in DAMAGES:
        for sign, extent, strengths in (("", "mild", MILD), ("-", "strong", STRONG)):
            ending = f"rec_{SYNTHETIC}_{extent}_{name}"
            _write(root, sign, ending, first, classes, damaged(pixels, name, strengths, rng))


def _write(
    root: Path, sign: str, ending: str, first: int, classes: np.ndarray, pixels: np.ndarray
) -> None:
    for image_id, (number, image) in enumerate(zip(classes, pixels, strict=True), first):
        folder = root / f"{sign}{image_id}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{image_id}_{number}_{ending}.png")
