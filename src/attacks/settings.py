"""What a user can set about an attack, and the name that the attacked experiment gets from it.

The three scripts that deal with attacks take the same options, so that each finds what the others
wrote. Nothing here needs torch: bad options fail before it is loaded.
"""

import argparse
import math
from dataclasses import dataclass
from typing import Literal

from src.artifacts.errors import UserError
from src.artifacts.experiments import PAPER_FIELDS, Experiment
from src.artifacts.fidelity import Fidelity
from src.cli import pixel_levels

PAPER_SEARCH_STEPS = 5
"""Binary search steps of the published C&W, which its name does not show."""
PGD_STEPS = 10
SPSA_STEPS = 100

_REFUSED = {
    "jsma": "its search over pairs of pixels needs a 150,528 x 150,528 matrix at 224 pixels",
    "zoo": "it attacks images scaled down by four and was left out of the published results",
}
_NORMS = {
    "fgsm": ("inf", "1", "2"),
    "pgd": ("inf", "2"),
    "spsa": ("inf", "2"),
}
"""Norms that a budget may have; those of attacks that are not here have L-inf alone."""
_DESCENTS = ("pgd", "attention")
"""Attacks by projected gradient descent."""


@dataclass(frozen=True)
class AttackSettings:
    """One attack: the classes, the budget, and the parameters of every attack type.

    Parameters of other attack types than ``attack`` are ignored.
    """

    attack: str = "pgd"
    origin: int = 774
    target: int | None = 770
    """None: untargeted, away from ``origin``."""
    eps: float = 8.0
    """Budget in grey levels of 255 (of the normalised space in the paper's mode)."""
    norm: Literal["inf", "1", "2"] = "inf"
    it: int = 1
    """Stands in the name of FGSM experiments and does nothing else."""
    eps_iter: float | None = None
    """Step of PGD and the attention attack in grey levels; None is eps / 6."""
    nb_iter: int | None = None
    """Steps of PGD, the attention attack and SPSA; None is 10, 10 and 100."""
    random_start: bool = True
    restarts: int = 1
    confidence: float = 0.0
    c: float = 0.01
    lr: float = 5e-3
    max_it: int = 1000
    binary_steps: int = PAPER_SEARCH_STEPS
    engine: Literal["own", "cleverhans"] = "own"
    abort: Literal["image", "never"] = "image"
    samples: int = 128
    """Pairs of probes of one gradient estimate of SPSA."""
    delta: float = 0.01
    """Size of a probe of SPSA, in units of [0, 1]."""
    steps: int = 100
    """Steps of DDN."""
    attention_weight: float = 1.0
    """Of the distance by which attention moves; below 0 it is kept, inf attacks nothing else."""
    seed: int = 0
    fast: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @property
    def step(self) -> float:
        """Step of PGD and the attention attack in grey levels."""
        return self.eps / 6 if self.eps_iter is None else self.eps_iter

    @property
    def iterations(self) -> int:
        """Steps of PGD, the attention attack or SPSA."""
        return self.nb_iter or (SPSA_STEPS if self.attack == "spsa" else PGD_STEPS)

    @property
    def passes(self) -> int:
        """How often the attack sends one image through the network, at most."""
        once = {
            "cw": self.binary_steps * self.max_it,
            "spsa": self.iterations * (2 * self.samples + 1),
            "ddn": self.steps,
            "attention": 1 + self.iterations,
        }.get(self.attack, self.iterations if _shows(self.attack, "nb_iter") else 1)
        # Restarts look at the outcome of each try.
        return self.restarts * (once + 1) if self.restarts > 1 else once

    @property
    def order(self) -> float:
        """The norm as a number."""
        return math.inf if self.norm == "inf" else int(self.norm)

    @property
    def has_budget(self) -> bool:
        """C&W and DDN have none: they minimise the L2 norm."""
        return _shows(self.attack, "eps")

    def check(self, fidelity: Fidelity) -> None:
        """Raise ``UserError`` for what cannot be run."""
        if reason := _REFUSED.get(self.attack):
            raise UserError(f"--attack_type {self.attack} is not offered: {reason}")
        if self.attack not in PAPER_FIELDS:
            raise UserError(f"no attack {self.attack!r}: choose from {', '.join(PAPER_FIELDS)}")
        if self.origin < 0 or (self.target is not None and self.target < 0):
            raise UserError("--origin_class and --target_class are numbers from 0 on")
        if self.origin == self.target:
            raise UserError(f"origin and target are the same class ({self.origin})")
        self._check_numbers()
        if self.has_budget:
            self._check_budget(fidelity)
        if self.engine == "cleverhans" and (self.attack != "cw" or not _in_pixels(fidelity)):
            raise UserError("--engine cleverhans is for --attack_type cw in the corrected pipeline")
        if self.attack == "ddn" and not _in_pixels(fidelity):
            raise UserError("ddn rounds to grey levels: it has no normalised budget space")
        if self.attack == "attention" and self.precision != "fp32":
            raise UserError("--attack_type attention reads maps and their gradients in fp32 only")
        if self.restarts > 1 and not (
            self.attack == "spsa" or (self.attack in _DESCENTS and self.random_start)
        ):
            raise UserError(
                "--restarts is for attacks with a random start: pgd, attention and spsa"
            )

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

    def _check_numbers(self) -> None:
        for name in ("restarts", "max_it", "binary_steps", "samples", "steps", "iterations"):
            if getattr(self, name) < 1:
                option = {"samples": "batch_size", "iterations": "nb_iter"}.get(name, name)
                raise UserError(f"--{option} must be at least 1")
        for name in ("eps", "step", "c", "lr", "delta"):
            if not 0 < getattr(self, name) < math.inf:
                option = "eps_iter" if name == "step" else name
                raise UserError(f"--{option} must be a number above 0")
        if not 0 <= self.confidence < math.inf:
            raise UserError("--confidence must not be negative")
        if not self.attention_weight > -math.inf or self.attention_weight == 0:
            raise UserError("--attention_weight is above 0 (inf: the map alone) or below 0, not 0")
        if math.isinf(self.attention_weight) and not self.random_start:
            raise UserError(
                "--attention_weight inf needs a random start: the clean map has no slope"
            )
        if self.seed < 0:
            raise UserError("--seed must not be negative")

    def _check_budget(self, fidelity: Fidelity) -> None:
        norms = _NORMS.get(self.attack, ("inf",))
        if self.norm not in norms:
            possible = " or ".join(norms)
            raise UserError(f"--attack_type {self.attack} has --l {possible}, not {self.norm}")
        if self.attack in _DESCENTS and self.step > self.eps:
            raise UserError(f"--eps_iter {self.step} is larger than --eps {self.eps}")
        if self.eps < 1 and _in_pixels(fidelity):
            raise UserError(f"--eps {self.eps} is under one grey level: no 8-bit image can hold it")


def add_attack_options(
    parser: argparse.ArgumentParser, *, attack: str = "pgd", eps: float = 8.0
) -> None:
    """The options of an attack; ``attack`` and ``eps`` are the defaults of these two."""
    defaults = AttackSettings()
    group = parser.add_argument_group("attack")
    group.add_argument(
        "--attack_type", default=attack, help=f"one of {', '.join(PAPER_FIELDS)} (noise: a control)"
    )
    group.add_argument(
        "--origin_class", type=int, default=defaults.origin, help="class whose images are attacked"
    )
    group.add_argument(
        "--target_class", type=int, default=defaults.target, help="class they are to be taken for"
    )
    group.add_argument(
        "--untargeted", action="store_true", help="only leave the origin class; no target"
    )
    group.add_argument(
        "--num_classes", type=int, default=None, help="checked against the model where it is given"
    )
    group.add_argument(
        "--eps",
        type=pixel_levels,
        default=eps,
        help="budget in grey levels of 255 (8, or 8/255); with --l 2 and 1 the norm in grey levels",
    )
    group.add_argument(
        "--l", choices=("inf", "1", "2"), default=defaults.norm, help="norm of the budget"
    )
    group.add_argument("--it", type=int, default=defaults.it, help="fgsm: only stands in the name")
    group.add_argument(
        "--eps_iter",
        type=pixel_levels,
        default=None,
        help="pgd, attention: step in grey levels (default: eps / 6)",
    )
    group.add_argument(
        "--nb_iter",
        type=int,
        default=None,
        help=f"steps of pgd, attention (default: {PGD_STEPS}) and spsa (default: {SPSA_STEPS})",
    )
    group.add_argument(
        "--no_rand_init", action="store_true", help="pgd, attention: start from the clean image"
    )
    group.add_argument(
        "--restarts",
        type=int,
        default=defaults.restarts,
        help="pgd, attention, spsa: random starts for the images that have not succeeded yet",
    )
    group.add_argument(
        "--confidence", type=float, default=defaults.confidence, help="cw: margin of the logits"
    )
    group.add_argument("--c", type=float, default=defaults.c, help="cw: initial constant")
    group.add_argument("--lr", type=float, default=defaults.lr, help="cw: learning rate of Adam")
    group.add_argument(
        "--max_it", type=int, default=defaults.max_it, help="cw: steps for each constant"
    )
    group.add_argument(
        "--binary_steps", type=int, default=defaults.binary_steps, help="cw: constants tried"
    )
    group.add_argument(
        "--engine",
        choices=("own", "cleverhans"),
        default=defaults.engine,
        help="cw: our engine, or CleverHans image by image",
    )
    group.add_argument(
        "--abort",
        choices=("image", "never"),
        default=defaults.abort,
        help="cw: whether an image may stop when its loss no longer falls",
    )
    group.add_argument(
        "--batch_size", type=int, default=defaults.samples, help="spsa: pairs of probes of a step"
    )
    group.add_argument(
        "--delta", type=float, default=defaults.delta, help="spsa: size of a probe in [0, 1]"
    )
    group.add_argument("--steps", type=int, default=defaults.steps, help="ddn: steps")
    group.add_argument(
        "--attention_weight",
        type=float,
        default=defaults.attention_weight,
        help="attention: weight of moving the map away; below 0 it is kept, inf: the map alone",
    )
    group.add_argument("--seed", type=int, default=defaults.seed, help="of every random choice")
    group.add_argument(
        "--fast",
        action="store_true",
        help="tuned network for the gradients (implied by --precision bf16 and fp16); "
        "without it FGSM and PGD are CleverHans' bit for bit",
    )


def attack_settings(options: argparse.Namespace, fidelity: Fidelity) -> AttackSettings:
    """The settings that parsed options describe; raises ``UserError`` for what cannot be run."""
    settings = AttackSettings(
        attack=options.attack_type,
        origin=options.origin_class,
        target=None if options.untargeted else options.target_class,
        eps=float(options.eps),
        norm=options.l,
        it=options.it,
        eps_iter=options.eps_iter,
        nb_iter=options.nb_iter,
        random_start=not options.no_rand_init,
        restarts=options.restarts,
        confidence=options.confidence,
        c=options.c,
        lr=options.lr,
        max_it=options.max_it,
        binary_steps=options.binary_steps,
        engine=options.engine,
        abort=options.abort,
        samples=options.batch_size,
        delta=options.delta,
        steps=options.steps,
        attention_weight=options.attention_weight,
        seed=options.seed,
        fast=options.fast or options.precision != "fp32",
        precision=options.precision,
    )
    settings.check(fidelity)
    return settings


def attack_parameters(settings: AttackSettings) -> dict[str, object]:
    """The parameters that the attack's name and reports show, by the names of ``PAPER_FIELDS``."""
    shown = {
        "eps": settings.eps,
        "it": settings.it,
        "l": settings.norm,
        "nb_iter": settings.iterations,
        "confidence": f"{settings.confidence:g}",
        "lr": settings.lr,
        "c": settings.c,
        "max_it": settings.max_it,
        "delta": settings.delta,
        "batch": settings.samples,
        "steps": settings.steps,
        "weight": f"{settings.attention_weight:g}",
    }
    return {key: shown[key] for key in shown if _shows(settings.attack, key)}


def _shows(attack: str, parameter: str) -> bool:
    """Whether names of such experiments show the parameter: attacks show all that they take."""
    return f"{{{parameter}}}" in PAPER_FIELDS[attack]


def experiment(settings: AttackSettings, model_dir: str | None, fidelity: Fidelity) -> Experiment:
    """Name the experiment: the published name, and what is not at the paper's values after it."""
    return Experiment.of_attack(
        model_dir,
        settings.attack,
        settings.origin,
        settings.target,
        attack_parameters(settings),
        _extras(settings, fidelity),
    )


def _extras(settings: AttackSettings, fidelity: Fidelity) -> dict[str, object]:
    """Options that differ from the published runs' and change what the attack finds."""
    cw, spsa = (settings.attack == name for name in ("cw", "spsa"))
    descends = settings.attack in _DESCENTS
    differing = {
        "step": (settings.step, descends and settings.step != settings.eps / 6),
        "norand": ("", descends and not settings.random_start),
        "search": (settings.binary_steps, cw and settings.binary_steps != PAPER_SEARCH_STEPS),
        "cleverhans": ("", cw and settings.engine == "cleverhans"),
        "noabort": ("", cw and settings.engine == "own" and settings.abort == "never"),
        "l": (settings.norm, spsa and settings.norm != "inf"),
        "restarts": (settings.restarts, settings.restarts > 1),
        "seed": (settings.seed, settings.seed != 0),
        "fast": ("", settings.fast),
        settings.precision: ("", settings.precision != "fp32"),
        fidelity.name: ("", fidelity.name != "corrected"),
    }
    return {key: value for key, (value, differs) in differing.items() if differs}


def _in_pixels(fidelity: Fidelity) -> bool:
    return fidelity.budget_space == "pixel"
