"""Typed access to the entries of a study's YAML file."""

import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src.artifacts.errors import UserError, did_you_mean
from src.cli import EXIT_BAD_INPUT

CHOICES = "where"
"""Entry with further entries by the value of another: ``where: {budget: {small: {epochs: 3}}}``."""
COMMON = frozenset({"rules", "gpu", "minutes"})
"""Entries of every study, which the Snakefile reads."""
_MISSING = object()
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print one line for an error in a study and exit with the code of bad input."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def one_of(values: Collection[str]) -> str:
    """Return the constraint of a wildcard to one of ``values``, or to nothing if there is none."""
    return f"(?:{'|'.join(map(re.escape, values))})" if values else "(?!)"


def seed_parts(seeds: Iterable[int]) -> dict[str, int]:
    """Return seeds by their parts of names: ``""`` for 0, ``_seed1`` for 1."""
    return {f"_seed{seed}" if seed else "": seed for seed in seeds}


def require_file(path: str, hint: str = "") -> str:
    """Return ``path`` if it exists; ``UserError`` otherwise."""
    if not Path(path).exists():
        raise UserError(f"there is nothing at {path}{hint and f': {hint}'}")
    return path


def files_in(options: str) -> list[str]:
    """Return the existing files among the words of ``options``; folders are left out as they change."""
    return [word for word in shlex.split(options) if Path(word).is_file()]


@dataclass(frozen=True)
class Entries:
    """Mapping whose values are read one by one; ``UserError`` names an invalid entry.

    ``{key}`` in a text stands for another entry of the file, which may serve only this purpose. Lists may
    be written as one text, as on a command line: ``0 1 2``.
    """

    values: Mapping[str, Any]
    place: str = ""
    """Place in the file, for messages: ``extractors: madry: ``."""
    file: "Entries | None" = None
    """Entries of the whole file, which placeholders name; None if these are the whole file."""
    read: set[str] = field(default_factory=set)
    """Keys that were read or filled in, or that a choice added."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Entries":
        """Return the entries of a whole file, with those of its choices unless they are given."""
        values = {key: value for key, value in config.items() if key != CHOICES}
        given = set(values)
        where = cls(config).mapping(CHOICES) if config.get(CHOICES) else {}
        for key, choices in where.items():
            brought_by = {str(name): entries for name, entries in choices.values.items()}
            choice = cls(values).choice(key, brought_by)
            if not isinstance(brought_by[choice], Mapping):
                raise UserError(f"{choices.place}{choice} must hold entries")
            values = {**brought_by[choice], **values}
        return cls(values, read={*COMMON, *where, *(set(values) - given)})

    def with_values(self, **values: Any) -> "Entries":
        """Return these entries with some in the place of their own, which need not be read."""
        return replace(self, values={**self.values, **values}, read={*self.read, *values})

    def text(self, key: str, default: Any = _MISSING) -> str:
        return self._filled(key, self._scalar(key, self._value(key, default)))

    def path(self, key: str) -> str:
        """Return a path, which the file quotes as in a shell."""
        words = shlex.split(self.text(key))
        if len(words) != 1:
            raise UserError(f"{self.place}{key}: {' '.join(words)!r} is not one path")
        return words[0]

    def choice(self, key: str, choices: Collection[str], default: Any = _MISSING) -> str:
        return self._among(key, self.text(key, default), choices)

    def choices(
        self, key: str, choices: Collection[str], default: Any = _MISSING
    ) -> tuple[str, ...]:
        """Return one or more of ``choices``."""
        return tuple(self._among(key, value, choices) for value in self.texts(key, default))

    def number(self, key: str, default: Any = _MISSING) -> int:
        return self._number(key, self._value(key, default))

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.place}{key}: it is true or false, not {value!r}")
        return value

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        """Return one or more texts; an empty list only if ``default`` is given."""
        if default is not _MISSING and self._value(key, default) in ([], ()):
            return ()
        return tuple(
            self._filled(key, self._scalar(key, value)) for value in self._list(key, default)
        )

    def numbers(self, key: str, default: Any = _MISSING) -> tuple[int, ...]:
        """Return different whole numbers from 0 on; an empty list only if ``default`` is given."""
        if default is not _MISSING and self._value(key, default) in ([], ()):
            return ()
        numbers = tuple(self._number(key, value) for value in self._list(key, default))
        if min(numbers) < 0 or len(set(numbers)) < len(numbers):
            raise UserError(f"{self.place}{key}: {numbers} must be from 0 on, each once")
        return numbers

    def mapping(self, key: str) -> dict[str, "Entries"]:
        """Return the entries of each name below ``key``; at least one."""
        value = self._value(key, _MISSING)
        if not (isinstance(value, Mapping) and value):
            raise UserError(f"{self.place}{key}: it holds names, each with its own entries")
        below = {}
        for name, values in value.items():
            place = f"{self.place}{key}: {name}: "
            if not isinstance(values, Mapping):
                raise UserError(f"{place}it has entries of its own, such as options")
            filled = self._plain(key, self._filled(key, str(name)))
            below[filled] = Entries(values, place, self.file or self)
        return below

    def named_texts(self, key: str) -> dict[str, str]:
        """Return the text of each name below ``key``; at least one."""
        value = self._value(key, _MISSING)
        if not (isinstance(value, Mapping) and value):
            raise UserError(f"{self.place}{key}: it holds names, each with a text")
        below = Entries(value, f"{self.place}{key}: ", self.file or self)
        return {self._plain(key, str(name)): below.text(name) for name in value}

    def require_all_read(self) -> None:
        """Raise ``UserError`` for an entry that was never read."""
        if unknown := sorted(set(self.values) - self.read):
            near = did_you_mean(unknown[0], self.read)
            raise UserError(f"{self.place}{unknown[0]}: there is no such entry of a study{near}")

    def _plain(self, key: str, name: str) -> str:
        """Return a name as it stands in commands; ``UserError`` unless a shell takes it as it is."""
        if shlex.quote(name) != name:
            raise UserError(f"{self.place}{key}: {name!r} holds what has a meaning in a shell")
        return name

    def _among(self, key: str, value: str, choices: Collection[str]) -> str:
        if value not in choices:
            raise UserError(f"{self.place}{key}: no {value!r}: choose from {', '.join(choices)}")
        return value

    def _value(self, key: str, default: Any) -> Any:
        self.read.add(key)
        value = self.values.get(key, default)
        if value is _MISSING or value is None:
            raise UserError(f"{self.place}{key} is missing")
        return value

    def _list(self, key: str, default: Any) -> Sequence[Any]:
        value = self._value(key, default)
        if isinstance(value, str):
            value = value.split()
        elif not isinstance(value, Sequence):
            value = [value]
        if not value:
            raise UserError(f"{self.place}{key}: there is none")
        return value

    def _scalar(self, key: str, value: Any) -> str:
        if isinstance(value, str | int | float):
            return str(value)
        raise UserError(f"{self.place}{key}: {value!r} is no text")

    def _number(self, key: str, value: Any) -> int:
        try:
            return int(str(value))
        except ValueError:
            raise UserError(f"{self.place}{key}: {value!r} is no whole number") from None

    def _filled(self, key: str, text: str, within: tuple[str, ...] = ()) -> str:
        """Return ``text`` with its placeholders replaced, recursively."""
        file = self.file or self

        def replacement(match: re.Match[str]) -> str:
            name = match[1]
            file.read.add(name)
            if file.values.get(name) is None:
                raise UserError(f"{self.place}{key} refers to {match[0]}, but {name} is missing")
            if name in within:
                raise UserError(f"{self.place}{key}: {match[0]} stands for itself")
            return self._filled(key, self._scalar(name, file.values[name]), (*within, name))

        filled = _PLACEHOLDER.sub(replacement, text)
        try:
            shlex.split(filled)
        except ValueError as error:
            raise UserError(f"{self.place}{key}: {filled!r}: {error}") from None
        return filled
