"""The entries of a study's YAML file, read by type."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from src.artifacts.errors import UserError

_MISSING = object()
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Entries:
    """A mapping whose values are read one by one; ``UserError`` names the entry that is wrong.

    ``{key}`` in a text stands for another entry of the file, which may be there for this purpose alone.
    Lists may be written as one text, as on a command line: ``0 1 2``.
    """

    values: Mapping[str, Any]
    place: str = ""
    """Where it stands in the file: ``extractors: madry: ``."""
    file: "Entries | None" = None
    """The whole file, whose entries placeholders stand for; None: these are all of it."""
    read: set[str] = field(default_factory=set)
    """The keys that were asked for or filled in."""

    def text(self, key: str, default: Any = _MISSING) -> str:
        return self._filled(key, self._scalar(key, self._value(key, default)))

    def number(self, key: str, default: Any = _MISSING) -> int:
        return self._number(key, self._value(key, default))

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.place}{key}: it is true or false, not {value!r}")
        return value

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        """One or more texts."""
        return tuple(
            self._filled(key, self._scalar(key, value)) for value in self._list(key, default)
        )

    def numbers(self, key: str, default: Any = _MISSING) -> tuple[int, ...]:
        """One or more whole numbers from 0 on, each once."""
        numbers = tuple(self._number(key, value) for value in self._list(key, default))
        if min(numbers) < 0 or len(set(numbers)) < len(numbers):
            raise UserError(f"{self.place}{key}: {numbers}: from 0 on, and each once")
        return numbers

    def mapping(self, key: str) -> dict[str, "Entries"]:
        """The entries of each name below ``key``; at least one."""
        value = self._value(key, _MISSING)
        if not (isinstance(value, Mapping) and value):
            raise UserError(f"{self.place}{key}: it holds names with entries of their own")
        below = {}
        for name, values in value.items():
            place = f"{self.place}{key}: {name}: "
            if not isinstance(values, Mapping):
                raise UserError(f"{place}it has entries of its own, such as options")
            below[str(name)] = Entries(values, place, self.file or self)
        return below

    def require_all_read(self) -> None:
        """Raise ``UserError`` for an entry that nobody asked for."""
        if unknown := sorted(set(self.values) - self.read):
            raise UserError(f"{self.place}{unknown[0]}: there is no such entry of a study")

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

    def _filled(self, key: str, text: str) -> str:
        file = self.file or self

        def filling(match: re.Match[str]) -> str:
            name = match[1]
            file.read.add(name)
            if file.values.get(name) is None:
                raise UserError(f"{self.place}{key} speaks of {match[0]}, but {name} is missing")
            return self._scalar(name, file.values[name])

        filled = _PLACEHOLDER.sub(filling, text)
        try:
            shlex.split(filled)
        except ValueError as error:
            raise UserError(f"{self.place}{key}: {filled!r}: {error}") from None
        return filled
