"""The attacks of robust-accuracy tables by their names."""

from collections.abc import Callable

from src.attacks.attention_attack import AttentionAttack
from src.attacks.goals import Attack
from src.attacks.gradient_sign import FGSM, PGD
from src.attacks.least_likely import IterLL, RandomStepLL, StepLL
from src.attacks.noise import Noise
from src.attacks.repeated import Restarted
from src.attacks.robustness.auto_attack import AutoAttack, Effort
from src.attacks.robustness.margin import MarginPGD
from src.attacks.robustness.trials import NOISE, Trial
from src.attacks.victim import Victim

LEVELS = 255
_STEPS_TO_THE_EDGE = 4
"""A step of PGD is eps by this: 2/255 of 8/255, as usual."""

BUILDERS: dict[str, Callable[[float, Effort], Attack]] = {
    NOISE: lambda eps, _: Noise(eps),
    "fgsm": lambda eps, _: FGSM(eps),
    "stepll": lambda eps, _: StepLL(eps),
    "r_stepll": lambda eps, _: RandomStepLL(eps),
    "iterll": lambda eps, _: IterLL(eps),
    "pgd20": lambda eps, _: PGD(eps, eps / _STEPS_TO_THE_EDGE, 20),
    "pgd100": lambda eps, _: PGD(eps, eps / _STEPS_TO_THE_EDGE, 100),
    "cw": lambda eps, _: MarginPGD(eps, eps / _STEPS_TO_THE_EDGE, 50),
    "autoattack": AutoAttack,
}
"""Called with the radius of the ball (1 is white) and the effort of AutoAttack."""

_WEIGHT_OF_ATTENTION = {"keep20": -1.0, "push20": 1.0}
"""Of the attacks that adapt to defences of attention: what the distance of maps counts beside CE."""

_RESTARTED = ("r_stepll", "pgd20", "pgd100", "cw", *_WEIGHT_OF_ATTENTION)
"""Attacks that begin at a random point; AutoAttack repeats its parts itself."""


def build_attack(trial: Trial, effort: Effort, restarts: int, victim: Victim) -> Attack:
    """The attack on ``victim`` of a trial that is not the clean one."""
    eps = trial.eps / LEVELS
    if trial.attack in _WEIGHT_OF_ATTENTION:
        weight = _WEIGHT_OF_ATTENTION[trial.attack]
        attack = AttentionAttack(victim.watched, eps, eps / _STEPS_TO_THE_EDGE, 20, weight)
    else:
        attack = BUILDERS[trial.attack](eps, effort)
    return Restarted(attack, restarts) if trial.attack in _RESTARTED else attack
