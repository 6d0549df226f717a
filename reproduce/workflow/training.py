"""Extractors that a study trains."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from reproduce.workflow.entries import files_in
from reproduce.workflow.options import OptionsParser


@dataclass(frozen=True)
class Training:
    """A call of ``train_extractor.py``."""

    options: str
    inputs: tuple[str, ...]
    """The files that must be there first."""

    @classmethod
    def of(cls, options: str, prepared: Iterable[str], trained: Iterable[str] = ()) -> "Training":
        """After ``prepared`` and what else ``options`` name: files, some of which others ``trained``."""
        out = trained_file(options, "train")
        named = [*files_in(options), *(set(trained) & set(shlex.split(options)))]
        return cls(options, tuple(sorted({*prepared, *named} - {out})))


def trained_file(options: str, entry: str) -> str:
    """The file that a call leaves; ``UserError`` names ``entry`` where its options do not say."""
    parser = OptionsParser(entry)
    parser.add_argument("--out", required=True)
    return parser.parse_known_args(shlex.split(options))[0].out
