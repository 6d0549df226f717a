"""Commands that were run, from the records beside artifacts."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from src.artifacts.layout import Layout
from src.artifacts.manifest import RECORD_SUFFIX

_PLACE = re.compile(r" --root \S+")
"""Option that commands are shown without: the folder of the tree changes nothing in it."""
_ORDER = (
    "prepare_dataset", "train_extractor", "classify_extract", "recommend", "evaluate_rec",
    "classify_extract_attack", "evaluate_attack", "feature_loss", "evaluate_attention", "summarize",
)  # fmt: skip
OWN = "report"
"""Name of this stage, which the report leaves out."""


@dataclass(frozen=True)
class Ran:
    """Command and its artifacts."""

    stage: str
    command: str
    seeds: tuple[int, ...]
    artifacts: int
    date: str
    """Date of the last artifact: year, month, day."""


def ran(layout: Layout) -> tuple[list[Ran], dict[str, list[str]]]:
    """Return the commands in the order of the stages, and the versions of each package used."""
    found = list(_records(layout))
    grouped: dict[tuple[str, str], list[tuple[Path, Mapping[str, Any]]]] = {}
    versions: dict[str, set[str]] = {}
    for path, record in found:
        command = _PLACE.sub("", record.get("command", ""))
        grouped.setdefault((record.get("stage", ""), command), []).append((path, record))
        for package, version in record.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    commands = [_ran(*key, members) for key, members in grouped.items()]
    commands.sort(key=lambda of: (_position(of.stage), of.command))
    return commands, {name: sorted(of) for name, of in sorted(versions.items())}


def attack_commands(layout: Layout) -> dict[str, str]:
    """Return the command that attacked the images of each experiment, by its name."""
    return {
        path.parent.name: _PLACE.sub("", record["command"])
        for path, record in _records(layout)
        if record.get("stage") == "classify_extract_attack"
    }


def commands_table(commands: list[Ran]) -> pd.DataFrame:
    """Return the commands as a table, for files and for the report's own record."""
    return pd.DataFrame(
        [(of.stage, of.command, " ".join(map(str, of.seeds)), of.artifacts) for of in commands],
        columns=["stage", "command", "seeds", "artifacts"],
    )


def _ran(stage: str, command: str, members: list[tuple[Path, Mapping[str, Any]]]) -> Ran:
    options = [record.get("options", {}) for _, record in members]
    seeds = {of["seed"] for of in options if isinstance(of.get("seed"), int)}
    latest = max(path.stat().st_mtime for path, _ in members)
    date = datetime.fromtimestamp(latest, UTC).date().isoformat()
    return Ran(stage, command, tuple(sorted(seeds)), len(members), date)


def _position(stage: str) -> int:
    return _ORDER.index(stage) if stage in _ORDER else len(_ORDER)


def _records(layout: Layout) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Return all records of the data set, and those of the checkpoints that read its images."""
    weights: set[str] = set()
    folders = (layout.root / top / layout.dataset for top in _TOPS)
    for path in (path for folder in folders for path in sorted(folder.rglob(f"*{RECORD_SUFFIX}"))):
        record = _read(path)
        if record.get("stage") == OWN:
            continue
        weights.add(str(record.get("options", {}).get("weights")))
        yield path, record
    for path in sorted((layout.root / "models").rglob(f"*{RECORD_SUFFIX}")):
        record = _read(path)
        if weights.intersection(record.get("outputs", {}).values()):
            yield path, record


_TOPS = ("data", "rec_model_weights", "rec_results", "chr", "ncdcg", "accuracy", "bias", "results")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError:
        return {}
