"""Recommender runs of a data set, and their lists."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from src.artifacts.classes import Classes, read_classes
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import is_recorded
from src.artifacts.tables import read_pairs, read_test_ranks, read_top_k

_LIST = "run rec_generator.py with --lists npz or tsv, not none"
NOT_LISTED = np.iinfo(np.int64).max // 2
"""The rank of a held-out item that a list does not show: beyond every K."""


def list_runs(layout: Layout) -> list[Run]:
    """Return the runs of ``rec_results/<dataset>/``, ordered by name; ``UserError`` if none."""
    files = [*layout.recommendations_dir.glob("*.tsv"), *layout.recommendations_dir.glob("*.npz")]
    names = sorted({file.stem for file in files if not file.name.startswith(".")})
    if names:
        return [Run.parse(name) for name in names]
    if _have_only_ranks(layout, lambda _: True):
        raise UserError(
            f"{layout.recommendations_dir} holds ranks but no lists, which this stage needs: {_LIST}"
        )
    raise UserError(f"no lists in {layout.recommendations_dir}: run rec_generator.py first")


def _have_only_ranks(layout: Layout, wanted: Callable[[Run], bool]) -> bool:
    """Return whether some run is ``wanted`` that was written with ``--lists none``."""
    ranked = (layout.recommendations_dir / "test_ranks").glob("*.tsv")
    runs = [Run.parse(file.stem) for file in ranked if not file.name.startswith(".")]
    return any(wanted(run) and not layout.recommendations(run).is_file() for run in runs)


def select_runs(
    layout: Layout, experiments: Collection[str], model: str | None, top_k: int
) -> list[Run]:
    """Return the runs with lists of ``top_k`` items, of some experiments and of one recommender.

    Without ``experiments`` or ``model`` all are selected. Raises ``UserError`` for an experiment without
    such a run.
    """

    def is_chosen(run: Run) -> bool:
        return run.top_k == top_k and model in (None, run.model)

    runs = [run for run in list_runs(layout) if is_chosen(run)]
    wanted = [Experiment.parse(name) for name in experiments]
    for experiment in wanted or [None]:
        if not any(experiment in (None, run.experiment) for run in runs):
            of = f" of {experiment.name}" if experiment else ""
            by = f" by {model}" if model else ""
            ranked = _have_only_ranks(
                layout,
                lambda run, of=experiment: is_chosen(run) and of in (None, run.experiment),
            )
            hint = f", only ranks: {_LIST}" if ranked else ""
            raise UserError(f"no top-{top_k} lists{of}{by} in {layout.recommendations_dir}{hint}")
    return [run for run in runs if not wanted or run.experiment in wanted]


def select_configuration(
    layout: Layout,
    epochs: int | None,
    top_k: int | None,
    fidelity: str | None,
    options: Collection[str] | None = None,
) -> list[Run]:
    """Return the runs of one configuration of each recommender that has attacked runs.

    Arguments that are not None choose it, ``options`` by the text in names of runs (``options_label``);
    only ``top_k`` applies to a recommender that is fitted at once. Raises ``UserError`` if several
    configurations are left, since runs of different trainings must not share a row, and if none is.
    """

    def is_chosen(run: Run) -> bool:
        return top_k in (None, run.top_k) and (
            run.fitted_at_once
            or (
                epochs in (None, run.epochs)
                and fidelity in (None, run.fidelity)
                and (options is None or run.options_label in options)
            )
        )

    runs = [run for run in list_runs(layout) if is_chosen(run)]
    attacked = {run.model for run in runs if run.experiment.attack}
    if not attacked:
        ranked = _have_only_ranks(
            layout, lambda run: is_chosen(run) and bool(run.experiment.attack)
        )
        hint = ": run rec_generator.py with the attacked --experiment_name first"
        if ranked:
            hint = f", only ranks: {_LIST}"
        raise UserError(
            f"no attacked run of that configuration has lists in {layout.recommendations_dir}{hint}"
        )
    runs = [run for run in runs if run.model in attacked]
    configurations: dict[str, set[tuple[int, int, str, str]]] = {}
    for run in runs:
        configuration = (run.epochs, run.top_k, run.fidelity, run.options_label)
        configurations.setdefault(run.model, set()).add(configuration)
    for model, found in configurations.items():
        if len(found) > 1:
            listed = "; ".join(f"{e} epochs, top {k}, {f}, {o}" for e, k, f, o in sorted(found))
            raise UserError(
                f"{layout.recommendations_dir} holds several configurations of {model} ({listed}): "
                "choose one with --epochs, --topk, --fidelity or --options"
            )
    return runs


def unpaired_runs(runs: Collection[Run]) -> list[Run]:
    """Return attacked runs without a clean run of the same seed, which cannot be compared."""
    present = set(runs)
    return [run for run in runs if run.experiment.attack and run.clean not in present]


@dataclass(frozen=True)
class Categories:
    """Classes that an extractor predicts in a clean catalogue, whose items CHR counts.

    ``numbers`` (classes,) ascending class numbers, ``of_item`` (items,) the position of each item's
    class in ``numbers``.
    """

    predictions: Classes
    numbers: np.ndarray
    of_item: np.ndarray

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of items of each class (classes,)."""
        return np.bincount(self.of_item, minlength=len(self.numbers))

    @cached_property
    def labels(self) -> list[str]:
        _, first = np.unique(self.of_item, return_index=True)
        return [self.predictions.labels[item] for item in first]

    def members(self, number: int) -> np.ndarray:
        """Return the mask (items,) of the items of class ``number``; ``UserError`` if it is empty."""
        members = np.zeros(len(self.of_item), bool)
        members[self.predictions.of(number)] = True
        return members


def read_categories(layout: Layout, experiment: Experiment) -> Categories:
    """Read the clean classes of the extractor of ``experiment``, attacked or not."""
    path = layout.classes(experiment.clean)
    predictions = read_classes(path)
    gap = np.flatnonzero(predictions.image_ids != np.arange(len(predictions.image_ids)))
    if len(gap):
        raise UserError(f"{path} has no row of item {gap[0]}: ids must run 0..n-1 without gaps")
    numbers, of_item = np.unique(predictions.classes, return_inverse=True)
    return Categories(predictions, numbers, of_item)


def missing_classes(layout: Layout, runs: Collection[Run]) -> list[Path]:
    """Return the missing files without which some of ``runs`` have no categories."""
    needed = {layout.classes(run.experiment.clean) for run in runs}
    return sorted(path for path in needed if not path.is_file())


@dataclass(frozen=True)
class Lists:
    """Lists of a run: ``users`` (n,) ascending, ``items`` (n, L), best first, padded with -1."""

    users: np.ndarray
    items: np.ndarray


def read_lists(layout: Layout, run: Run, n_items: int) -> Lists:
    """Read the lists of the users who have one; ``UserError`` for an item beyond the catalogue."""
    path = layout.recommendations(run)
    items = read_top_k(path).items
    if (beyond := items >= n_items).any():
        user = int(np.argmax(beyond.any(axis=1)))
        raise UserError(
            f"{path}: user {user} is recommended item {items[user].max()}, "
            f"but the catalogue ends at {n_items - 1}"
        )
    users = np.flatnonzero(items[:, 0] >= 0)
    return Lists(users, items[users])


@dataclass(frozen=True)
class HeldOut:
    """Held-out ``items`` (n,), their ``users`` (ascending), ``ranks`` and, if known, ``negatives``."""

    users: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    negatives: np.ndarray | None

    @property
    def has_several(self) -> bool:
        """True if some user has several held-out items."""
        return bool((np.diff(self.users) == 0).any())

    def rows(self, mask: np.ndarray) -> "HeldOut":
        """Return some held-out items; the others of their users become candidates like any other."""
        if self.negatives is None:
            return HeldOut(self.users[mask], self.items[mask], self.ranks[mask], None)
        left_out = np.bincount(self.users, weights=~mask).astype(np.int64)
        negatives = (self.negatives + left_out[self.users])[mask]
        return HeldOut(self.users[mask], self.items[mask], self.ranks[mask], negatives)


def held_out_files(layout: Layout, run: Run) -> list[Path]:
    """Return the files that ``read_held_out`` reads; none if the run has neither ranks nor lists.

    Raises ``UserError`` if the ranks are missing that were written with the lists: the ranks within the
    lists, which lists of other systems are measured by, are other numbers.
    """
    if (ranks := layout.test_ranks(run)).is_file():
        return [ranks]
    if is_recorded(ranks):
        raise UserError(f"missing file: {ranks}; run rec_generator.py again with --force")
    if (lists := layout.recommendations(run)).is_file():
        return [lists, layout.test_set]
    return []


def read_held_out(layout: Layout, run: Run) -> HeldOut:
    """Read the recommender's ranks or, without these, ranks within its lists."""
    if layout.test_ranks(run).is_file():
        ranks = read_test_ranks(layout.test_ranks(run))
        return HeldOut(ranks.users, ranks.items, ranks.ranks, ranks.negatives)
    items = read_top_k(layout.recommendations(run)).items
    test = read_pairs(layout.test_set)
    test = test[np.argsort(test[:, 0], kind="stable")]
    if test[-1, 0] >= len(items):
        raise UserError(f"{layout.recommendations(run)} has no list of user {test[-1, 0]}")
    found = items[test[:, 0]] == test[:, 1:2]
    ranks = np.where(found.any(axis=1), found.argmax(axis=1), NOT_LISTED)
    return HeldOut(test[:, 0], test[:, 1], ranks, None)


def require_same_users(
    layout: Layout, users: np.ndarray, run: Run, other_users: np.ndarray, other: Run
) -> None:
    """Raise ``UserError`` unless both sides of a paired comparison have the same users."""
    if not np.array_equal(users, other_users):
        raise UserError(
            f"{layout.recommendations(run)} and {layout.recommendations(other)} "
            "hold different users: make both with the same trainingset.tsv and testset.tsv"
        )
