"""Atomic creation of a prepared data set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import staging_folder
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.artifacts.locks import sole_maker
from src.artifacts.manifest import Manifest
from src.artifacts.tables import write_ids, write_pairs, write_table
from src.datasets.catalogue import open_whole_catalogue
from src.datasets.images import link_or_copy
from src.datasets.interactions import load_interactions
from src.datasets.mapping import IdMap
from src.datasets.shards import ArchivedImage, ImagePath, write_shards
from src.datasets.splitting import Split

Outputs = Callable[[Layout], Sequence[Path]]
"""Function that lists the files and folders of a preparation; the first is ``trainingset.tsv``."""


def prepared_outputs(
    layout: Layout,
    *,
    images: bool = True,
    validation: bool = False,
    cold_items: bool = False,
    features: bool = False,
    categories: bool = False,
) -> list[Path]:
    """Return the files of a prepared data set that has these parts."""
    return [
        layout.training_set,
        layout.test_set,
        *([layout.validation_set] if validation else []),
        layout.user_map,
        layout.item_map,
        *([layout.images, layout.dropped_items] if images else []),
        *([layout.cold_items] if cold_items else []),
        *([layout.features(Experiment())] if features else []),
        *([layout.item_categories] if categories else []),
    ]


def prepare(
    layout: Layout,
    manifest: Manifest,
    outputs: Outputs,
    write: Callable[[Layout], None],
    *,
    sources: Sequence[Path] = (),
    force: bool = False,
) -> None:
    """Let ``write`` fill a hidden folder beside ``data/<dataset>``, check it, and rename it.

    Nothing happens if ``manifest`` says that the data set is up to date. A different data set of the
    same name is replaced, with all results computed from it, only with ``force``, and never if one of
    ``sources`` lies in it.
    """
    place = layout.data
    with sole_maker(place):
        if not force and manifest.is_current(outputs(layout)):
            print(f"{place} is up to date (use --force to redo)")
            return
        inside = [path for path in sources if path.resolve().is_relative_to(place.resolve())]
        if inside:
            raise UserError(
                f"{inside[0]} lies in {place}, which would be replaced: move it elsewhere"
            )
        occupied = place.exists() and any(place.iterdir())
        if occupied and not force:
            raise UserError(
                f"{place} already holds other data: choose another --dataset (--name of the scripts in "
                "reproduce/), or give catalogue.sh or prepare_dataset.py --force, which replaces it and "
                "all that was computed from it"
            )
        with staging_folder(place) as staging:
            # The staged tree has another root and otherwise the same paths.
            staged = Layout(layout.dataset, staging)
            staged.data.mkdir(parents=True)
            write(staged)
            summary = _check(staged)
            manifest.write(outputs(staged))
            if place.exists():
                place.replace(staging / "replaced")
            staged.data.replace(place)
    print(f"data set at {place}: {summary}")


def write_dataset(
    layout: Layout,
    split: Split,
    images: Mapping[str, ImagePath] | None = None,
    dropped: Mapping[str, str] | None = None,
    catalogue: Sequence[str] | None = None,
) -> None:
    """Number users and items, and write rows, maps, images and the list of dropped items.

    ``images`` (source id -> file) or, without images, ``catalogue`` (source ids) defines the items,
    including items without feedback; else the items are those of the rows. ``dropped`` maps source id ->
    reason. Rows are sorted by user and otherwise keep their order.
    """
    for kind, feedback in split.parts.items():
        if len(feedback) == 0:
            raise UserError(f"no {kind} row is left: {_WHY_EMPTY[kind]}")
    if split.dropped_users:
        print(f"users without a training row, who are left out: {split.dropped_users}")
    users = IdMap.of(split.present_users)
    items = IdMap.of(images or catalogue or split.present_items)
    paths = {
        "training": layout.training_set,
        "test": layout.test_set,
        "validation": layout.validation_set,
    }
    for kind, feedback in split.parts.items():
        pairs = feedback.pairs(users, items)
        write_pairs(paths[kind], pairs[np.argsort(pairs[:, 0], kind="stable")])
    users.write(layout.user_map)
    items.write(layout.item_map)
    if split.cold_items:
        write_ids(layout.cold_items, np.sort(items.numbers(split.cold_items)))
    if images is not None:
        _write_images(layout, items, images)
        _write_dropped(layout, dropped or {})


_WHY_EMPTY: Mapping[str, str] = {
    "training": "lower --core or --min_rating, or check that ids and image names agree",
    "test": "no user with a training row has another interaction with items of the data set",
    "validation": "no user has two training rows, or no item of the rows is in the data set",
}


def _write_images(layout: Layout, items: IdMap, images: Mapping[str, ImagePath]) -> None:
    """Write the images by item number: files as files, members of archives to new archives."""
    layout.images.mkdir(parents=True)
    named = [
        (f"{number}{images[item].suffix.lower()}", images[item])
        for number, item in enumerate(items.originals)
    ]
    if any(isinstance(image, ArchivedImage) for _, image in named):
        write_shards(layout.images, ((name, image.read_bytes()) for name, image in named))
        return
    for name, image in named:
        link_or_copy(image, layout.images / name)


def _write_dropped(layout: Layout, dropped: Mapping[str, str]) -> None:
    table = pd.DataFrame({"item": list(dropped), "reason": list(dropped.values())}, dtype=object)
    write_table(layout.dropped_items, table)


def _check(staged: Layout) -> str:
    """Read the data set as the stages read it, and describe it in one line."""
    has_images = staged.images.is_dir()
    data = load_interactions(
        staged, len(open_whole_catalogue(staged.images)) if has_images else None
    )
    dropped = ""
    if staged.dropped_items.is_file():
        n_dropped = len(staged.dropped_items.read_text().splitlines()) - 1
        if n_dropped:
            dropped = f"; {n_dropped} items without a readable image dropped (dropped.tsv)"
    unsold = ""
    if has_images:
        parts = (data.train, data.test, data.validation)
        bought = np.unique(np.concatenate([part[:, 1] for part in parts]))
        if n_unsold := data.n_items - len(bought):
            unsold = f"; {n_unsold} of the items are in no interaction"
    validation = f", {len(data.validation)} validation" if len(data.validation) else ""
    return (
        f"{data.n_users} users, {data.n_items} items, {len(data.train)} training{validation} and "
        f"{len(data.test)} test interactions{unsold}{dropped}"
    )
