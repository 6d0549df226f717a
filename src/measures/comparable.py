"""Checks that artifacts may be compared, because their manifests differ in nothing else."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.manifest import (
    RECORD_SUFFIX,
    fingerprint,
    first_difference,
    input_name,
    read_record,
)
from src.recommenders.command import difference_text

_COMPARED = ("seed",)
"""Options of lists in which runs that are compared may differ."""
_OF_ADVERSARY = ("model", "adversary")
"""Options of weights in which an adversarial model differs from its plain control."""
_OF_EXTRACTOR = ("arch", "weights", "resize", "preprocess", "decoder")
"""Options that stages 1 and 3 must share; their precision moves features by rounding only."""


def require_same_recommenders(layout: Layout, runs: Collection[Run]) -> None:
    """Raise ``UserError`` unless runs of a recommender differ in features, protocol and seed alone.

    Lists of other systems have no manifest and may be compared with anything.
    """
    first: dict[str, Path] = {}
    for run in sorted(runs, key=lambda run: (run.experiment.attack is not None, run.name)):
        path = layout.recommendations(run)
        if not read_record(path):
            continue
        _require_same(_of_lists(layout, path), _of_lists(layout, first.setdefault(run.model, path)))


def require_same_extractors(layout: Layout, attacked: Iterable[Experiment]) -> None:
    """Raise ``UserError`` unless one extractor has read the clean and the attacked images.

    Features without a manifest may be compared with anything.
    """
    for experiment in attacked:
        paths = layout.classes(experiment), layout.classes(experiment.clean)
        if all(map(read_record, paths)):
            _require_same(*(_of_features(layout, path) for path in paths))


def require_same_training(layout: Layout, adversarial: Run, control: Run) -> None:
    """Raise ``UserError`` unless a plain control's weights differ in the missing adversary alone.

    Weights without a manifest may be compared with anything.
    """
    files = []
    for path in map(layout.weights, (control, adversarial)):
        if not (record := read_record(path)):
            return
        options = {of: value for of, value in record["options"].items() if of not in _OF_ADVERSARY}
        files.append((path, options | _inputs(record, (layout.training_set,))))
    _require_same(files[1], files[0])


def require_other_trainings(layouts: Sequence[Layout], clean: Collection[Experiment]) -> None:
    """Raise ``UserError`` unless the data sets differ in the training of the extractors alone.

    ``clean`` are the clean experiments of the extractors. Missing files are not compared.
    """
    for path_of in (lambda of: of.training_set, lambda of: of.test_set):
        paths = [path for path in map(path_of, layouts) if path.is_file()]
        for path in paths[1:]:
            if fingerprint(path) != fingerprint(paths[0]):
                raise UserError(f"{paths[0]} and {path} hold other interactions: use the same ones")
    for experiment in clean:
        first: dict[str, Path] = {}
        for path in (layout.classes(experiment) for layout in layouts):
            weights = read_record(path).get("options", {}).get("weights")
            if weights and (other := first.setdefault(weights, path)) != path:
                raise UserError(f"{other} and {path} are of one training, not of two")


def training_seed(layout: Layout, clean: Experiment) -> int | None:
    """Return the training seed of the extractor of a clean experiment, if it is recorded."""
    weights = read_record(layout.classes(clean)).get("options", {}).get("weights")
    for path in sorted((layout.root / "models").glob(f"**/*{RECORD_SUFFIX}")):
        record = read_record(path.with_name(path.name.removesuffix(RECORD_SUFFIX)))
        if weights and weights in record.get("outputs", {}).values():
            return record["options"].get("seed")
    return None


def _of_lists(layout: Layout, path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a file of lists, with the recommender and the interactions in its manifest."""
    record = read_record(path)
    options = {name: value for name, value in record["options"].items() if name not in _COMPARED}
    read = (layout.training_set, layout.test_set, layout.validation_set)
    return path, options | _inputs(record, read)


def _of_features(layout: Layout, path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a file of classes, with the extractor and the clean images in its manifest."""
    record = read_record(path)
    options = {name: record["options"].get(name) for name in _OF_EXTRACTOR}
    return path, options | _inputs(record, (layout.images,))


def _inputs(record: dict[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Return the recorded hashes of these files, by their names in manifests."""
    names = map(input_name, paths)
    return {name: record["inputs"].get(name) for name in names}


def _require_same(file: tuple[Path, dict[str, Any]], other: tuple[Path, dict[str, Any]]) -> None:
    (path, options), (other_path, others) = file, other
    if first := first_difference(others, options):
        raise UserError(
            f"{other_path} and {path} cannot be compared: {difference_text(first)}; make both again with "
            "the same options and inputs"
        )
