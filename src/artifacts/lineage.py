"""Lineage of files: the recorded commands behind them, down to files that no command made."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from src.artifacts.manifest import RECORD_SUFFIX, fingerprint, input_name, read_record

_FOLDERS = ("data", "rec_results", "rec_model_weights", "models", "results")
_HASHES = ("weights", "item_classes")
"""Options of manifests that hold the hash of a file which the command read."""


@dataclass(frozen=True)
class Command:
    """Recorded command and its files that later commands, or the question, have to do with."""

    text: str
    left: tuple[Path, ...]


@dataclass(frozen=True)
class Lineage:
    """Commands and files behind an artifact."""

    commands: tuple[Command, ...]
    """Each command once, in the order in which they have to be run."""
    given: Mapping[str, str]
    """Files without a manifest, which no command made, and their SHA-256 as it was recorded."""
    links: Mapping[str, str]
    """Links among the files, which no command made, and what they lead to."""
    changed: tuple[str, ...]
    """Sentences about files that are missing or no longer as manifests have them."""


def lineage(root: Path, artifact: Path, read: Mapping[Path, str]) -> Lineage:
    """Trace the part of ``artifact`` that was made of the files ``read``, given with their hashes.

    ``root`` is the folder that holds ``data/``. ``artifact`` must have a manifest.
    """
    tracing = _Tracing(root)
    record = read_record(artifact)
    tracing.left[record["command"]] = {artifact: None}
    recorded = record["outputs"].get(artifact.name)
    if not artifact.exists() or fingerprint(artifact) != recorded:
        tracing.changed[f"{artifact} is not what its own manifest says"] = None
    tracing.follow(record["command"], read)
    commands = tuple(Command(text, tuple(sorted(tracing.left[text]))) for text in tracing.ordered())
    return Lineage(commands, tracing.given, tracing.links, tuple(tracing.changed))


@dataclass
class _Tracing:
    root: Path
    left: dict[str, dict[Path, None]] = field(default_factory=dict)
    """Files by the command that left them."""
    needs: dict[str, dict[str, None]] = field(default_factory=dict)
    """Commands whose files a command read."""
    given: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    followed: set[Path] = field(default_factory=set)
    """Files beside which the manifests have been read that lead further."""
    records: dict[Path, list[tuple[Path, dict[str, Any]]]] = field(default_factory=dict)

    def follow(self, command: str, read: Mapping[Path, str]) -> None:
        """Trace every file that a command read."""
        needs = self.needs.setdefault(command, {})
        for path, digest in read.items():
            if (maker := self.maker_of(path, digest, command)) and maker != command:
                needs[maker] = None

    def maker_of(self, path: Path, digest: str, reader: str) -> str | None:
        """Return the command that made a file which ``reader`` read, and trace that one too."""
        linked = (of for of in (path, path.parent) if of.is_symlink())
        self.links |= {str(of): str(of.readlink()) for of in linked}
        current = fingerprint(path) if path.exists() else None
        if current is None:
            self.changed[f"{path} is missing, which this read: {reader}"] = None
        elif current != digest:
            self.changed[f"{path} has changed since this read it: {reader}"] = None
        found = self.manifest_of(path)
        if found is None:
            self.given[str(path)] = digest
            return None
        output, record, recorded = found
        if current == digest and recorded not in (None, digest):
            self.changed[f"{path} is not what its own manifest says"] = None
        command = record["command"]
        self.left.setdefault(command, {})[path] = None
        if output not in self.followed:
            self.followed.add(output)
            self.follow(command, dict(self.inputs_of(output, record)))
        return command

    def manifest_of(self, path: Path) -> tuple[Path, dict[str, Any], str | None] | None:
        """Find the manifest that names ``path``, or the folder it lies in, among its outputs.

        Returns the output beside which it stands, the manifest, and the hash that it has of ``path``
        unless that is in such a folder. The manifest is in the folder of ``path`` or in the one above.
        """
        if "command" in (record := read_record(path)):
            return path, record, _recorded(record, path)
        for artifact in (path.parent, path):
            for folder in (artifact.parent, artifact.parent.parent):
                for output, record in self.records_in(folder):
                    if recorded := _recorded(record, artifact):
                        return output, record, recorded if artifact == path else None
        return None

    def records_in(self, folder: Path) -> list[tuple[Path, dict[str, Any]]]:
        if folder not in self.records:
            beside = [
                file.with_name(file.name.removesuffix(RECORD_SUFFIX))
                for file in sorted(folder.glob(f"*{RECORD_SUFFIX}"))
            ]
            found = [(output, read_record(output)) for output in beside]
            self.records[folder] = [of for of in found if {"command", "outputs"} <= set(of[1])]
        return self.records[folder]

    def inputs_of(self, output: Path, record: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        """Yield the files that a command read to make ``output``, with the hashes that they had."""
        for name, digest in record["inputs"].items():
            yield self.place_of(name, digest, output, record["command"]), digest
        for option in _HASHES:
            if digest := record["options"].get(option):
                if path := self.hashed(digest, record["command"]):
                    yield path, digest
                else:
                    self.given[f"{option} of: {record['command']}"] = digest

    def place_of(self, name: str, digest: str, output: Path, command: str) -> Path:
        """Find the file that a manifest calls ``name``: the last two parts of its path."""
        known = self.root / "data" / name
        below = output.relative_to(self.root).parts if output.is_relative_to(self.root) else ()
        places = []
        for word in shlex.split(command):
            path = self.root / word
            named = input_name(path) == name
            places += [path] if named else [path / name, path / Path(name).name]
        for folder in _FOLDERS:
            places += [self.root / folder / name]
            places += [self.root / folder / below[1] / name] if len(below) > 2 else []
        found = [path for path in dict.fromkeys(places) if path.exists()]
        unchanged = (path for path in found if len(found) == 1 or fingerprint(path) == digest)
        return next(unchanged, found[0] if found else known)

    def hashed(self, digest: str, command: str) -> Path | None:
        """Find a file by its hash: among trained checkpoints, or those that a command names."""
        if digest in self.trained:
            return self.trained[digest]
        folders = {folder.name: folder for folder in (self.root / "models").glob("*/")}
        for word in shlex.split(command):
            inside = folders[word].iterdir() if word in folders else ()
            for path in (
                self.root / word,
                *(folder / word for folder in folders.values()),
                *inside,
            ):
                if path.is_file() and fingerprint(path) == digest:
                    return path
        return None

    @cached_property
    def trained(self) -> dict[str, Path]:
        """Checkpoints with a manifest, by hash."""
        models = self.root / "models"
        return {
            digest: output.with_name(name)
            for folder in (models, *models.glob("*/"))
            for output, record in self.records_in(folder)
            for name, digest in record["outputs"].items()
        }

    def ordered(self) -> list[str]:
        """Return every command after those that it needs."""
        order: dict[str, None] = {}
        entered: set[str] = set()

        def enter(command: str) -> None:
            if command not in entered:
                entered.add(command)
                for needed in self.needs.get(command, {}):
                    enter(needed)
                order[command] = None

        for command in self.left:
            enter(command)
        return list(order)


def _recorded(record: Mapping[str, Any], path: Path) -> str | None:
    """Return the hash of an output of a manifest; None if it names no such output."""
    outputs = record["outputs"]
    return outputs.get(input_name(path), outputs.get(path.name))
