"""Goals of attacks on classes: images shall reach a class, or leave one."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.attacks.attack import Goal, Victim
from src.extractors.extractor import Prediction


@dataclass(frozen=True)
class ClassGoal:
    """Class of every image that the attack shall reach (targeted) or leave (untargeted)."""

    classes: Tensor
    """Class numbers (N,) int64."""
    targeted: bool = True

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return cross-entropies (N,) of the classes to reach, or minus those of the classes to leave."""
        loss = functional.cross_entropy(logits_of(prediction), self.classes, reduction="none")
        return loss if self.targeted else -loss

    def achieved(self, prediction: Prediction) -> Tensor:
        """Return minus the goal's value (N,)."""
        return -self(prediction)

    def missed_by(self, prediction: Prediction) -> Tensor:
        """Return the lead (N,) in logits of the best class but the target, or of the class to leave."""
        logits = logits_of(prediction)
        own = logits.gather(1, self.classes[:, None])[:, 0]
        others = logits.scatter(1, self.classes[:, None], -torch.inf).max(dim=1).values
        return others - own if self.targeted else own - others

    def reached(self, prediction: Prediction, confidence: float = 0.0) -> Tensor:
        """Return whether each image reaches its goal by a margin of ``confidence``, (N,) bool.

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
    """Return the logits (N, C); ``UserError`` if the extractor has no head."""
    if prediction.logits is None:
        raise UserError("an extractor without a head scores no classes, so that none can be a goal")
    return prediction.logits


def predict_reached(victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Return ``goal.reached`` of ``images``, (N,) bool, computed without gradients."""
    with torch.no_grad():
        return goal.reached(victim(images))


def class_goal(goal: Goal) -> ClassGoal:
    """Return ``goal`` if it is a class goal; ``ValueError`` for any other kind."""
    if not isinstance(goal, ClassGoal):
        raise ValueError("this attack knows classes alone: its goal must be a ClassGoal")
    return goal


def untargeted(goal: Goal) -> ClassGoal:
    """Return ``goal`` if it is to leave a class; ``ValueError`` for any other kind."""
    if class_goal(goal).targeted:
        raise ValueError("this attack only leaves a class: its goal must be untargeted")
    return goal
