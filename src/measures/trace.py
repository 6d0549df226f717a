"""Origin of a row of a results table: the commands behind it, and changes of files since."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from src.artifacts.columns import read_text
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.artifacts.lineage import Lineage, lineage
from src.artifacts.manifest import input_name, read_record, require_as_written
from src.measures.comparison import common_seeds, comparisons_of, comparisons_with
from src.measures.designs import designs_of

_SHOWN = (
    *("dataset", "extractor", "attack", "recommender", "seed", "protocol", "threat", "metric"),
    *("scope", "k"),
)
_SHOWN_FILES = 3


def trace(table: Path, number: int | None, where: Sequence[str]) -> str:
    """Return what to print about one row of ``summary.tsv``, ``runs.tsv`` or ``promotion.tsv``.

    The row is chosen by its number, from 1, or by conditions such as ``attack=pgd_0_1_eps8.0``.
    """
    if not table.is_file():
        raise UserError(f"there is no table at {table}")
    record = read_record(table)
    files_behind = _FILES_BEHIND.get(record.get("stage"))
    if files_behind is None or "command" not in record:
        raise UserError(
            f"{table} has no manifest of summarize.py or audits.promotion, so it cannot be traced"
        )
    rows = read_text(table)
    require_as_written(table)
    number = _numbered(table, rows, number) if number is not None else _found(table, rows, where)
    row = rows.iloc[number - 1].to_dict()
    table = table if len(table.parents) > 2 else table.absolute()
    root = table.parents[2]
    layouts = [Layout(name, root) for name in (table.parent.name, *record["options"]["trainings"])]
    read: dict[Path, str] = {}
    for layout, files in files_behind(layouts, record, row).items():
        hashes = _hashes_of(layout, record)
        names = {input_name(file): file for file in files}
        read |= {file: hashes[name] for name, file in names.items() if name in hashes}
    said = [row[name] for name in _SHOWN if row.get(name)]
    return f"row {number} of {table}: {', '.join(said)}\n\n{_text(lineage(root, table, read))}"


def _numbered(table: Path, rows: pd.DataFrame, number: int) -> int:
    if not 1 <= number <= len(rows):
        raise UserError(f"{table} has rows 1 to {len(rows)}, and no row {number}")
    return number


def _found(table: Path, rows: pd.DataFrame, where: Sequence[str]) -> int:
    """Return the number of the only row that meets all conditions."""
    matching = pd.Series(True, index=rows.index)
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals or column not in rows:
            raise UserError(
                f"--where {condition}: a condition is column=value, with one of {', '.join(rows)}"
            )
        matching &= rows[column] == value
    numbers = [index + 1 for index in rows.index[matching]]
    if len(numbers) != 1:
        listed = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
        raise UserError(
            f"{len(numbers)} rows of {table} have {' '.join(where)}"
            + (f" ({listed}): give more conditions or one of the numbers" if numbers else "")
        )
    return numbers[0]


def _files_of(layout: Layout, run: Run) -> list[Path]:
    """Return every file that a summary may read about one run."""
    experiments = (run.experiment.clean, run.experiment)
    return [
        layout.recommendations(run),
        layout.test_ranks(run),
        layout.test_set,
        *map(layout.classes, experiments),
        *map(layout.features, experiments),
    ]


def _hashes_of(layout: Layout, record: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files of one data set that the table was made of, by their names in manifests."""
    prefix = f"{layout.dataset}/"
    return {
        name.removeprefix(prefix): digest
        for name, digest in record["inputs"].items()
        if name.startswith(prefix)
    }


def _runs_of(
    layouts: Sequence[Layout], record: Mapping[str, Any], row: Mapping[str, str]
) -> dict[Layout, list[Run]]:
    """Return the runs behind a row, by data set: attacked ones, clean ones and those on noise."""
    runs = [_recorded_runs(layout, record) for layout in layouts]
    if "dataset" in row:  # a row of runs.tsv is one run
        return {
            layout: [run for run in of_layout if _is_of_row(run, row)]
            for layout, of_layout in zip(layouts, runs, strict=True)
            if layout.dataset == row["dataset"]
        }
    found: dict[Layout, list[Run]] = {}
    options = record["options"]
    pairs, placebos = (list(map(tuple, options[name])) for name in ("pairs", "placebos"))
    for comparisons in comparisons_of(layouts, runs, options["ks"]):
        attacked = [key for of in comparisons for key in of.attacked]
        for design in designs_of(dict.fromkeys(attacked), pairs, placebos):
            first = comparisons[0].runs[0]
            names = (first.experiment.extractor, design.name, first.model, design.protocol)
            if names != _names_in(row):
                continue
            having = comparisons_with(comparisons, design)
            seeds = common_seeds(having, design)
            for of in having:
                found[of.layout] = [
                    run
                    for key in ((one, design.protocol) for one in design.flat)
                    for seed in seeds
                    for run in (of.attacked[key][seed], of.clean[seed], of.noise(*key).get(seed))
                    if run
                ]
    return found


def _files_of_summary(
    layouts: Sequence[Layout], record: Mapping[str, Any], row: Mapping[str, str]
) -> dict[Layout, list[Path]]:
    """Return the files behind a row of ``summary.tsv`` or ``runs.tsv``, by data set."""
    return {
        layout: [file for run in runs for file in _files_of(layout, run)]
        for layout, runs in _runs_of(layouts, record, row).items()
    }


def _files_of_promotion(
    layouts: Sequence[Layout], record: Mapping[str, Any], row: Mapping[str, str]
) -> dict[Layout, list[Path]]:
    """Return the files behind a row of ``promotion.tsv``: of the attack and of its noise, by data set."""
    from src.measures.trainings import files_of, subjects_of

    options = record["options"]
    for of in subjects_of(
        layouts,
        *(options[name] for name in ("models", "epoch", "seeds", "k", "options")),
        options.get("target_item"),
    ):
        run = of.first.run
        if (run.experiment.extractor, of.recommender) != (
            row["extractor"],
            row["recommender"],
        ):
            continue
        parsed = Experiment.parse(row["attack"])
        attack = replace(parsed, model_dir=run.experiment.model_dir)
        noise = of.noise(attack)
        attacked = [attack, *([noise] if noise else [])]
        return files_of(of, attacked, retrained=row["threat"] == "retrained")
    return {}


_FILES_BEHIND = {"summarize": _files_of_summary, "promotion": _files_of_promotion}
"""Files behind a row, by the stage that made the table."""


def _recorded_runs(layout: Layout, record: Mapping[str, Any]) -> list[Run]:
    """Return the runs of one data set whose lists the table was made of."""
    lists = re.compile(rf"{re.escape(layout.dataset)}/(.+_top\d+_ep\d+_.+)\.tsv")
    matches = map(lists.fullmatch, _hashes_of(layout, record))
    return [Run.parse(match[1]) for match in matches if match]


def _is_of_row(run: Run, row: Mapping[str, str]) -> bool:
    """Return whether a row of ``runs.tsv`` holds the values of ``run``."""
    experiment = run.experiment
    attack = experiment.attack_name
    names = (experiment.extractor, attack, run.model, run.protocol)
    return names == _names_in(row) and str(run.seed) == row["seed"]


def _names_in(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("extractor", "attack", "recommender", "protocol"))


def _text(found: Lineage) -> str:
    lines = ["files that no command made, with their SHA-256:"]
    lines += [f"  {digest}  {name}" for name, digest in found.given.items()] or ["  none"]
    if found.links:
        lines += ["", "links, before the commands that read through them:"]
        lines += [f"  {link} -> {file}" for link, file in found.links.items()]
    lines += ["", "commands, in this order:"]
    for number, command in enumerate(found.commands, 1):
        left = [str(path) for path in command.left[:_SHOWN_FILES]]
        more = len(command.left) - len(left)
        lines.append(f"  {number}. {command.text}")
        lines.append(f"     -> {', '.join(left)}" + (f" and {more} more" if more else ""))
    lines += ["", "changed since:" if found.changed else "every file is as its manifest says"]
    lines += [f"  {sentence}" for sentence in found.changed]
    return "\n".join(lines)
