"""Judged reconstructions, which people recognised or not, with their originals in published folders.

The files of image 12 of class 3 below ``train_with_ori/`` are (Sun et al., NeurIPS 2023)::

    12/12_3_ori.png     the original
    12/12_3_rec_*.png   reconstructions that people recognise
    -12/12_3_rec_*.png  reconstructions that people do not recognise
    others/*.png        unrecognisable images of no original, for originals that have none in ``-12``

``others`` may also be beside ``train_with_ori``. In the older layout originals are in ``img``,
recognisable reconstructions in ``img0/12`` and unrecognisable ones in ``img1/-12``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.artifacts.reconstructions import parse_image_name
from src.datasets.image_files import image_files, read_image

ORIGINAL, RECOGNISABLE, UNRECOGNISABLE, OTHER = range(4)
"""Roles of an image."""
ROOT = "train_with_ori"
OTHERS = "others"
SYNTHETIC = "synthetic"
"""Part of the name of an image that no person judged."""
_ROLES_IN_OLD_LAYOUT = {"img": ORIGINAL, "img0": RECOGNISABLE, "img1": UNRECOGNISABLE}
NO_OWNER = -1


@dataclass(frozen=True)
class JudgedImages:
    """Originals and their reconstructions, in memory."""

    pixels: np.ndarray = field(repr=False)
    """Pixels (n, side, side, 3) uint8."""
    roles: np.ndarray = field(repr=False)
    """Roles (n,) int64: ``ORIGINAL``, ``RECOGNISABLE``, ``UNRECOGNISABLE`` or ``OTHER``."""
    owners: np.ndarray = field(repr=False)
    """Number 0, 1, ... of the original that an image is or reconstructs, (n,) int64; ``NO_OWNER`` for
    the role ``OTHER``."""
    human: bool = True
    """True if people judged the images."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def n_originals(self) -> int:
        return int((self.roles == ORIGINAL).sum())

    @property
    def side(self) -> int:
        return self.pixels.shape[1]

    def split(self, share: float, seed: int) -> tuple["JudgedImages", "JudgedImages"]:
        """Hold out a random ``share`` of the originals with their reconstructions: (training, held-out).

        An equal share of the images of role ``OTHER`` is held out. At least one original is held out and
        at least one is not; ``UserError`` if there are fewer than two.
        """
        if self.n_originals < 2:
            raise UserError(
                "a single original cannot be divided into training and held-out originals"
            )
        rng = np.random.default_rng(seed)
        n_held_out = min(max(round(share * self.n_originals), 1), self.n_originals - 1)
        of_original = rng.permutation(self.n_originals) < n_held_out
        of_other = rng.random(len(self)) < share
        held_out = np.where(self.owners == NO_OWNER, of_other, of_original[self.owners])
        return self.chosen(~held_out), self.chosen(held_out)

    def chosen(self, rows: np.ndarray) -> "JudgedImages":
        """Return the images of the mask ``rows`` and renumber their originals from 0."""
        owners = self.owners[rows]
        owned = owners != NO_OWNER
        owners[owned] = np.unique(owners[owned], return_inverse=True)[1]
        return replace(self, pixels=self.pixels[rows], roles=self.roles[rows], owners=owners)


def read_judged_images(folder: Path, side: int) -> JudgedImages:
    """Read either layout and resize images to ``side`` pixels (bilinear).

    Raises ``UserError`` for a folder of another layout, names that are not ``{id}_{class}_*.png`` with
    the folder's id, a missing or repeated original, and files that are no images.
    """
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}")
    found = list(_old_layout(folder) if (folder / "img").is_dir() else _layout(folder))
    originals = _numbered_originals(found)
    rows = [
        (path, role, NO_OWNER if role == OTHER else _owner(path, image_id, originals))
        for path, role, image_id in found
    ]
    return JudgedImages(
        np.stack(
            [
                squashed(read_image(path)[0], side)
                for path, *_ in progress_bar(rows, "reading images", unit="image")
            ]
        ),
        np.array([role for _, role, _ in rows], np.int64),
        np.array([owner for *_, owner in rows], np.int64),
        human=not any(SYNTHETIC in path.name for path, *_ in rows),
    )


_Found = tuple[Path, int, int]
"""(file, role, id of its original)."""


def _layout(folder: Path) -> Iterator[_Found]:
    root = folder / ROOT if (folder / ROOT).is_dir() else folder
    for inside in _sorted_folders(root):
        if inside.name != OTHERS:
            role = _role_of_folder(inside)
            for path, image_id in _named_images(inside):
                is_original = role == RECOGNISABLE and path.stem.endswith("_ori")
                yield path, ORIGINAL if is_original else role, image_id
    # The folder may be among those of the images or beside their parent.
    for others in (root / OTHERS, root.parent / OTHERS):
        if others.is_dir():
            yield from ((path, OTHER, NO_OWNER) for path in sorted(image_files(others)))


def _old_layout(folder: Path) -> Iterator[_Found]:
    for path in sorted(image_files(folder / "img")):
        yield path, ORIGINAL, parse_image_name(path.name)[0]
    for name in ("img0", "img1"):
        for inside in _sorted_folders(folder / name):
            if _role_of_folder(inside) != _ROLES_IN_OLD_LAYOUT[name]:
                raise UserError(f"{inside} does not belong in {name}: expected img0/12, img1/-12")
            role = _ROLES_IN_OLD_LAYOUT[name]
            yield from ((path, role, image_id) for path, image_id in _named_images(inside))


def _sorted_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _role_of_folder(folder: Path) -> int:
    """Return ``RECOGNISABLE`` for a folder ``12`` and ``UNRECOGNISABLE`` for ``-12``."""
    if not folder.name.removeprefix("-").isdecimal():
        raise UserError(f"{folder} is neither the folder of an image, 12 or -12, nor {OTHERS}")
    return UNRECOGNISABLE if folder.name.startswith("-") else RECOGNISABLE


def _named_images(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the images of a folder ``12`` or ``-12`` with their id, which must be the folder's."""
    for path in sorted(image_files(folder)):
        image_id, _ = parse_image_name(path.name)
        if image_id != int(folder.name.removeprefix("-")):
            raise UserError(
                f"{path} is named as an image of {image_id} but is in the folder {folder.name}"
            )
        yield path, image_id


def _numbered_originals(found: list[_Found]) -> dict[int, int]:
    """Number the originals 0, 1, ... in ascending order of ids: id -> number."""
    ids = sorted(image_id for _, role, image_id in found if role == ORIGINAL)
    for image_id, following in pairwise(ids):
        if image_id == following:
            raise UserError(f"image {image_id} has two originals")
    if not ids:
        raise UserError("no originals: expected 12/12_3_ori.png, or img/12_3_ori.png")
    return {image_id: number for number, image_id in enumerate(ids)}


def _owner(path: Path, image_id: int, originals: dict[int, int]) -> int:
    if image_id not in originals:
        raise UserError(f"{path} has no original: {image_id}/{image_id}_<class>_ori.png is missing")
    return originals[image_id]


def squashed(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize an image (height, width, 3) uint8 to ``side`` x ``side`` unless it has that size."""
    if pixels.shape[:2] == (side, side):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
