"""What is tried on a classifier, and what comes of it, without a framework."""

from dataclasses import dataclass

import numpy as np

from src.attacks.registry import ATTACKS, PRESETS

CHOICES: dict[str, str] = {
    "clean": "no attack",
    **{
        name: attack.__doc__.splitlines()[0].rstrip(".")
        for name, attack in ATTACKS.items()
        if name not in PRESETS
    },
    **{name: what for name, (what, _) in PRESETS.items()},
}
"""Description of every attack that may be tried, by the name that tables show."""

USUAL = ("clean", "stepll", "r_stepll", "iterll", "pgd20", "cw", "autoattack")

NOISE = "noise"
"""Random signs of the size of the budget: the control of the masking checks."""

MASKING_BUDGETS = (16.0, 32.0, 64.0, 128.0, 255.0)
"""Grey levels. The last one reaches every image, so that no network withstands it."""


@dataclass(frozen=True)
class Trial:
    """One attack on all images that the network gets right."""

    attack: str
    """A name of ``CHOICES``."""
    eps: float = 0.0
    """Radius of the L-inf ball in grey levels."""
    transferred: bool = False
    """Whether it attacks another network, the surrogate, whose finds the network then judges."""

    @property
    def name(self) -> str:
        return f"transfer_{self.attack}" if self.transferred else self.attack


@dataclass(frozen=True)
class TrialResult:
    """What a network makes of n images after a trial."""

    right: np.ndarray
    """(n,) bool. An image that is wrong without an attack is wrong under every attack."""
    linf: float
    """The largest change that was found, in grey levels."""


CLEAN = Trial("clean")


def suite(attacks: tuple[str, ...], eps: float) -> tuple[Trial, ...]:
    """A trial for each of the ``attacks``; the clean one first, because all others need it."""
    attacked = (Trial(attack, eps) for attack in attacks if attack != CLEAN.attack)
    return tuple(dict.fromkeys([CLEAN, *attacked]))


def masking_suite(eps: float, *, with_surrogate: bool) -> tuple[Trial, ...]:
    """The trials whose comparison shows whether gradients are masked.

    Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018,
    section 3.1.
    """
    trials = [CLEAN, Trial(NOISE, eps), Trial("fgsm", eps), Trial("pgd20", eps)]
    trials += [Trial("pgd20", budget) for budget in MASKING_BUDGETS]
    if with_surrogate:
        trials.append(Trial("pgd20", eps, transferred=True))
    return tuple(dict.fromkeys(trials))
