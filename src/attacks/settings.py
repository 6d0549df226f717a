"""What a user can set about an attack, and the name that the attacked experiment gets from it.

The scripts that deal with attacks take the same options, so that each finds what the others
wrote. Nothing here needs torch: bad options fail before it is loaded.
"""

import argparse
from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, field, replace
from typing import Any, Literal

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.fidelity import Fidelity
from src.artifacts.item_classes import read_item_classes
from src.attacks.attack import Attack, options_of
from src.attacks.registry import ATTACKS, PGD, Noise
from src.cli import model_dir_of

_REFUSED = {
    "jsma": "its search over pairs of pixels needs a 150,528 x 150,528 matrix at 224 pixels",
    "zoo": "it attacks images scaled down by four and was left out of the published results",
}


@dataclass(frozen=True)
class AttackSettings:
    """An attack, the pair of classes, and how the stage runs the attack."""

    kind: str = "pgd"
    """Name of the attack in ``ATTACKS``."""
    attack: Attack = field(default_factory=PGD)
    origin: int = 774
    target: int | None = 770
    """None: untargeted, away from ``origin``."""
    restarts: int = 1
    seed: int = 0
    fast: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @property
    def passes(self) -> int:
        """How often the attack sends one image through the network, at most."""
        once = self.attack.passes
        # Restarts look at the outcome of each try.
        return self.restarts * (once + 1) if self.restarts > 1 else once

    def check(self, fidelity: Fidelity) -> None:
        """Raise ``UserError`` for what cannot be run."""
        attack = self.attack
        if self.origin < 0 or (self.target is not None and self.target < 0):
            raise UserError("--origin_class and --target_class are numbers from 0 on")
        if self.origin == self.target:
            raise UserError(f"origin and target are the same class ({self.origin})")
        attack.check(self.kind, fidelity.budget_space)
        if self.target is not None and not attack.targeted:
            raise UserError(
                f"--attack_type {self.kind} only leaves the origin class: add --untargeted"
            )
        if attack.precise and self.precision != "fp32":
            raise UserError(
                f"--attack_type {self.kind} reads maps and their gradients in fp32 only"
            )
        if self.restarts < 1:
            raise UserError("--restarts must be at least 1")
        if self.restarts > 1 and not attack.has_random_start:
            random = [kind for kind, attack in ATTACKS.items() if attack().has_random_start]
            raise UserError(f"--restarts is for attacks with a random start: {', '.join(random)}")
        if self.seed < 0:
            raise UserError("--seed must not be negative")

    def check_classes(self, n_classes: int, expected: int | None = None) -> None:
        """Raise ``UserError`` unless the model has the classes that the settings speak of.

        ``expected`` is the number of classes that the user stated, if any.
        """
        if expected not in (None, n_classes):
            raise UserError(f"--num_classes is {expected}, but the model has {n_classes} classes")
        for option, number in (("origin", self.origin), ("target", self.target)):
            if number is not None and number >= n_classes:
                raise UserError(
                    f"--{option}_class {number}: the model has classes 0 to {n_classes - 1}"
                )

    def described(self) -> dict[str, object]:
        """The settings in values that JSON knows; ``budget`` says what stored images are held to."""
        budget = self.attack.budget
        return {
            "attack": self.kind,
            "budget": budget and asdict(budget),
            "parameters": asdict(self.attack),
            "origin": self.origin,
            "target": self.target,
            "restarts": self.restarts,
            "seed": self.seed,
            "fast": self.fast,
            "precision": self.precision,
        }


def add_attack_options(
    parser: argparse.ArgumentParser, *, attack: str = "pgd", eps: float = 8.0
) -> None:
    """The options of an attack; ``attack`` and ``eps`` are the defaults of these two."""
    defaults = AttackSettings()
    group = parser.add_argument_group("attack")
    group.add_argument(
        "--attack_type", default=attack, help=f"one of {', '.join(ATTACKS)} (noise: a control)"
    )
    group.add_argument(
        "--origin_class",
        default=defaults.origin,
        help="class whose images are attacked: its number, or its name in --classes",
    )
    group.add_argument(
        "--target_class",
        default=defaults.target,
        help="class they are to be taken for: its number, or its name in --classes",
    )
    group.add_argument(
        "--untargeted", action="store_true", help="only leave the origin class; no target"
    )
    group.add_argument(
        "--num_classes", type=int, default=None, help="checked against the model where it is given"
    )
    add_parameters(group, ATTACKS, eps=eps)
    group.add_argument(
        "--restarts",
        type=int,
        default=defaults.restarts,
        help="random starts for the images that have not succeeded yet, of attacks that have one",
    )
    group.add_argument("--seed", type=int, default=defaults.seed, help="of every random choice")
    group.add_argument(
        "--fast",
        action="store_true",
        help="tuned network for the gradients (implied by --precision bf16 and fp16); "
        "without it FGSM and PGD are CleverHans' bit for bit",
    )


def add_parameters(
    parser: argparse._ActionsContainer, attacks: dict[str, type[Attack]], **defaults: object
) -> None:
    """An option for each parameter of the ``attacks``; attacks that share a name share the option."""
    for flag, users in _by_flag(attacks).items():
        of = next(iter(users.values()))
        said: dict[str, list[str]] = {}
        for name, its in users.items():
            said.setdefault(_help(its), []).append(name)
        text = "; ".join(
            what if flag == "eps" else f"{', '.join(names)}: {what}" for what, names in said.items()
        )
        kind: dict[str, Any] = {"help": text.replace("%", "%%"), "dest": flag}
        if isinstance(of.default, bool):
            kind |= {"action": "store_const", "const": not of.default}
        elif choices := _choices(users):
            kind["choices"] = choices
        else:
            kind["type"] = of.metadata["parse"]
        parser.add_argument(f"--{flag}", default=defaults.get(flag), **kind)


def _choices(users: dict[str, Field]) -> tuple[str, ...]:
    """All values that one of the attacks knows; each attack checks its own."""
    known = [choice for of in users.values() for choice in of.metadata["choices"] or ()]
    return tuple(dict.fromkeys(known))


def _by_flag(attacks: dict[str, type[Attack]]) -> dict[str, dict[str, Field]]:
    """The options by what the user writes: the field of each attack that has it."""
    found: dict[str, dict[str, Field]] = {}
    for name, attack in attacks.items():
        for of in options_of(attack):
            found.setdefault(of.metadata["flag"] or of.name, {})[name] = of
    return found


def _help(of: Field) -> str:
    text, default = of.metadata["help"], of.default
    if default in (None, "") or isinstance(default, bool) or of.name == "eps":
        return text
    shown = f"{default:g}" if isinstance(default, int | float) else default
    return f"{text} (default: {shown})"


def attack_of(kind: str, options: argparse.Namespace) -> Attack:
    """The attack ``kind`` with those of its parameters that were given; the others are ignored."""
    if reason := _REFUSED.get(kind):
        raise UserError(f"--attack_type {kind} is not offered: {reason}")
    if kind not in ATTACKS:
        raise UserError(f"no attack {kind!r}: choose from {', '.join(ATTACKS)}")
    return ATTACKS[kind](**dict(_given(kind, options)))


def _given(kind: str, options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    for of in options_of(ATTACKS[kind]):
        value = getattr(options, of.metadata["flag"] or of.name, None)
        if value is not None:
            yield of.name, value


def attack_settings(options: argparse.Namespace, fidelity: Fidelity) -> AttackSettings:
    """The settings that parsed options describe; raises ``UserError`` for what cannot be run."""
    attack = attack_of(options.attack_type, options)
    origin = _class_of("origin_class", options)
    target = None if options.untargeted else _class_of("target_class", options)
    if isinstance(attack, Noise) and attack.like:
        attack = replace(attack, like=_resembled(attack.like, (origin, target), options))
    settings = AttackSettings(
        kind=options.attack_type,
        attack=attack,
        origin=origin,
        target=target,
        restarts=options.restarts,
        seed=options.seed,
        fast=options.fast or options.precision != "fp32",
        precision=options.precision,
    )
    settings.check(fidelity)
    return settings


def _class_of(option: str, options: argparse.Namespace) -> int:
    """The number of the class that an option names or numbers."""
    text = str(getattr(options, option))
    if options.classes:
        return read_item_classes(options.classes).class_of(text, option)
    if not text.removeprefix("-").isdecimal():
        raise UserError(
            f"--{option} {text}: classes have numbers; those of --classes FILE have names too"
        )
    return int(text)


def _resembled(name: str, classes: tuple[int, int | None], options: argparse.Namespace) -> str:
    """What ``name``, an attack on the same classes and the same extractor, has after its classes.

    The extractor's part of the name may be left out. ``UserError`` for another kind of experiment.
    """
    liked = Experiment.parse(name)
    if liked.attack is None:
        raise UserError(f"--like {name}: no attack has changed its images")
    if liked.model_dir not in (None, model_dir_of(options)):
        raise UserError(f"--like {name}: it is an attack on another extractor")
    if (liked.origin, liked.target) != classes:
        raise UserError(f"--like {name}: its classes are not --origin_class and --target_class")
    return f"{liked.attack}_{liked.parameters}"


def experiment(settings: AttackSettings, model_dir: str | None, fidelity: Fidelity) -> Experiment:
    """Name the experiment: the attack's name, and what else is not usual after it."""
    differing = {
        f"restarts{settings.restarts}": settings.restarts > 1,
        f"seed{settings.seed}": settings.seed != 0,
        "fast": settings.fast,
        settings.precision: settings.precision != "fp32",
        fidelity.name: fidelity.name != "corrected",
    }
    parts = [settings.attack.name, *(part for part, differs in differing.items() if differs)]
    return Experiment(model_dir, settings.kind, settings.origin, settings.target, "_".join(parts))
