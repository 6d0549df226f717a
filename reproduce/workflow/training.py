"""Extractors that a study trains."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from reproduce.workflow.options import OptionsParser


@dataclass(frozen=True)
class Training:
    """A call of ``train_extractor.py``."""

    options: str
    inputs: tuple[str, ...]
    """The files that must be there first."""

    @classmethod
    def of(cls, options: str, prepared: Iterable[str], trained: Iterable[str] = ()) -> "Training":
        """``prepared`` is needed, and of what other calls have ``trained`` the files in ``options``."""
        out = trained_file(options, "train")
        words = set(shlex.split(options)) - {out}
        return cls(options, (*prepared, *(file for file in trained if file in words)))


def trained_file(options: str, entry: str) -> str:
    """The file that a call leaves; ``UserError`` names ``entry`` where its options do not say."""
    parser = OptionsParser(entry)
    parser.add_argument("--out", required=True)
    return parser.parse_known_args(shlex.split(options))[0].out
