"""Attack types by the names that users give them."""

from collections.abc import Callable

from src.attacks.attention_attack import AttentionAttack
from src.attacks.carlini_wagner import CarliniWagner, CarliniWagnerCleverHans
from src.attacks.ddn import DDN
from src.attacks.goals import Attack
from src.attacks.gradient_sign import FGSM, PGD
from src.attacks.noise import Noise
from src.attacks.repeated import Rechecked, Restarted
from src.attacks.settings import AttackSettings
from src.attacks.spsa import SPSA
from src.attacks.victim import Victim

LEVELS = 255
"""Grey levels in one unit of the attacked space."""


def _carlini_wagner(settings: AttackSettings, _: Victim) -> Attack:
    shared = {
        "confidence": settings.confidence,
        "learning_rate": settings.lr,
        "initial_c": settings.c,
        "search_steps": settings.binary_steps,
        "iterations": settings.max_it,
    }
    if settings.engine == "cleverhans":
        return CarliniWagnerCleverHans(**shared)
    return CarliniWagner(**shared, abort=settings.abort)


def _attention(settings: AttackSettings, victim: Victim) -> Attack:
    return AttentionAttack(
        victim.watched,
        settings.eps / LEVELS,
        settings.step / LEVELS,
        settings.iterations,
        settings.attention_weight,
        settings.random_start,
    )


ATTACKS: dict[str, Callable[[AttackSettings, Victim], Attack]] = {
    "fgsm": lambda s, _: FGSM(s.eps / LEVELS, s.order),
    "pgd": lambda s, _: PGD(s.eps / LEVELS, s.step / LEVELS, s.iterations, s.order, s.random_start),
    "cw": _carlini_wagner,
    "spsa": lambda s, _: SPSA(s.eps / LEVELS, s.iterations, s.samples, s.delta, norm=s.order),
    "ddn": lambda s, _: DDN(s.steps),
    "noise": lambda s, _: Noise(s.eps / LEVELS),
    "attention": _attention,
}

_SMALLEST_CHANGE = ("cw", "ddn")
"""Attacks that end on the class boundary, where a tuned network must be checked."""


def build_attack(settings: AttackSettings, victim: Victim) -> Attack:
    """The attack that ``settings`` describe; they have been checked (``AttackSettings.check``)."""
    attack = ATTACKS[settings.attack](settings, victim)
    if settings.restarts > 1:
        attack = Restarted(attack, settings.restarts)
    if settings.fast and settings.attack in _SMALLEST_CHANGE:
        attack = Rechecked(attack, victim.exact)
    return attack
