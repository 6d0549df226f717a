"""Attacks on rankings as text and as the published profiles.

Texts have RobRank's keys: ``CA:pm=+:W=1:eps=8/255:alpha=3/255:pgditer=32``.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from src.artifacts.errors import UserError
from src.cli import pixel_levels

SIGNED = ("CA", "QA", "SPQA")
"""Kinds that raise (+) or lower (-) something."""
UNSIGNED = ("TMA", "ES", "LTM", "GTM", "GTT", "FOA")
SIZED = (*SIGNED, "FOA")
"""Kinds of attacks whose number of queries (W) or candidates (M) is free."""
STARTS = ("clean", "random")
_LEVELS = 255


@dataclass(frozen=True)
class AttackSpec:
    """Attack on rankings and its budget; ``str`` gives the text that parses to it.

    Raises ``UserError`` for an attack that cannot be run.
    """

    kind: str
    pm: str = ""
    """Direction of candidates: ``+`` raises and ``-`` lowers them; empty for kinds without one."""
    size: int = 1
    """Number W of queries (CA) or M of candidates (QA, SPQA, FOA)."""
    eps: float = 8 / _LEVELS
    """Radius of the L-inf ball; 1 is white."""
    step: float = 3 / _LEVELS
    steps: int = 32
    start: str = "clean"
    """Start: ``random`` is a random point of the ball."""
    restarts: int = 1
    """Number of starts; all but the first are random points. Each image keeps its best result."""
    balance: float = 4e4
    """Growth of the weight of SPQA's kept items with their loss. RobRank has 2e4 for MNIST, 4e4 for
    Fashion-MNIST and CUB, 7e4 for CARS and SOP."""

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise UserError(f"attack {self.kind}{self.pm}: {problem}")

    def _problem(self) -> str | None:
        if self.kind not in SIGNED + UNSIGNED:
            return f"no such kind (choose from {', '.join(SIGNED + UNSIGNED)})"
        if self.kind in SIGNED and self.pm not in ("+", "-"):
            return "say pm=+ or pm=-"
        if self.kind in UNSIGNED and self.pm:
            return "it has no pm"
        if min(self.size, self.steps, self.restarts) < 1:
            return "W, M, pgditer and restarts must be at least 1"
        if self.kind == "FOA" and self.size < 2:
            return "it orders at least two candidates, as in M=2"
        if self.kind not in SIZED and self.size > 1:
            return "it has no W or M"
        if not 0 <= self.eps <= 1 or not 0 < self.step <= 1:
            return "eps and alpha are fractions of the range of pixels, like 8/255 or 0.03"
        if self.start not in STARTS:
            return f"start must be one of {', '.join(STARTS)}"
        if not 0 <= self.balance < math.inf:
            return "balance must be a number that is not negative"
        return None

    @property
    def title(self) -> str:
        """Name in papers: ``CA+``, ``TMA``."""
        return self.kind + self.pm

    @property
    def budget(self) -> str:
        """Part of the text that says how strong the attack is."""
        said = [f"eps={_fraction(self.eps)}", f"alpha={_fraction(self.step)}"]
        said.append(f"pgditer={self.steps}")
        if self.start != "clean":
            said.append(f"start={self.start}")
        if self.restarts > 1:
            said.append(f"restarts={self.restarts}")
        return ":".join(said)

    def __str__(self) -> str:
        said = [self.kind]
        if self.pm:
            said.append(f"pm={self.pm}")
        if self.kind in SIZED:
            said.append(f"{'W' if self.kind == 'CA' else 'M'}={self.size}")
        if self.kind == "SPQA":
            said.append(f"balance={self.balance:g}")
        return ":".join([*said, self.budget])


def _fraction(value: float) -> str:
    levels = value * _LEVELS
    return f"{round(levels)}/{_LEVELS}" if abs(levels - round(levels)) < 1e-6 else f"{value:.6g}"


def parse_fraction(text: str) -> float:
    """Parse ``8/255`` or ``0.03``; ``ValueError`` for anything else."""
    return pixel_levels(text) / _LEVELS if "/" in text else float(text)


_KEYS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "pm": ("pm", str),
    "W": ("size", int),
    "M": ("size", int),
    "eps": ("eps", parse_fraction),
    "alpha": ("step", parse_fraction),
    "pgditer": ("steps", int),
    "start": ("start", str),
    "restarts": ("restarts", int),
    "balance": ("balance", float),
}
"""By the key of the text: the field, and how to read it."""


def parse_attack(text: str) -> AttackSpec:
    """Read ``KIND:key=value:...``; missing keys have the defaults of ``AttackSpec``.

    A single step (``pgditer=1``, FGSM) is as long as eps unless ``alpha`` says otherwise. Raises
    ``UserError`` for anything that is no attack.
    """
    kind, *pairs = text.split(":")
    fields: dict[str, Any] = {}
    for pair in pairs:
        if not re.fullmatch(r"\w+=[^=]+", pair) or pair.split("=")[0] not in _KEYS:
            raise UserError(f"attack {text}: expected key=value with {', '.join(_KEYS)}")
        key, value = pair.split("=")
        name, read = _KEYS[key]
        if name in fields:
            raise UserError(f"attack {text}: {key} appears twice")
        if key == ("M" if kind == "CA" else "W"):
            raise UserError(f"attack {text}: CA has W, other kinds have M")
        try:
            fields[name] = read(value)
        except ValueError as error:
            raise UserError(f"attack {text}: {value!r} is no value of {key}") from error
    if fields.get("steps") == 1 and fields.get("eps"):
        fields.setdefault("step", fields["eps"])
    return AttackSpec(kind, **fields)


def _signed(kind: str, sizes: tuple[int, ...] = (1,)) -> Iterator[AttackSpec]:
    return (AttackSpec(kind, sign, size) for size in sizes for sign in "+-")


def _at(
    attacks: tuple[AttackSpec, ...], *budgets: tuple[float, float], steps: int = 32
) -> tuple[AttackSpec, ...]:
    """Return every attack at every budget (eps, step), both in grey levels."""
    return tuple(
        replace(attack, eps=eps / _LEVELS, step=step / _LEVELS, steps=steps)
        for eps, step in budgets
        for attack in attacks
    )


def _eccv(*budgets: float) -> tuple[AttackSpec, ...]:
    """Steps of "Adversarial Ranking Attack and Defense" (Zhou et al., ECCV 2020), section 5."""
    steps_of = {}
    for eps in budgets:
        step = min(max(eps / 10, 1 / _LEVELS), 0.01)
        steps_of[eps] = (step, round(min(max(10, 2 * eps / step), 30)))
    return tuple(
        replace(attack, eps=eps, step=step, steps=steps)
        for eps, (step, steps) in steps_of.items()
        for attack in _SWEPT
    )


ROBUSTNESS_ATTACKS = (
    *_signed("CA"),
    *_signed("QA"),
    *(AttackSpec(kind) for kind in ("TMA", "ES", "LTM", "GTM", "GTT")),
)
"""The nine attacks whose ten results make the Empirical Robustness Score (ES gives two)."""
_SIZES = (1, 2, 5, 10)
_SWEPT = (*_signed("CA", _SIZES), *_signed("QA", _SIZES), *_signed("SPQA", _SIZES))
_PAMI = (*_SWEPT, *ROBUSTNESS_ATTACKS[4:])

PROFILES: Mapping[str, tuple[AttackSpec, ...]] = {
    "rob28": _at(ROBUSTNESS_ATTACKS, (77, 3)),
    "rob224": _at(ROBUSTNESS_ATTACKS, (8, 3)),
    "pami28": _at(_PAMI, (8, 1), (77, 3)),
    "pami224": _at(_PAMI, (2, 1), (8, 3)),
    "eccv28": _eccv(0.01, 0.03, 0.1, 0.3),
    "eccv224": _eccv(0.01, 0.03, 0.06),
    "qccurve28": _at(ROBUSTNESS_ATTACKS[:4], *((eps, 3) for eps in range(0, 78, 7))),
}
"""By the names of RobRank. The number is the side of the images that the budgets were chosen for."""


@dataclass(frozen=True)
class Definitions:
    """Definitions of the published code that differ from those of the papers."""

    gtm_index_in_subset: bool
    """GTM takes the position of the nearest unmatching image among the unmatching ones for one among
    all images, and so attacks towards some other image. Unmatching is judged by the class of the
    nearest image, not of the query."""
    ltm_keeps_self: bool
    """LTM counts the query itself, whose distance is the least, among the matching images."""
    es_before_last_step: bool
    """ES:D is measured on the images before the last step of the descent."""


COMPAT: Mapping[str, Definitions] = {
    "correct": Definitions(False, False, False),
    "paper": Definitions(True, True, True),
}
