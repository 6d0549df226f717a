"""FGSM and PGD, by CleverHans.

FGSM: Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples".
PGD: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks".
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor

from src.artifacts.errors import UserError
from src.attacks.goals import Box, Goal, Logits

FGSM_NORMS = (math.inf, 1, 2)
PGD_NORMS = (math.inf, 2)


@dataclass(frozen=True)
class FGSM:
    """One step of size ``eps``: x' = x - eps * sign(grad CE(x, target)), and its L2 and L1 kin."""

    eps: float
    """Size of the step in units of the attacked space."""
    norm: float = math.inf

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        low, high = box or (None, None)
        with _explained():
            attacked = fast_gradient_method(
                logits,
                points,
                self.eps,
                self.norm,
                clip_min=low,
                clip_max=high,
                y=goal.classes,
                targeted=goal.targeted,
                sanity_checks=False,
            )
        return attacked.detach()


@dataclass(frozen=True)
class PGD:
    """``steps`` steps of size ``step``, each projected onto the ball of ``eps``; the last iterate."""

    eps: float
    """Radius of the ball in units of the attacked space."""
    step: float
    steps: int = 10
    norm: float = math.inf
    random_start: bool = True
    """Start from a uniformly random point of the ball; without it this is BIM."""

    def __call__(self, logits: Logits, points: Tensor, goal: Goal, box: Box | None) -> Tensor:
        low, high = box or (None, None)
        with _explained():
            attacked = projected_gradient_descent(
                logits,
                points,
                self.eps,
                self.step,
                self.steps,
                self.norm,
                clip_min=low,
                clip_max=high,
                y=goal.classes,
                targeted=goal.targeted,
                # Its default changed between versions of the library.
                rand_init=self.random_start,
                # The checks end in numpy.all of tensors, which fails on CUDA.
                sanity_checks=False,
            )
        return attacked.detach()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """CleverHans asserts that its step has the length it wants, without a word when it has not."""
    try:
        yield
    except AssertionError as error:
        raise UserError(
            "CleverHans cannot normalise a gradient (it vanished or is not finite): use --l inf"
        ) from error
