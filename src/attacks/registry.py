"""Table ``ATTACKS`` of all attacks on images, and the parameters of each.

Stage 3, tables of robust accuracy and training adversaries take their attacks from this table. Your own
attack may have a file of its own; only its row has to be here. The engines load torch, so
each attack imports its engine when it runs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from src.artifacts.errors import UserError
from src.attacks.attack import (
    LEVELS,
    Attack,
    Budget,
    BudgetedAttack,
    Goal,
    Norm,
    Space,
    Victim,
    norm_option,
    option,
)
from src.cli import pixel_levels

if TYPE_CHECKING:
    from torch import Tensor

Effort = Literal["standard", "fast"]
Engine = Literal["own", "cleverhans"]

_NO_RANDOM_START = {"flag": "no_rand_init", "suffix": "norand"}
_STEPS = {"flag": "steps", "aliases": ("nb_iter",)}
_STEP_SIZE = {"flag": "step_size", "aliases": ("eps_iter",), "parse": pixel_levels}
_ENGINE = {"choices": ("own", "cleverhans"), "suffix": ""}
_PROBES = {"flag": "probes", "aliases": ("batch_size", "pairs")}


@dataclass(frozen=True)
class FGSM(BudgetedAttack):
    """One step of length eps."""

    template: ClassVar = "eps{eps}_it{it}_l{norm}_XX"
    norms: ClassVar = ("inf", "1", "2")

    it: int = option(1, "only stands in the name", least=None)
    norm: Norm = norm_option(*norms)
    engine: Engine = option("own", "our engine, or CleverHans'", **_ENGINE)

    @property
    def takes_any_goal(self) -> bool:
        return self.engine == "own"

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.gradient_sign import cleverhans_fgsm, fgsm

        engine = cleverhans_fgsm if self.engine == "cleverhans" else fgsm
        return engine(self, victim, images, goal)


@dataclass(frozen=True)
class SteppedAttack(BudgetedAttack):
    """Steps within a ball, by default of eps / 6 and from a random point of the ball."""

    norm: Norm = norm_option("inf")
    nb_iter: int = option(10, "steps", **_STEPS)
    eps_iter: float | None = option(
        None, "length of a step in grey levels (default: eps / 6)", named=False, **_STEP_SIZE
    )
    random_start: bool = option(True, "start from the clean image", **_NO_RANDOM_START)

    @property
    def step(self) -> float:
        """Length of a step in grey levels."""
        return self.eps / 6 if self.eps_iter is None else self.eps_iter

    @property
    def has_random_start(self) -> bool:
        return self.random_start

    @property
    def passes(self) -> int:
        return self.nb_iter

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        if self.step > self.eps:
            raise UserError(f"--step_size {self.step} is larger than --eps {self.eps}")

    def unusual(self) -> list[str]:
        differs = self.step != self.eps / 6
        return [f"step{self.step}"] * differs + super().unusual()


@dataclass(frozen=True)
class PGD(SteppedAttack):
    """Projected gradient descent; the last iterate. Without a random start this is BIM."""

    template: ClassVar = "eps{eps}_eps_it{eps}_nb_it{nb_iter}_l{norm}"
    norms: ClassVar = ("inf", "1", "2")

    norm: Norm = norm_option(*norms)
    engine: Engine = option("own", "our engine, or CleverHans'", **_ENGINE)

    @property
    def takes_any_goal(self) -> bool:
        return self.engine == "own"

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        if self.engine == "cleverhans" and self.norm == "1":
            raise UserError("CleverHans' PGD has no L1 ball: --engine own")

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.gradient_sign import cleverhans_pgd, projected_descent

        engine = cleverhans_pgd if self.engine == "cleverhans" else projected_descent
        return engine(self, victim, images, goal)


@dataclass(frozen=True)
class MomentumFGSM(BudgetedAttack):
    """Steps of eps / nb_iter along the summed gradient, from the clean image; the last iterate."""

    template: ClassVar = "eps{eps}_nb_iter{nb_iter}_l{norm}"
    norms: ClassVar = ("inf", "2")

    norm: Norm = norm_option(*norms)
    nb_iter: int = option(10, "steps", **_STEPS)
    decay: float = option(1.0, "share of the summed gradients that a step keeps", least=0)

    @property
    def passes(self) -> int:
        return self.nb_iter

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.gradient_sign import momentum_descent

        return momentum_descent(self, victim, images, goal)


@dataclass(frozen=True)
class APGD(BudgetedAttack):
    """Projected descent that halves its own steps; the best iterate."""

    template: ClassVar = "eps{eps}_nb_iter{nb_iter}_l{norm}"
    norms: ClassVar = ("inf", "2")

    norm: Norm = norm_option(*norms)
    nb_iter: int = option(100, "steps", **_STEPS)
    random_start: bool = option(True, "start from the clean image", **_NO_RANDOM_START)

    @property
    def has_random_start(self) -> bool:
        return self.random_start

    @property
    def passes(self) -> int:
        return self.nb_iter + 1

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.apgd import apgd

        return apgd(self, victim, images, goal)


@dataclass(frozen=True)
class Annealed(APGD):
    """Projected descent with momentum whose steps fall from eps to eps / 50; the best iterate."""

    steps_fall: ClassVar = True

    nb_iter: int = option(30, "steps", **_STEPS)

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.annealed import annealed

        return annealed(self, victim, images, goal)


@dataclass(frozen=True)
class MarginPGD(BudgetedAttack):
    """PGD on the margin loss of Carlini and Wagner, the C&W of L-inf tables."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "eps{eps}_nb_it{nb_iter}_l{norm}"
    spaces: ClassVar = ("pixel",)

    norm: Norm = norm_option("inf")
    nb_iter: int = option(50, "steps of eps / 4 from a random point", **_STEPS)

    @property
    def has_random_start(self) -> bool:
        return True

    @property
    def passes(self) -> int:
        return self.nb_iter

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.margin import margin_pgd

        return margin_pgd(self, victim, images, goal)


@dataclass(frozen=True)
class Attention(SteppedAttack):
    """PGD that also drives the attention map away, or keeps it unchanged."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "eps{eps}_w{attention_weight:g}_nb_it{nb_iter}_l{norm}"
    precise: ClassVar = True

    attention_weight: float = option(
        1.0,
        "weight of moving the map away; below 0 it is kept, inf: the map alone",
        least=None,
        label="weight",
    )

    @property
    def passes(self) -> int:
        return 1 + self.nb_iter

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        weight = self.attention_weight
        if not weight > -math.inf or weight == 0:
            raise UserError("--attention_weight is above 0 (inf: the map alone) or below 0, not 0")
        if weight == math.inf and not self.random_start:
            raise UserError(
                "--attention_weight inf needs a random start: the clean map has no slope"
            )

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.attention_attack import attention_attack

        return attention_attack(self, victim, images, goal)


@dataclass(frozen=True)
class StepLL(BudgetedAttack):
    """One step of length eps towards the least likely class."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "eps{eps}_l{norm}"
    targeted: ClassVar = False

    norm: Norm = norm_option("inf")

    @property
    def passes(self) -> int:
        return 2

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.least_likely import towards_least_likely

        return towards_least_likely(victim, images, goal, self.radius, self.radius, 1)


@dataclass(frozen=True)
class RandomStepLL(StepLL):
    """Half a step towards the least likely class behind half a step at random."""

    @property
    def has_random_start(self) -> bool:
        return True

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.least_likely import random_step_towards_least_likely

        return random_step_towards_least_likely(victim, images, goal, self.radius)


@dataclass(frozen=True)
class IterLL(BudgetedAttack):
    """Steps of a grey level towards the least likely class."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "eps{eps}_l{norm}"
    targeted: ClassVar = False

    norm: Norm = norm_option("inf")
    eps_iter: float = option(1.0, "length of a step in grey levels", suffix="step", **_STEP_SIZE)
    nb_iter: int | None = option(
        None,
        "steps (default: min(eps + 4, 1.25 eps), rounded up)",
        parse=int,
        suffix="nb_it",
        **_STEPS,
    )

    @property
    def steps(self) -> int:
        """Number of steps; by default the paper's, which suffices to reach the edge of the ball."""
        eps = round(self.eps, 6)
        return self.nb_iter or math.ceil(min(eps + 4, 1.25 * eps))

    @property
    def passes(self) -> int:
        return 1 + self.steps

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.least_likely import towards_least_likely

        step = self.eps_iter / LEVELS
        return towards_least_likely(victim, images, goal, self.radius, step, self.steps)


@dataclass(frozen=True)
class CW(Attack):
    """Search for the smallest L2 change (Carlini and Wagner)."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "conf{confidence:g}_lr{lr}_c{c}_max_it{max_it}"
    norms: ClassVar = ("2",)
    smallest_change: ClassVar = True

    confidence: float = option(0.0, "margin of the logits", least=0)
    lr: float = option(5e-3, "learning rate of Adam")
    c: float = option(0.01, "initial constant")
    max_it: int = option(1000, "steps for each constant", flag="steps", aliases=("max_it",))
    binary_steps: int = option(5, "constants tried", suffix="search")
    engine: Engine = option("own", "our engine, or CleverHans', image by image", **_ENGINE)
    abort: Literal["image", "never"] = option(
        "image",
        "whether an image may stop when its loss no longer falls",
        choices=("image", "never"),
        named=False,
    )

    @property
    def passes(self) -> int:
        return self.binary_steps * self.max_it

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        if self.engine == "cleverhans" and space != "pixel":
            raise UserError("CleverHans' cw needs pixels: --engine own")

    def unusual(self) -> list[str]:
        never = self.engine == "own" and self.abort == "never"
        return super().unusual() + ["noabort"] * never

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.carlini_wagner import CarliniWagner, CarliniWagnerCleverHans

        shared = {
            "confidence": self.confidence,
            "learning_rate": self.lr,
            "initial_c": self.c,
            "search_steps": self.binary_steps,
            "iterations": self.max_it,
        }
        if self.engine == "cleverhans":
            return CarliniWagnerCleverHans(**shared)(victim, images, goal)
        return CarliniWagner(**shared, abort=self.abort)(victim, images, goal)


@dataclass(frozen=True)
class DDN(Attack):
    """Search for a small L2 change in few steps; every step is rounded to grey levels."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "steps{steps}"
    norms: ClassVar = ("2",)
    spaces: ClassVar = ("pixel",)
    smallest_change: ClassVar = True

    steps: int = option(100, "steps")

    @property
    def passes(self) -> int:
        return self.steps

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.ddn import ddn

        return ddn(self, victim, images, goal)


@dataclass(frozen=True)
class SPSA(BudgetedAttack):
    """Search with pairs of random probes that reads logits alone, from CleverHans."""

    template: ClassVar = "eps{eps}_delta{delta}_nb_iter{nb_iter}_batch{batch_size}"
    norms: ClassVar = ("inf", "2")

    norm: Norm = norm_option(*norms)
    nb_iter: int = option(100, "steps", **_STEPS)
    delta: float = option(0.01, "size of a probe in [0, 1]")
    batch_size: int = option(128, "pairs of probes of a step", label="batch", **_PROBES)

    @property
    def has_random_start(self) -> bool:
        return True

    @property
    def passes(self) -> int:
        return self.nb_iter * (2 * self.batch_size + 1)

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.spsa import spsa_attack

        return spsa_attack(self, victim, images, goal)


@dataclass(frozen=True)
class Search(BudgetedAttack):
    """An attack that asks for the value of its goal, and for neither slopes nor features.

    In lists it reads the places of its items for ``accounts`` users, and nothing else of the recommender.
    A query is one image, and its answer is the value or the places for all accounts.
    """

    asks_places: ClassVar = True
    template: ClassVar = "eps{eps}_queries{queries}_l{norm}"

    norm: Norm = norm_option("inf")
    queries: int = option(1000, "queries for each image")
    accounts: int = option(50, "users in whose lists --objective rank reads the items' places")

    @property
    def draws(self) -> bool:
        return True

    @property
    def passes(self) -> int:
        return self.queries


@dataclass(frozen=True)
class NES(Search):
    """Sign steps, ever shorter, along the mean of slopes estimated by pairs of normal probes; the best
    iterate."""

    steps_fall: ClassVar = True

    eps_iter: float | None = option(
        None, "length of the first step in grey levels (default: eps)", suffix="step", **_STEP_SIZE
    )
    sigma: float = option(0.01, "deviation of a probe in [0, 1]")
    pairs: int = option(32, "pairs of probes of a step", **_PROBES)

    @property
    def first_step(self) -> float:
        """Length of the first step in grey levels."""
        return self.eps_iter or self.eps

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        if self.queries <= 2 * self.pairs:
            raise UserError(
                f"--queries {self.queries} are less than one step's, {2 * self.pairs + 1}"
            )

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.nes import nes

        return nes(self, victim, images, goal)


@dataclass(frozen=True)
class Square(Search):
    """A random search by squares (Andriushchenko et al., ECCV 2020)."""

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.square import square

        return square(self, victim, images, goal)


@dataclass(frozen=True)
class AutoAttack(BudgetedAttack):
    """Ensemble of Croce and Hein."""

    takes_any_goal: ClassVar = False
    template: ClassVar = "eps{eps}_l{norm}"
    spaces: ClassVar = ("pixel",)
    targeted: ClassVar = False

    norm: Norm = norm_option("inf")
    effort: Effort = option(
        "standard",
        "fast: APGD-CE of 50 steps, APGD-T with 3 targets of 50 steps, Square with 500 queries; the "
        "accuracy that it leaves is an upper bound of what standard leaves",
        flag="autoattack",
        choices=("standard", "fast"),
        suffix="",
    )

    @property
    def draws(self) -> bool:
        return True

    @property
    def passes(self) -> int:
        return 7000 if self.effort == "standard" else 750

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        from src.attacks.auto_attack import auto_attack

        return auto_attack(self, victim, images, goal)


@dataclass(frozen=True)
class Noise(BudgetedAttack):
    """Control: random noise of the budget's size, or of the size of another experiment's changes."""

    takes_any_goal: ClassVar = False
    sees_network: ClassVar = False
    template: ClassVar = "eps{eps}_l{norm}"
    norms: ClassVar = ("inf", "1", "2")

    norm: Norm = norm_option(*norms)
    like: str = option(
        "",
        "name of an attacked experiment; noise has the L2 norm of its change, image by image",
        named=False,
    )
    sizes: tuple[float, ...] = ()
    """L2 norms in grey levels for the next batch, in place of ``eps``."""

    @property
    def draws(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"like_{self.like}" if self.like else super().name

    @property
    def shown(self) -> dict[str, str]:
        return {"like": self.like} if self.like else super().shown

    def check(self, kind: str, space: Space = "pixel") -> None:
        super().check(kind, space)
        if space != "pixel" and (self.like or self.norm != "inf"):
            raise UserError(f"{kind} of --l 2 and 1 and --like are whole grey levels of pixels")

    @property
    def budget(self) -> Budget | None:
        return None if self.like else super().budget

    def __call__(self, victim: Victim, images: "Tensor", goal: Goal) -> "Tensor":
        import torch

        from src.attacks.noise import sign_noise, sized_noise

        if self.norm == "inf" and not self.like:
            return sign_noise(victim, images, self.radius)
        sizes = torch.tensor(self.sizes or [self.eps] * len(images), device=images.device)
        return sized_noise(images, sizes, 1 if self.norm == "1" and not self.like else 2)


ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
    "mifgsm": MomentumFGSM,
    "apgd": APGD,
    "annealed": Annealed,
    "cw": CW,
    "spsa": SPSA,
    "nes": NES,
    "square": Square,
    "ddn": DDN,
    "noise": Noise,
    "attention": Attention,
    "stepll": StepLL,
    "rstepll": RandomStepLL,
    "iterll": IterLL,
    "margin": MarginPGD,
    "autoattack": AutoAttack,
}
"""By the name that commands and experiments give it. A name has no underscore, so that the name of
an experiment can be taken apart."""

PRESETS: dict[str, tuple[str, Callable[[float], Attack]]] = {
    "r_stepll": ("the same behind a random step", RandomStepLL),
    "pgd20": (
        "20 steps of eps / 4 from a random point",
        lambda eps: PGD(eps, nb_iter=20, eps_iter=eps / 4),
    ),
    "pgd100": ("100 of them", lambda eps: PGD(eps, nb_iter=100, eps_iter=eps / 4)),
    "cw": ("50 of them on the margin loss, the C&W of L-inf tables", MarginPGD),
    "cw_l2": ("the smallest L2 change, without a budget", lambda _: CW()),
    "keep20": (
        "pgd20 that keeps attention where it was, adapted to defences that watch it",
        lambda eps: Attention(eps, nb_iter=20, eps_iter=eps / 4, attention_weight=-1.0),
    ),
    "push20": (
        "pgd20 that also drives it away",
        lambda eps: Attention(eps, nb_iter=20, eps_iter=eps / 4, attention_weight=1.0),
    ),
}
"""Attacks with the parameters of tables of robust accuracy, by their published names: what they are, and
the attack within eps grey levels."""


def attack_named(name: str, eps: float) -> Attack:
    """Return a row of ``PRESETS``, or an attack of ``ATTACKS`` at its defaults, within ``eps`` levels."""
    if name in PRESETS:
        return PRESETS[name][1](eps)
    attack = ATTACKS[name]
    return attack(eps) if issubclass(attack, BudgetedAttack) else attack()
