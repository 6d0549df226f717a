"""Settings of an attack, and the name that the attacked experiment gets from them.

The scripts that deal with attacks take the same options, so that each finds the files of the
others. Nothing here needs torch: bad options fail before it is loaded.
"""

import argparse
from collections.abc import Iterator
from dataclasses import Field, asdict, dataclass, field, replace
from typing import Any, Literal

from src.artifacts.errors import UserError, choose_from
from src.artifacts.experiments import DEMOTE, LIST_OBJECTIVES, Experiment
from src.artifacts.fidelity import Fidelity
from src.artifacts.item_classes import read_item_classes
from src.attacks.attack import Attack, options_of
from src.attacks.given import GIVEN, Given
from src.attacks.items import Items, add_items_options, items_of
from src.attacks.registry import ATTACKS, PGD, Noise
from src.cli import add_seed_option
from src.defences.defence import NONE
from src.defences.detectors import Detector, parse_detector
from src.defences.options import model_dir_of
from src.recommenders.read_out import add_score_options, add_target_item_option

KINDS: dict[str, type[Attack]] = {**ATTACKS, GIVEN: Given}
"""Kinds of images that stage 3 stores: of its attacks, and images that were attacked elsewhere."""

EOT_DRAWS = 10
PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Weights of an evading attack's penalty on the detector's score, relative to its threshold."""

_REFUSED = {
    "jsma": "its search over pairs of pixels needs a 150,528 x 150,528 matrix at 224 pixels",
    "zoo": "it attacks images scaled down by four and was left out of the published results",
}


@dataclass(frozen=True)
class AttackSettings:
    """Attack, pair of classes, and the way in which the stage runs the attack."""

    kind: str = "pgd"
    """Name of the attack in ``KINDS``."""
    attack: Attack = field(default_factory=PGD)
    origin: int = 774
    target: int | None = 770
    """Class to reach; None for an untargeted attack, away from ``origin``, and for an attack on lists."""
    objective: str = ""
    """Aim in ``LIST_OBJECTIVES``, after ``demote-`` if items shall vanish; empty for classes."""
    top_k: int = 20
    """Length of the lists that an attack on lists changes."""
    target_item: int | None = None
    """Item to show to the buyers of the attacked items; None if these are pushed themselves."""
    items: Items = field(default_factory=Items)
    restarts: int = 1
    seed: int = 0
    fast: bool = False
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    unaware: bool = False
    """True if the attack sees the extractor without its defence; the defended one judges."""
    eot: int | None = None
    """Draws of a random defence over which the attack takes means; None where it sees none."""
    evade: Detector | None = None
    """Detector under whose threshold the images shall stay."""

    @property
    def passes(self) -> int:
        """Largest number of passes of one image through the network."""
        once = self.attack.passes
        # Each repetition costs one more pass, which judges its result.
        restarted = self.restarts * (once + 1) if self.restarts > 1 else once
        # An evading attack may run once for each weight of its penalty, and sees squeezed copies too.
        views = 2 if self.evade and self.evade.squeeze else 1
        evading = len(PENALTIES) * (restarted + 1) * views if self.evade else restarted
        return evading * (self.eot or 1)

    def check(self, fidelity: Fidelity) -> None:
        """Raise ``UserError`` for settings that cannot be run."""
        attack = self.attack
        if self.origin < 0 or (self.target is not None and self.target < 0):
            raise UserError("--origin_class and --target_class are numbers from 0 on")
        if self.origin == self.target:
            raise UserError(f"origin and target are the same class ({self.origin})")
        attack.check(self.kind, fidelity.budget_space)
        self._check_objective()
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

    def _check_objective(self) -> None:
        if self.target_item is not None and not self.objective:
            raise UserError("--target_item is for an --objective in lists: score, rank or insa")
        if not self.objective:
            return
        if isinstance(self.attack, Noise):
            raise UserError("--attack_type noise has no --objective: it is the control of each")
        if not self.attack.takes_any_goal:
            able = [kind for kind, attack in ATTACKS.items() if attack().takes_any_goal]
            raise UserError(
                f"--attack_type {self.kind} knows classes alone; --objective {self.objective} is for "
                f"{', '.join(able)}"
            )
        if self.attack.asks_places and self.objective.removeprefix(DEMOTE) != "rank":
            raise UserError(
                f"--attack_type {self.kind} is told places alone, not scores: --objective rank"
            )
        if self.top_k < 1:
            raise UserError("--k must be at least 1")

    def check_classes(self, n_classes: int, expected: int | None = None) -> None:
        """Raise ``UserError`` unless the model has the classes of the settings.

        ``expected`` is the number of classes that the user stated, if any.
        """
        if expected not in (None, n_classes):
            raise UserError(f"--num_classes is {expected}, but the model has {n_classes} classes")
        # Given images are named after the origin class that another extractor saw.
        is_named = isinstance(self.attack, Given) and self.objective
        origin = None if self.items.name or is_named else self.origin
        for option, number in (("origin", origin), ("target", self.target)):
            if number is not None and number >= n_classes:
                raise UserError(
                    f"--{option}_class {number}: the model has classes 0 to {n_classes - 1}: name one "
                    f"of them by --{option}_class"
                )

    def described(self) -> dict[str, object]:
        """Return the settings in values that JSON knows; ``budget`` is that of stored images."""
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
            **({"unaware": True} if self.unaware else {}),
            **({"eot": self.eot} if self.eot else {}),
            **({"evade": self.evade.text} if self.evade else {}),
            **({"objective": self.objective, "k": self.top_k} if self.objective else {}),
            **({} if self.target_item is None else {"target_item": self.target_item}),
            **({"items": asdict(self.items)} if self.items != Items() else {}),
        }


def add_attack_options(
    parser: argparse.ArgumentParser, *, attack: str = "pgd", eps: float = 8.0
) -> None:
    """Add the options of an attack; ``attack`` and ``eps`` are the defaults of these two."""
    defaults = AttackSettings()
    group = parser.add_argument_group("attack")
    group.add_argument(
        "--attack_type",
        default=attack,
        help=f"one of {', '.join(KINDS)} (noise: a control; given: images that were attacked elsewhere)",
    )
    group.add_argument(
        "--origin_class",
        default=defaults.origin,
        help="class whose images are attacked: its number, or its name in --classes",
    )
    group.add_argument(
        "--target_class",
        default=defaults.target,
        help="class that they shall look like: its number, or its name in --classes",
    )
    group.add_argument(
        "--untargeted", action="store_true", help="only leave the origin class; no target"
    )
    group.add_argument(
        "--num_classes",
        type=int,
        default=None,
        help="number of classes that the model must have (default: any)",
    )
    group.add_argument(
        "--objective",
        choices=("class", *LIST_OBJECTIVES),
        default="class",
        help="class: the target class; or an aim in the lists of --score_model: the mean score (score), "
        "the number of users who are shown the item (rank), log of the mean exp score (insa), the "
        "features of the most popular item (expa)",
    )
    group.add_argument(
        "--demote", action="store_true", help="push items out of the lists; not with class"
    )
    group.add_argument(
        "--k",
        type=int,
        default=defaults.top_k,
        help="length of the lists that --objective changes",
    )
    add_target_item_option(group)
    add_items_options(group)
    add_score_options(parser)
    add_parameters(group, KINDS, eps=eps)
    group.add_argument(
        "--restarts",
        type=int,
        default=defaults.restarts,
        help="random starts for images that have not succeeded yet, of attacks with a random start",
    )
    add_seed_option(group)
    group.add_argument(
        "--fast",
        action="store_true",
        help="tuned network for the gradients (implied by every other --precision than fp32); "
        "without it FGSM and PGD are CleverHans' bit for bit",
    )
    group.add_argument(
        "--unaware",
        action="store_true",
        help="the attack does not know --preprocess: it attacks the network behind it; the "
        "defended network judges the stored images",
    )
    group.add_argument(
        "--eot",
        type=int,
        metavar="DRAWS",
        help="predictions of an image over which an attack on a random --preprocess takes the mean of "
        f"its goal (default: {EOT_DRAWS}, and 1 for attacks that know classes alone)",
    )
    group.add_argument(
        "--evade",
        type=_detector,
        metavar="DETECTOR",
        help="the images also stay under the threshold of a detector at 1 %% false alarms: "
        "squeeze:DEFENCE, such as squeeze:bits:n=4, or neighbours:k=5",
    )


def _detector(text: str) -> Detector:
    try:
        return parse_detector(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_parameters(
    parser: argparse._ActionsContainer, attacks: dict[str, type[Attack]], **defaults: object
) -> None:
    """Add an option for each parameter of the ``attacks``; parameters of one name share an option."""
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
        aliases = dict.fromkeys(name for its in users.values() for name in its.metadata["aliases"])
        flags = [f"--{name}" for name in (flag, *aliases)]
        parser.add_argument(*flags, default=defaults.get(flag), **kind)


def _choices(users: dict[str, Field]) -> tuple[str, ...]:
    """Return all values that one of the attacks knows; each attack checks its own."""
    known = [choice for of in users.values() for choice in of.metadata["choices"] or ()]
    return tuple(dict.fromkeys(known))


def _by_flag(attacks: dict[str, type[Attack]]) -> dict[str, dict[str, Field]]:
    """Return, for each option as the user writes it, the field of each attack that has it."""
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


def kind_of(experiment: Experiment) -> type[Attack]:
    """Return the attack that ``experiment`` is named after; ``UserError`` if none has this name."""
    if experiment.attack not in KINDS:
        raise UserError(
            f"{experiment.name}: this version has no attack {experiment.attack!r}: add it to ATTACKS, or "
            "move the experiment's folder out of the data set"
        )
    return KINDS[experiment.attack]


def attack_of(kind: str, options: argparse.Namespace) -> Attack:
    """Return the attack ``kind`` with its given parameters.

    Raises ``UserError`` for an unknown attack, and for a given parameter that only other attacks have.
    ``--eps`` is excepted: the script gives it a default for all attacks.
    """
    if reason := _REFUSED.get(kind):
        raise UserError(f"--attack_type {kind} is not offered: {reason}")
    if kind not in KINDS:
        raise UserError(f"no attack {kind!r}: {choose_from(kind, KINDS)}")
    for flag, users in _by_flag(KINDS).items():
        if flag != "eps" and kind not in users and getattr(options, flag, None) is not None:
            raise UserError(
                f"--{flag}: --attack_type {kind} has none; it is for {', '.join(users)}"
            )
    return KINDS[kind](**dict(_given(kind, options)))


def _given(kind: str, options: argparse.Namespace) -> Iterator[tuple[str, object]]:
    for of in options_of(KINDS[kind]):
        value = getattr(options, of.metadata["flag"] or of.name, None)
        if value is not None:
            yield of.name, value


def attack_settings(options: argparse.Namespace, fidelity: Fidelity) -> AttackSettings:
    """Return the settings of parsed options; ``UserError`` for settings that cannot be run."""
    attack = attack_of(options.attack_type, options)
    on_lists, items = options.objective != "class", _items_of(attack, options)
    origin = _class_of("origin_class", options, is_read=not items.name)
    target = None
    if not options.untargeted:
        target = _class_of("target_class", options, is_read=not on_lists)
    if isinstance(attack, Noise) and attack.like:
        attack = replace(attack, like=_resembled(attack.like, (origin, target), options))
    if options.demote and not on_lists:
        raise UserError("--demote needs an --objective in lists: score, rank, insa or expa")
    objective = (DEMOTE if options.demote else "") + options.objective if on_lists else ""
    if isinstance(attack, Given):
        _check_given(attack, objective, options)
        if source := attack.source:
            origin = origin if source.origin is None else source.origin
            target, objective = source.target, source.objective
    settings = AttackSettings(
        kind=options.attack_type,
        attack=attack,
        origin=origin,
        target=None if objective else target,
        objective=objective,
        top_k=options.k,
        target_item=options.target_item,
        items=items,
        restarts=options.restarts,
        seed=options.seed,
        fast=options.fast or options.precision != "fp32",
        precision=options.precision,
        unaware=options.unaware,
        eot=_draws_of(attack, options),
        evade=options.evade,
    )
    settings.check(fidelity)
    _check_evade(options, settings, fidelity)
    _check_preprocess(options, settings, fidelity)
    return settings


def _draws_of(attack: Attack, options: argparse.Namespace) -> int | None:
    """Return the draws that an attack averages over; None where it sees no random defence."""
    if not options.preprocess.is_random or options.unaware or not attack.sees_network:
        if options.eot is not None:
            raise UserError("--eot is for attacks that know a random defence in --preprocess")
        return None
    if options.eot is None:
        return EOT_DRAWS if attack.takes_any_goal else 1
    if options.eot < 1:
        raise UserError("--eot must be at least 1")
    if options.eot > 1 and not attack.takes_any_goal:
        raise UserError(
            f"--attack_type {options.attack_type} takes no mean over draws: it has --eot 1"
        )
    return options.eot


def _check_evade(options: argparse.Namespace, settings: AttackSettings, fidelity: Fidelity) -> None:
    """Raise ``UserError`` for an attack that cannot keep a detector's score low."""
    if settings.evade is None:
        return
    attack = settings.attack
    if not (attack.takes_any_goal and attack.sees_network) or attack.asks_places:
        raise UserError(f"--evade: --attack_type {settings.kind} cannot follow a detector's score")
    if settings.unaware or fidelity.budget_space != "pixel":
        raise UserError("--evade is for attacks on pixels that know all defences")
    if options.preprocess.is_random:
        raise UserError("--evade needs a --preprocess that draws nothing")


def _check_preprocess(
    options: argparse.Namespace, settings: AttackSettings, fidelity: Fidelity
) -> None:
    """Raise ``UserError`` for options that do not fit a defence in front of the network."""
    if options.preprocess.text == NONE:
        if settings.unaware:
            raise UserError("--unaware is for a defence in front of the network: add --preprocess")
        return
    if fidelity.budget_space != "pixel":
        raise UserError(
            f"--preprocess reads pixels, and --fidelity {fidelity.name} attacks normalised images: "
            "leave one of them out"
        )
    if settings.unaware and not settings.attack.sees_network:
        raise UserError(f"--unaware is for attacks that see a network; {settings.kind} sees none")


def _check_given(attack: Given, objective: str, options: argparse.Namespace) -> None:
    """Raise ``UserError`` for options that say something else of given images than their source."""
    if options.items != "class" or options.popularity != "any":
        raise UserError("--items and --popularity: all images of --images_from are judged")
    attack.check(options.attack_type)
    source = attack.source
    if source and source.model_dir == model_dir_of(options):
        raise UserError(f"--images_from {attack.images_from}: it is an attack on this extractor")
    if source and objective not in ("", source.objective):
        raise UserError(
            f"--objective {objective}: {attack.images_from} aims at {source.objective or 'a class'}"
        )


def _items_of(attack: Attack, options: argparse.Namespace) -> Items:
    """Return the choice of items; a folder of given images names them."""
    if isinstance(attack, Given) and attack.source is None:
        return Items("file", file=attack.images_from.rstrip("/"))
    return items_of(options)


def _class_of(option: str, options: argparse.Namespace, *, is_read: bool) -> int:
    """Return the number of the class that an option names or numbers.

    A number that nothing reads, such as the default target of an attack on lists, need not exist.
    """
    text = str(getattr(options, option))
    if options.classes and (is_read or not text.isdecimal()):
        return read_item_classes(options.classes).class_of(text, option)
    if not text.removeprefix("-").isdecimal():
        raise UserError(
            f"--{option} {text}: classes have numbers; those of --classes FILE have names too"
        )
    return int(text)


def _resembled(name: str, classes: tuple[int, int | None], options: argparse.Namespace) -> str:
    """Return the part of ``name``, an attack on the same classes and extractor, after its classes.

    The extractor's part of the name may be left out. ``UserError`` for another kind of experiment.
    """
    liked = Experiment.parse(name)
    if liked.attack is None:
        raise UserError(f"--like {name}: no attack has changed its images")
    if liked.model_dir not in (None, model_dir_of(options)):
        raise UserError(f"--like {name}: it is an attack on another extractor")
    if liked.objective:
        return f"{liked.attack}_{liked.objective}_{liked.parameters}"
    if (liked.origin, liked.target) != classes:
        raise UserError(f"--like {name}: its classes are not --origin_class and --target_class")
    return f"{liked.attack}_{liked.parameters}"


def experiment(
    settings: AttackSettings, model_dir: str | None, fidelity: Fidelity, recommender: str = ""
) -> Experiment:
    """Return the experiment, named by the attack and by settings that are not at their defaults.

    ``recommender`` says whose lists an attack on lists is after; it is empty where none judges given
    images. Images of another experiment are named after it.
    """
    if isinstance(settings.attack, Given) and settings.attack.source:
        return settings.attack.experiment(model_dir)
    differing = {
        recommender: recommender != "",
        f"item{settings.target_item}": settings.target_item is not None,
        f"k{settings.top_k}": settings.objective != "" and settings.top_k != AttackSettings.top_k,
        settings.items.suffix: settings.items.suffix != "",
        f"restarts{settings.restarts}": settings.restarts > 1,
        f"seed{settings.seed}": settings.seed != 0,
        "fast": settings.fast,
        settings.precision: settings.precision != "fp32",
        fidelity.name: fidelity.name != "corrected",
        "unaware": settings.unaware,
        f"eot{settings.eot}": settings.eot not in (None, EOT_DRAWS),
        f"evade-{settings.evade.folder if settings.evade else ''}": settings.evade is not None,
    }
    parts = [settings.attack.name, *(part for part, differs in differing.items() if differs)]
    items = settings.items.name
    return Experiment(
        model_dir,
        settings.kind,
        None if items else settings.origin,
        settings.target,
        "_".join(parts),
        settings.objective,
        items,
    )
