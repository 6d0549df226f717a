"""Preparation of a data set from each source of ``prepare_dataset.py``."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from src.artifacts.errors import UserError
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest, input_name
from src.datasets.amazon import PAPER_CATEGORIES, prepare_amazon
from src.datasets.demo.build import Demo, demo_outputs, write_demo
from src.datasets.folder import prepare_folder
from src.datasets.images import Downloads
from src.datasets.raw import PAPER_CORES, ImageSource
from src.datasets.ready_features import ReadyFeatures
from src.datasets.splitting import RATIO, Splitting
from src.datasets.tabular import AllFeedback, GivenSplit, ReadySplit, Tables, prepare_tables
from src.datasets.tradesy import prepare_tradesy
from src.datasets.writing import Outputs, prepare, prepared_outputs

_NOT_IN_MANIFEST = (
    "source",
    "dataset",
    "root",
    "force",
    "connections",
    "attempts",
    "accept_changed",
)
"""Options that do not change the files that are written."""
_NAMED_IF_USED = {
    "split": "leave_one_out",
    "ratio": list(RATIO),
    "cold_items": 0.0,
    "split_seed": 0,
    "sequences": False,
    "features": None,
    "feature_items": None,
    "categories": None,
}
"""Options that manifests name only where they differ from these defaults, and the defaults.

Data sets that were made before there were such options thus stay current.
"""


def prepare_dataset(options: argparse.Namespace) -> None:
    """Make ``data/<dataset>/`` from the command line of ``prepare_dataset.py``."""
    _SOURCES[options.source](options, Layout(options.dataset, options.root))


def _demo(options: argparse.Namespace, layout: Layout) -> None:
    demo = Demo(options.items, options.users, options.size, options.per_class, options.seed)
    _run(options, layout, partial(write_demo, demo=demo), outputs=demo_outputs)


def _folder(options: argparse.Namespace, layout: Layout) -> None:
    tables = _tables(options)
    _run(
        options,
        layout,
        partial(
            prepare_folder, tables=tables, images=options.images, categories=options.categories
        ),
        inputs=[options.images, *tables.paths, *filter(None, [options.categories])],
        outputs=partial(prepared_outputs, categories=bool(options.categories), **_parts(options)),
    )


def _interactions(options: argparse.Namespace, layout: Layout) -> None:
    tables = _tables(options)
    if options.feature_items and not options.features:
        raise UserError("--feature_items names the rows of --features, which is missing")
    features = ReadyFeatures(options.features, options.feature_items) if options.features else None
    _run(
        options,
        layout,
        partial(prepare_tables, tables=tables, features=features),
        inputs=[*tables.paths, *(features.paths if features else [])],
        outputs=partial(prepared_outputs, images=False, features=bool(features), **_parts(options)),
    )


def _tables(options: argparse.Namespace) -> Tables:
    ready = [options.train, options.test, options.validation]
    splitting = _splitting(options)
    if options.interactions and not any(ready) and options.split == "given":
        if options.core or options.min_rating is not None or options.sequences or options.header:
            raise UserError(
                "--split given goes without --core, --min_rating, --sequences and --header"
            )
        return GivenSplit(options.interactions)
    if options.interactions and not any(ready):
        if options.sequences and options.min_rating is not None:
            raise UserError("--min_rating: --sequences have no ratings")
        return AllFeedback(
            options.interactions,
            header=options.header,
            min_rating=options.min_rating,
            core=_core(options, 0),
            splitting=splitting,
            sequences=options.sequences,
        )
    if options.split != "leave_one_out" or options.cold_items or options.sequences:
        raise UserError("--split, --cold_items and --sequences are for --interactions")
    if options.interactions or not (options.train and options.test):
        raise UserError("give either --interactions, or --train and --test")
    if options.core or options.min_rating is not None:
        raise UserError("--core and --min_rating change --interactions, not a ready split")
    if options.validation and options.validation_split:
        raise UserError("give either --validation or --validation_split")
    return ReadySplit(*ready, header=options.header, validation_split=options.validation_split)


def _splitting(options: argparse.Namespace) -> Splitting:
    """Return how ``--interactions`` is split; ``UserError`` for options that do not go together."""
    if options.validation_split and options.split != "leave_one_out":
        raise UserError(
            "--validation_split goes with --split leave_one_out; --ratio has a share for it"
        )
    if options.split == "given":
        if options.cold_items:
            raise UserError("--cold_items goes without --split given")
        return Splitting()
    return Splitting(
        options.split,
        tuple(options.ratio),
        options.validation_split,
        options.cold_items,
        options.split_seed,
    )


def _parts(options: argparse.Namespace) -> dict[str, bool]:
    """Return which parts the data set has besides training and test rows."""
    if options.split == "given":
        validation = True
    else:
        validation = bool(options.validation) or _splitting(options).has_validation
    return {"validation": validation, "cold_items": options.cold_items > 0}


def _amazon(options: argparse.Namespace, layout: Layout) -> None:
    options.category = options.category or PAPER_CATEGORIES.get(options.dataset)
    if options.category is None:
        raise UserError("--category is missing, for example 'Clothing, Shoes & Jewelry/Men'")
    options.core = _core(options, PAPER_CORES.get(options.dataset, 5))
    write = partial(
        prepare_amazon,
        reviews=options.reviews,
        metadata=options.metadata,
        category=options.category,
        min_rating=options.min_rating,
        source=_image_source(options, layout),
        core=options.core,
    )
    _run_raw(options, layout, write, [options.reviews, options.metadata])


def _tradesy(options: argparse.Namespace, layout: Layout) -> None:
    if options.download and not options.item_urls:
        raise UserError("--download needs --item_urls, the file with the addresses of the images")
    options.core = _core(options, PAPER_CORES.get(options.dataset, 10))
    write = partial(
        prepare_tradesy,
        feedback=options.feedback,
        item_urls=options.item_urls if options.download else None,
        source=_image_source(options, layout),
        core=options.core,
    )
    files = [options.feedback, options.item_urls] if options.download else [options.feedback]
    _run_raw(options, layout, write, files)


def _run_raw(
    options: argparse.Namespace, layout: Layout, write: Callable[..., None], files: list[Path]
) -> None:
    if options.download:
        _run(
            options,
            layout,
            write,
            inputs=files,
            outputs=lambda place: [*prepared_outputs(place), place.images_report],
        )
        print(f"downloads are kept in {_downloads_of(layout)}; delete it when you are done")
    else:
        _run(options, layout, write, inputs=[options.images, *files])


def _run(
    options: argparse.Namespace,
    layout: Layout,
    write: Callable[..., None],
    *,
    inputs: Sequence[Path] = (),
    outputs: Outputs = prepared_outputs,
) -> None:
    described = {
        name: value
        for name, value in vars(options).items()
        if name not in _NOT_IN_MANIFEST
        and (name not in _NAMED_IF_USED or value != _NAMED_IF_USED[name])
    }
    for path in inputs:
        if path != getattr(options, "images", None) and path.is_dir():
            raise UserError(f"{path} is a folder, and this must be a file")
    manifest = Manifest.of(
        f"prepare_dataset {options.source}",
        {name: _plain(value) for name, value in described.items()},
        inputs,
    )
    prepare(layout, manifest, outputs, write, sources=inputs, force=options.force)


def _plain(value: Any) -> Any:
    """Return the name of a path, whose content the manifest compares separately, or the value itself."""
    return input_name(value) if isinstance(value, Path) else value


def _core(options: argparse.Namespace, default: int) -> int:
    core = default if options.core is None else options.core
    if core < 0:
        raise UserError(f"--core must be at least 0, not {core}")
    return core


def _image_source(options: argparse.Namespace, layout: Layout) -> ImageSource:
    if not options.download:
        return ImageSource(options.images, None)
    if options.attempts < 1 or options.connections < 1:
        raise UserError("--attempts and --connections must be at least 1")
    downloads = Downloads(
        _downloads_of(layout), attempts=options.attempts, workers=options.connections
    )
    return ImageSource(None, downloads)


def _downloads_of(layout: Layout) -> Path:
    return layout.data.with_name(f".downloads-{layout.dataset}")


_SOURCES: Mapping[str, Callable[[argparse.Namespace, Layout], None]] = {
    "demo": _demo,
    "folder": _folder,
    "interactions": _interactions,
    "amazon": _amazon,
    "tradesy": _tradesy,
}
