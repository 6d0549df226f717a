"""Contract of attacks on images. Read this file first; ``registry.py`` has the table of all attacks.

    attack(victim, images, goal) -> images

- The ``victim`` turns images into predictions (logits and features) through which gradients flow. Parts
  in front of a network or behind it belong to the victim.
- The ``goal`` turns predictions into the value that the attack minimises, one for each image.
- The attack is a frozen dataclass of its own parameters. Its fields are the options of the command line;
  its norms, its budget and the template of its name are further attributes.

Nothing here needs torch: bad options fail before it is loaded.
"""

import math
from dataclasses import Field, dataclass, field, fields
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from src.artifacts.errors import UserError
from src.cli import pixel_levels

if TYPE_CHECKING:
    from torch import Tensor

    from src.extractors.extractor import Prediction

LEVELS = 255
"""Grey levels in one unit of the attacked space."""

Box = tuple[float, float]
"""Smallest and largest value that a coordinate may take."""

Norm = Literal["inf", "1", "2"]

Space = Literal["pixel", "normalised"]
"""Space in which a budget is measured: pixels of [0, 1], or after mean and standard deviation."""


class Victim(Protocol):
    """Source of predictions of images, which an attack queries."""

    box: Box | None
    """Limits of every coordinate; None without limits."""

    def __call__(self, images: "Tensor") -> "Prediction":
        """Return logits (N, C) and features (N, D) of ``images`` (N, 3, H, W), with gradients.

        The logits are None where the extractor has no head.
        """
        ...


class Goal(Protocol):
    """Aim of an attack, read from the predictions of n images: classes, features, scores, ranks.

    Every attack calls the goal or ``missed_by``. Attacks of CleverHans and AutoAttack know classes
    alone: they take a ``goals.ClassGoal``.
    """

    def __call__(self, prediction: "Prediction") -> "Tensor":
        """Return the value (n,) that falls as an image comes nearer to the goal."""
        ...

    def achieved(self, prediction: "Prediction") -> "Tensor":
        """Return the score (n,) of each image, larger for a better one; attacks keep the best image."""
        ...

    def missed_by(self, prediction: "Prediction") -> "Tensor":
        """Return the distance (n,) by which each image misses the goal; negative if it is reached."""
        ...

    def reached(self, prediction: "Prediction", confidence: float = 0.0) -> "Tensor":
        """Return whether each image reaches the goal by a margin of ``confidence``, (n,) bool."""
        ...

    def __getitem__(self, rows: "Tensor") -> "Goal":
        """Return the goals of some images; ``rows`` is an index or a mask."""
        ...


@dataclass(frozen=True)
class Budget:
    """Largest change of an image that an attack may store in a file."""

    eps: float
    """Radius in grey levels of 255."""
    norm: Norm = "inf"

    @property
    def order(self) -> float:
        """Order of the norm as a number."""
        return math.inf if self.norm == "inf" else int(self.norm)


def option(
    default: Any,
    help: str,
    *,
    flag: str = "",
    aliases: tuple[str, ...] = (),
    parse: Any = None,
    choices: tuple[str, ...] | None = None,
    least: float | None = 1,
    label: str = "",
    suffix: str | None = None,
    named: bool = True,
) -> Any:
    """Return a field of an attack that is also an option of the command line.

    ``flag`` is the option without dashes (the field's name), ``aliases`` are published names of it, and
    ``parse`` reads its text (the type of the default). Numbers are checked: integers are at least
    ``least``, others above 0, or at least 0 if ``least`` is 0; None leaves the check to the attack.
    Names of experiments show a value that is not the default as ``_<suffix><value>`` (suffix: the
    field's name) unless their template has it, or the attack names it itself (not ``named``);
    ``label`` is what reports call it.
    """
    described = {
        "help": help,
        "flag": flag,
        "aliases": aliases,
        "parse": parse or type(default),
        "choices": choices,
        "least": least,
        "label": label,
        "suffix": suffix,
        "named": named,
    }
    return field(default=default, metadata=described)


@dataclass(frozen=True)
class Attack:
    """Function that moves images towards a goal. Subclasses add their parameters as ``option`` fields.

    ``victim`` must not need weight gradients (see ``freezing.frozen``). Images (N, 3, H, W) are float32
    inside the victim's box; the result has their shape and is detached. Random choices come from torch's
    global generator, which the caller seeds.
    """

    template: ClassVar[str]
    """Parameters that experiments' names always show, in the published order."""
    norms: ClassVar[tuple[Norm, ...]] = ("inf",)
    """Norms that its budget may have, or that it makes small."""
    spaces: ClassVar[tuple[Space, ...]] = ("pixel", "normalised")
    targeted: ClassVar[bool] = True
    """True if it can aim at a class; otherwise it can only leave one."""
    smallest_change: ClassVar[bool] = False
    """True if it looks for the smallest change, and so ends on the boundary of a class."""
    takes_any_goal: ClassVar[bool] = True
    """True if it moves images towards any goal; otherwise it knows classes alone."""
    asks_places: ClassVar[bool] = False
    """Whether it learns values of the goal alone, and of lists only the places of its items."""
    sees_network: ClassVar[bool] = True
    """Whether it asks the victim for anything."""
    steps_fall: ClassVar[bool] = False
    """Whether its steps become so short that the last one is the best of most images."""
    precise: ClassVar[bool] = False
    """True if it runs in fp32 only."""

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        raise NotImplementedError

    @property
    def budget(self) -> Budget | None:
        """Budget that stored images are held to; None for an attack without one."""
        return None

    @property
    def has_random_start(self) -> bool:
        """True if a repetition may end at another point."""
        return False

    @property
    def draws(self) -> bool:
        """True if another seed gives other images."""
        return self.has_random_start

    @property
    def passes(self) -> int:
        """Largest number of passes of one image through the network."""
        return 1

    def check(self, kind: str, space: Space = "pixel") -> None:
        """Raise ``UserError`` for parameters that cannot be run; ``kind`` is the attack's name."""
        if space not in self.spaces:
            raise UserError(f"{kind} moves grey levels: it has no {space} budget space")
        for of in options_of(type(self)):
            _check_number(of.metadata, of.name, getattr(self, of.name))
        norm = getattr(self, "norm", self.norms[0])
        if norm not in self.norms:
            raise UserError(f"--attack_type {kind} has --l {' or '.join(self.norms)}, not {norm}")
        if self.budget and self.budget.eps < 1 and space == "pixel":
            raise UserError(
                f"--eps {self.budget.eps} is under one grey level of 255: no 8-bit image can hold it, "
                "and 8/255 is --eps 8"
            )
        if self.budget and norm == "inf" and self.budget.eps > LEVELS:
            raise UserError(
                f"--eps {self.budget.eps} is beyond all {LEVELS} grey levels of a pixel"
            )

    @property
    def shown(self) -> dict[str, str]:
        """Parameters that names and reports always show, as text."""
        formats = {name: spec for _, name, spec, _ in Formatter().parse(self.template) if name}
        return {
            of.metadata["label"] or of.name: format(getattr(self, of.name), formats[of.name])
            for of in options_of(type(self))
            if of.name in formats
        }

    @property
    def name(self) -> str:
        """Parameters as experiments' names show them: the template, then values other than defaults."""
        values = {of.name: getattr(self, of.name) for of in options_of(type(self))}
        return self.template.format(**values) + "".join(f"_{part}" for part in self.unusual())

    def unusual(self) -> list[str]:
        """Parameters that the template does not show and that are not at their defaults."""
        shown = {name for _, name, _, _ in Formatter().parse(self.template)}
        parts = []
        for of in options_of(type(self)):
            value = getattr(self, of.name)
            if of.metadata["named"] and of.name not in shown and value != of.default:
                suffix = of.metadata["suffix"]
                suffix = of.name if suffix is None else suffix
                parts.append(suffix if isinstance(value, bool) else f"{suffix}{value}")
        return parts


def options_of(attack: type[Attack]) -> list[Field]:
    """Return the fields of an attack that are options of the command line, in their order."""
    return [of for of in fields(attack) if "help" in of.metadata]


def _check_number(metadata: Any, name: str, value: object) -> None:
    """Raise ``UserError`` unless a number is in the range of its option."""
    flag, least = metadata["flag"] or name, metadata["least"]
    if least is None or isinstance(value, bool) or not isinstance(value, int | float):
        return
    if metadata["parse"] is int:
        if value < least:
            raise UserError(f"--{flag} must be at least {least}")
    elif least == 0:
        if not 0 <= value < math.inf:
            raise UserError(f"--{flag} must not be negative")
    elif not 0 < value < math.inf:
        raise UserError(f"--{flag} must be a number above 0")


@dataclass(frozen=True)
class BudgetedAttack(Attack):
    """Attack within a budget ``eps``; a subclass with a choice of norms adds a field ``norm``."""

    eps: float = option(
        8.0,
        "budget in grey levels of 255 (8, or 8/255); with --l 2 and 1 the norm in grey levels",
        parse=pixel_levels,
    )

    @property
    def budget(self) -> Budget | None:
        return Budget(self.eps, getattr(self, "norm", self.norms[0]))

    @property
    def radius(self) -> float:
        """Budget ``eps`` in units of the attacked space."""
        return self.eps / LEVELS


def norm_option(*choices: Norm) -> Any:
    """Return the field ``norm`` of an attack; the first of the ``choices`` is the default."""
    text = f"norm of the budget ({', '.join(choices)})"
    return option(choices[0], text, flag="l", choices=choices, label="l", suffix="l")
