"""Putting a prepared data set in place, whole or not at all."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.artifacts.atomic import partial_path
from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.tables import write_pairs
from src.datasets.catalogue import open_whole_catalogue
from src.datasets.images import link_or_copy
from src.datasets.interactions import load_interactions
from src.datasets.mapping import IdMap
from src.datasets.splitting import Feedback

Outputs = Callable[[Layout], Sequence[Path]]
"""Which files and folders a preparation leaves; the first is ``trainingset.tsv``."""


def prepared_outputs(layout: Layout) -> list[Path]:
    """What ``write_dataset`` leaves."""
    return [
        layout.training_set,
        layout.test_set,
        layout.images,
        layout.user_map,
        layout.item_map,
        layout.dropped_items,
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

    Nothing happens where ``manifest`` says that the data set is already there. A data set of the same
    name that was made otherwise is replaced, with all that was computed from it, only by ``force``,
    and never when one of ``sources`` lies in it.
    """
    place = layout.data
    if not force and manifest.is_current(outputs(layout)):
        print(f"{place} is up to date (use --force to redo)")
        return
    inside = [path for path in sources if path.resolve().is_relative_to(place.resolve())]
    if inside:
        raise UserError(f"{inside[0]} lies in {place}, which would be replaced: move it elsewhere")
    occupied = place.exists() and any(place.iterdir())
    if occupied and not force:
        raise UserError(
            f"{place} already holds other data: choose another --dataset, or --force to replace it "
            "and all that was computed from it"
        )
    # The staged tree is an ordinary tree with another root, so every path has the same meaning in it.
    staging = partial_path(place)
    staged = Layout(layout.dataset, staging)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staged.images.mkdir(parents=True)
        write(staged)
        summary = _check(staged)
        manifest.write(outputs(staged))
        if place.exists():
            place.replace(staging / "replaced")
        staged.data.replace(place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    print(f"data set at {place}: {summary}")


def write_dataset(
    layout: Layout,
    train: Feedback,
    test: Feedback,
    images: Mapping[str, Path],
    dropped: Mapping[str, str],
) -> None:
    """Number users and items, and write rows, maps, images and the list of dropped items.

    ``images`` (source id -> file) defines the catalogue: items without feedback are part of it.
    ``dropped`` holds source id -> reason. Rows are ordered by user and keep their order within one.
    """
    if len(train) == 0:
        raise UserError(
            "no feedback is left: lower --core, or check that ids and image names agree"
        )
    if len(test) == 0:
        raise UserError(
            "no test row is left: no user has two interactions with items that have images"
        )
    users = IdMap.of(train.present_users + test.present_users)
    items = IdMap.of(images)
    for path, feedback in ((layout.training_set, train), (layout.test_set, test)):
        numbers = (
            users.numbers(feedback.user_ids)[feedback.users],
            items.numbers(feedback.item_ids)[feedback.items],
        )
        pairs = np.stack(numbers, axis=1)
        write_pairs(path, pairs[np.argsort(pairs[:, 0], kind="stable")])
    users.write(layout.user_map)
    items.write(layout.item_map)
    table = pd.DataFrame({"item": list(dropped), "reason": list(dropped.values())}, dtype=object)
    table.to_csv(layout.dropped_items, sep="\t", index=False)
    for number, item in enumerate(items.originals):
        suffix = images[item].suffix.lower()
        link_or_copy(images[item], layout.images / f"{number}{suffix}")


def _check(staged: Layout) -> str:
    """Read the data set as the stages will, and describe it in one line."""
    catalogue = open_whole_catalogue(staged.images)
    data = load_interactions(staged, len(catalogue))
    dropped = ""
    if staged.dropped_items.is_file():
        n_dropped = len(staged.dropped_items.read_text().splitlines()) - 1
        if n_dropped:
            dropped = f"; {n_dropped} items without a readable image dropped (dropped.tsv)"
    return (
        f"{data.n_users} users, {data.n_items} items, {len(data.train)} training and "
        f"{len(data.test)} test interactions{dropped}"
    )
