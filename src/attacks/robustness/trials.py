"""Trials of a classifier and their results; no framework is imported."""

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
    """Attack on all images that the network classifies correctly."""

    attack: str
    """Name in ``CHOICES``."""
    eps: float = 0.0
    """Radius of the L-inf ball in grey levels."""
    transferred: bool = False
    """True if it attacks a surrogate network, whose images the network then classifies."""

    @property
    def name(self) -> str:
        return f"transfer_{self.attack}" if self.transferred else self.attack


@dataclass(frozen=True)
class TrialResult:
    """Predictions of a network for n images after a trial."""

    right: np.ndarray
    """True for each correctly classified image, (n,) bool. An image that is wrong without an attack is
    wrong under every attack."""
    linf: float
    """Largest change that was found, in grey levels."""


CLEAN = Trial("clean")


def suite(attacks: tuple[str, ...], eps: float) -> tuple[Trial, ...]:
    """Return a trial for each of the ``attacks``, after the clean one, which all others need."""
    attacked = (Trial(attack, eps) for attack in attacks if attack != CLEAN.attack)
    return tuple(dict.fromkeys([CLEAN, *attacked]))


def masking_suite(eps: float, *, with_surrogate: bool) -> tuple[Trial, ...]:
    """Return the trials whose comparison shows whether gradients are masked.

    Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018,
    section 3.1.
    """
    trials = [CLEAN, Trial(NOISE, eps), Trial("fgsm", eps), Trial("pgd20", eps)]
    trials += [Trial("pgd20", budget) for budget in MASKING_BUDGETS]
    if with_surrogate:
        trials.append(Trial("pgd20", eps, transferred=True))
    return tuple(dict.fromkeys(trials))
