"""Values of learning rates, penalties and numbers of factors among which a search chooses."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from src.artifacts.errors import UserError
from src.recommenders.hyperparameters import AdamHyperparameters, Hyperparameters

AXES = {"factors": "factors", "lr": "learning_rates", "regs": "penalties"}
"""Hyperparameter of each axis, by the names of ``--search``."""
KEY = "search"
"""Beginning of a grid in names of runs."""
FACTORS, PENALTIES = (32.0, 64.0), (0.0, 0.01, 0.1)
RATES_OF_ADAGRAD, RATES_OF_ADAM = (0.02, 0.05, 0.1), (0.0005, 0.001, 0.005)


@dataclass(frozen=True)
class Grid:
    """Values of each axis that is searched, ascending and in the order of ``AXES``."""

    values: Mapping[str, tuple[float, ...]]
    """A learning rate or a penalty serves all tables."""
    named: bool
    """False if the values are the default ones."""

    @classmethod
    def read(cls, texts: Sequence[str]) -> "Grid":
        """Read ``lr=0.01 0.05``, one text an axis; ``UserError`` for anything else."""
        values: dict[str, tuple[float, ...]] = {}
        for text in texts:
            axis, equals, listed = text.partition("=")
            if not equals or axis not in AXES:
                raise UserError(
                    f"--search {text}: expected one of {', '.join(AXES)} and its values, as in "
                    '--search "lr=0.01 0.05" "regs=0 0.01"'
                )
            if axis in values:
                raise UserError(f"--search names {axis} twice")
            try:
                numbers = sorted({float(number) for number in listed.split()})
            except ValueError as error:
                raise UserError(f"--search {text}: {error}") from error
            whole = all(number >= 1 and number.is_integer() for number in numbers)
            if not numbers or (axis == "factors" and not whole):
                raise UserError(f"--search {text}: {axis} needs numbers that it can take")
            values[axis] = tuple(numbers)
        return cls({axis: values[axis] for axis in AXES if axis in values}, named=True)

    @classmethod
    def usual(cls, hyperparameters: Hyperparameters, fixed: Sequence[str]) -> "Grid":
        """Return the default grid of a recommender, without the axes whose options are given."""
        by_adam = isinstance(hyperparameters, AdamHyperparameters)
        rates = RATES_OF_ADAM if by_adam else RATES_OF_ADAGRAD
        values = {"factors": FACTORS, "lr": rates, "regs": PENALTIES}
        return cls({axis: of for axis, of in values.items() if axis not in fixed}, named=False)

    @property
    def text(self) -> str:
        """Grid as names of runs show it after ``KEY``: ``-lr0.01-0.05-regs0``; empty by default."""
        if not self.named:
            return ""
        return "".join(
            f"-{axis}{'-'.join(map(number_text, of))}" for axis, of in self.values.items()
        )

    def trials(self, hyperparameters: Hyperparameters) -> Iterator[Hyperparameters]:
        """Yield the hyperparameters of every point of the grid; ``UserError`` for bad numbers."""
        for point in itertools.product(*self.values.values()):
            by_axis = dict(zip(self.values, point, strict=True))
            yield replace(
                hyperparameters,
                **{
                    AXES[axis]: int(value) if axis == "factors" else (value,) * 3
                    for axis, value in by_axis.items()
                },
            )


def number_text(number: float) -> str:
    """Return the shortest text of a number, as names of runs may hold it: ``0.05``, ``1e-05``."""
    return f"{number:.12g}".replace("+", "")


def search_words(text: str) -> str:
    """Return the words of the command line for the ``text`` of a grid."""
    axes = re.findall(rf"-({'|'.join(AXES)})(.*?)(?=-(?:{'|'.join(AXES)})|$)", text)
    texts = (f'"{axis}={" ".join(re.split("(?<!e)-", values))}"' for axis, values in axes)
    return " ".join(("--search", *texts))
