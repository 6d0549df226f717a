"""Extractors that a study trains."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from reproduce.workflow.entries import files_in
from reproduce.workflow.options import OptionsParser


@dataclass(frozen=True)
class Training:
    """Call of ``train_extractor.py``."""

    options: str
    inputs: tuple[str, ...]
    """Files that must exist before the call."""

    @classmethod
    def of(cls, options: str, prepared: Iterable[str], trained: Iterable[str] = ()) -> "Training":
        """Make a call whose inputs are ``prepared`` and the existing or ``trained`` files in options."""
        out = trained_file(options, "train")
        named = [*files_in(options), *(set(trained) & set(shlex.split(options)))]
        return cls(options, tuple(sorted({*prepared, *named} - {out})))


def trained_file(options: str, entry: str) -> str:
    """Return the file that a call writes; ``UserError`` names ``entry`` if ``--out`` is missing."""
    parser = OptionsParser(entry)
    parser.add_argument("--out", required=True)
    return parser.parse_known_args(shlex.split(options))[0].out
