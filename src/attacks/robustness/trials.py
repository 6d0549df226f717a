"""What is tried on a classifier, and what comes of it, without a framework."""

from dataclasses import dataclass

import numpy as np

ATTACKS: dict[str, str] = {
    "clean": "no attack",
    "fgsm": "one step",
    "stepll": "one step towards the least likely class",
    "r_stepll": "the same behind a random step",
    "iterll": "steps of a grey level towards it",
    "pgd20": "20 steps of eps / 4 from a random point",
    "pgd100": "100 of them",
    "cw": "50 of them on the margin loss of Carlini and Wagner, the C&W of L-inf tables",
    "keep20": "pgd20 that keeps attention where it was, adapted to defences that watch it",
    "push20": "pgd20 that also drives it away",
    "autoattack": "the ensemble of Croce and Hein",
}
"""By the name that tables show: what it is."""

USUAL = ("clean", "stepll", "r_stepll", "iterll", "pgd20", "cw", "autoattack")

NOISE = "noise"
"""Random signs of the size of the budget: the control of the masking checks."""

MASKING_BUDGETS = (16.0, 32.0, 64.0, 128.0, 255.0)
"""Grey levels. The last one reaches every image, so that no network withstands it."""


@dataclass(frozen=True)
class Trial:
    """One attack on all images that the network gets right."""

    attack: str
    """One of ``ATTACKS``, or ``NOISE``."""
    eps: float = 0.0
    """Radius of the L-inf ball in grey levels."""
    transferred: bool = False
    """Whether it attacks another network, the surrogate, whose finds the network then judges."""

    @property
    def name(self) -> str:
        return f"transfer_{self.attack}" if self.transferred else self.attack


@dataclass(frozen=True)
class Outcome:
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
