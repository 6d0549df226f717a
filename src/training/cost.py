"""Cost of a training step of a classifier's recipe, in forward-backward passes over its pictures."""

from dataclasses import dataclass

from src.training.adversaries import Adversary
from src.training.attention import Rectify
from src.training.losses import MixedCrossEntropy
from src.training.objectives import diverge, resemble_least_likely
from src.training.recipes import Recipe
from src.training.terms import benign_departure, prediction_shift

FORWARD = 1 / 3
INPUT_GRADIENT = 2 / 3
"""Cost of a forward, and a backward to pixels without the gradients of weights, which cost 1 / 3."""
SECOND_BACKWARD = 0.5
"""Cost of a backward through a map that is itself a gradient at a late layer: 0.47 at layer3 of a
ResNet50 at 224 pixels (1.25 at layer2)."""

_READ_BENIGN = (diverge, resemble_least_likely)


@dataclass(frozen=True)
class Cost:
    """Units per drawn picture; 1 is the forward and the backward pass of plain training."""

    attack: float
    training: float

    @property
    def total(self) -> float:
        return self.attack + self.training

    def __str__(self) -> str:
        return f"{self.total:.2f} units a step ({self.attack:.2f} of them the attack)"


def cost_of(recipe: Recipe, closed_form: bool = True) -> Cost:
    """Return the cost of one step; a gate counts with all steps that it may add.

    ``closed_form`` is true if attention is read without differentiation.
    """
    return Cost(_attack(recipe.adversary), _training(recipe, closed_form))


def _attack(adversary: object) -> float:
    # A free adversary takes its gradient from the backward pass of training.
    if not isinstance(adversary, Adversary):
        return 0.0
    steps, forwards = adversary.steps, int(adversary.objective in _READ_BENIGN)
    if adversary.gate is not None:
        steps, forwards = steps + adversary.gate.steps, forwards + 1
    return steps * INPUT_GRADIENT + forwards * FORWARD


def _training(recipe: Recipe, closed_form: bool) -> float:
    terms = [term for _, term in recipe.terms]
    both = isinstance(recipe.loss, MixedCrossEntropy)
    both |= prediction_shift in terms or benign_departure in terms
    units = 2.0 if both else 1.0
    for term in terms:
        if isinstance(term, Rectify):
            units += (2 if term.branches == "both" else 1) / term.every
    if recipe.has_teacher or recipe.fine_tunes:
        units += FORWARD
    if recipe.attention is not None and not closed_form:
        units += SECOND_BACKWARD
    return units
