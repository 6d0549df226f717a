"""Changed images and their originals, from attacked experiments and plain folders."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.artifacts.attack_report import read_attack_report
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.reconstructions import (
    UNTRANSFORMED,
    diverged_images,
    originals_folder,
    parse_image_name,
    read_images_by_name,
    read_pairs,
)
from src.datasets.catalogue import open_catalogue, open_whole_catalogue
from src.datasets.image_files import image_files, image_size
from src.datasets.image_set import ImageFiles, ImageSet
from src.extractors.recorded import RecordedExtractor

LEADING = ("model", "image", "label", "success")
"""Columns of a table of images that are no metrics."""


@dataclass(frozen=True)
class Condition:
    """Images that were changed in one way, with their originals."""

    name: str
    changed: ImageSet
    originals: Mapping[str, ImageSet]
    """Originals of ``changed``, row by row, by the ending of the columns of their comparison."""
    known: Mapping[str, np.ndarray]
    """Known columns of ``LEADING``, (n,) each."""
    diverged: int = 0
    """Images that are left out, since their inversion diverged."""


def experiment_condition(layout: Layout, experiment: Experiment) -> Condition:
    """Return the images of stage 3 and the clean images at the size at which they were attacked."""
    resize = RecordedExtractor.read(layout.classes(experiment)).resize
    clean = open_whole_catalogue(layout.images, resize)
    attacked = open_catalogue(layout.attacked_images(experiment), resize=0)
    path = layout.attack_report(experiment)
    report = read_attack_report(path, needs=["success"], images=attacked.ids).set_index("image")
    positions = clean.positions(attacked.ids)
    originals = clean.take(positions)
    known = {"image": attacked.ids, "success": report["success"].loc[attacked.ids].to_numpy()}
    return Condition(experiment.name, attacked, {"": originals}, known)


def folder_condition(folder: Path, originals: Path | None) -> Condition:
    """Return the images of ``folder``, each with its original.

    Without ``originals`` the folder holds reconstructions, and folders beside it hold their transformed
    and, if they are kept, untransformed originals. An image of ``originals`` is found by position and
    class if all images of ``folder`` have names ``{id}_{label}_*.png``, and otherwise by its stem.
    Images for which every restart of an inversion diverged are left out and counted; the rest may be
    empty. Raises ``UserError`` for an image without original.
    """
    lost = diverged_images(folder)
    if originals is not None:
        changed, found = _images_by_name(folder), _images_by_name(originals)
        if missing := [key for key in changed if key not in found]:
            raise UserError(f"{changed[missing[0]]} has no original in {originals}")
        shown = [key for key in changed if key not in lost]
        beside = {"": [found[key] for key in shown]}
    else:
        pairs = read_pairs(folder)
        changed = {(pair.id, pair.label): pair.reconstruction for pair in pairs}
        shown = [key for key in changed if key not in lost]
        beside = {"": [pair.original for pair in pairs if pair[:2] not in lost]}
        if originals_folder(folder, untransformed=True).is_dir():
            pairs = read_pairs(folder, untransformed=True)
            beside[UNTRANSFORMED] = [pair.original for pair in pairs if pair[:2] not in lost]
    columns = np.array(shown or np.empty((0, 2), np.int64)).T
    known = dict(zip(LEADING[1:], columns, strict=False))
    return Condition(
        name_of_folder(folder),
        _catalogue([changed[key] for key in shown]),
        {ending: _catalogue(paths) for ending, paths in beside.items()},
        known,
        len(changed) - len(shown),
    )


def name_of_folder(folder: Path) -> str:
    """Return the name of a folder's images: its own, or that of the experiment that it is part of."""
    path = folder.resolve()
    return path.parent.name if path.name == "images" else path.name


def _images_by_name(folder: Path) -> dict[tuple[int | str, ...], Path]:
    """Return files by (position, class) if all names say both, otherwise by (stem,), ascending."""
    if not folder.is_dir():
        raise UserError(f"no folder of images at {folder}")
    files = sorted(image_files(folder), key=lambda path: natural_order(path.name))
    if not files:
        raise UserError(f"no images in {folder}")
    try:
        for path in files:
            parse_image_name(path.name)
    except UserError:
        return _images_by_stem(files)
    return dict(read_images_by_name(folder))


def _images_by_stem(files: Sequence[Path]) -> dict[tuple[int | str, ...], Path]:
    numbered = all(path.stem.isdecimal() for path in files)
    found: dict[tuple[int | str, ...], Path] = {}
    for path in files:
        key = (int(path.stem) if numbered else path.stem,)
        if key in found:
            raise UserError(f"{found[key]} and {path.name} are the same image")
        found[key] = path
    return found


def natural_order(name: str) -> list[tuple[float, str]]:
    """Return a key that sorts names as people do: eps2.0 before eps16.0."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(float(part or 0), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def _catalogue(paths: Collection[Path]) -> ImageSet:
    """Return the images of ``paths`` in their order, at their native sizes."""
    sizes = np.array([image_size(path) for path in paths], np.int64)
    return ImageSet.of(ImageFiles(tuple(paths), sizes=sizes))


def finished_attacks(layout: Layout) -> list[Experiment]:
    """Return the experiments of stage 3, the undefended extractor's first; ``UserError`` without any."""
    layout.require_data()
    found = [of for of in layout.attacked_experiments() if layout.attack_report(of).is_file()]
    if not found:
        raise UserError(f"no attacked experiment in {layout.data}: classify_extract_attack.py")
    return sorted(found, key=lambda of: (of.model_dir or "", natural_order(of.name)))


def read_condition(
    condition: Condition, rows: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read changed images and, by ending, their originals: (n, height, width, 3) float64 in [0, 1].

    Raises ``UserError`` for an image whose size is not that of its original.
    """
    changed = condition.changed.batch(rows)
    originals = {}
    for ending, images in condition.originals.items():
        read = [images.image(row) for row in rows]
        for row, image in zip(rows, read, strict=True):
            if image.shape != changed.shape[1:]:
                sizes = [f"{of.shape[-2]}x{of.shape[-3]}" for of in (changed, image)]
                path = condition.changed.store.paths[row]
                raise UserError(
                    f"{path} has {sizes[0]} pixels, {images.store.paths[row]} {sizes[1]}"
                )
        originals[ending] = np.stack(read) / 255
    return changed / 255, originals
