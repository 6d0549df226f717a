"""Goals of attacks on classes: images are to reach a class, or to leave one."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.attacks.attack import Goal, Victim
from src.extractors.extractor import Prediction


@dataclass(frozen=True)
class ClassGoal:
    """A class for every image: to be reached (targeted) or to be left (untargeted)."""

    classes: Tensor
    """(N,) int64."""
    targeted: bool = True

    def __call__(self, prediction: Prediction) -> Tensor:
        """Cross-entropy (N,) of the class to reach, or minus that of the class to leave."""
        loss = functional.cross_entropy(logits_of(prediction), self.classes, reduction="none")
        return loss if self.targeted else -loss

    def achieved(self, prediction: Prediction) -> Tensor:
        """Minus the goal's value (N,)."""
        return -self(prediction)

    def missed_by(self, prediction: Prediction) -> Tensor:
        """Lead (N,) in logits of the best wrong class: of any other, or of the class to leave."""
        logits = logits_of(prediction)
        own = logits.gather(1, self.classes[:, None])[:, 0]
        others = logits.scatter(1, self.classes[:, None], -torch.inf).max(dim=1).values
        return others - own if self.targeted else own - others

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        """Which images are where the attack wants them, (N,) bool, by a margin of ``confidence``.

        The margin is taken from the target's logit, or added to that of the class to leave, before
        the largest logit is looked for.
        """
        logits = logits_of(prediction)
        margin = -confidence if self.targeted else confidence
        shifted = logits.scatter_add(
            1, self.classes[:, None], logits.new_full((len(logits), 1), margin)
        )
        return (shifted.argmax(dim=1) == self.classes) == self.targeted

    def __getitem__(self, rows: Tensor) -> "ClassGoal":
        return ClassGoal(self.classes[rows], self.targeted)

    def to(self, device: torch.device) -> "ClassGoal":
        return ClassGoal(self.classes.to(device), self.targeted)


def logits_of(prediction: Prediction) -> Tensor:
    """Return the logits (N, C); ``UserError`` where the extractor has no head."""
    if prediction.logits is None:
        raise UserError("an extractor without a head scores no classes, so that none can be a goal")
    return prediction.logits


def predict_reached(victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """``goal.reached`` of the images as they are, (N,) bool, without gradients."""
    with torch.no_grad():
        return goal.reached(victim(images))


def class_goal(goal: Goal) -> ClassGoal:
    """``goal``, for attacks that know classes alone; ``ValueError`` for any other kind."""
    if not isinstance(goal, ClassGoal):
        raise ValueError("this attack knows classes alone: its goal must be a ClassGoal")
    return goal


def untargeted(goal: Goal) -> ClassGoal:
    """``goal``, for attacks that only leave a class; ``ValueError`` for any other kind."""
    if class_goal(goal).targeted:
        raise ValueError("this attack only leaves a class: its goal must be untargeted")
    return goal
