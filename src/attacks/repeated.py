"""Attacks that repeat another attack for the images that need it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.attack import Attack, Goal, Victim
from src.attacks.goals import predict_reached
from src.attacks.pgd import Best


@dataclass(frozen=True)
class Restarted:
    """Repetition of ``attack`` from other random starts on images that have not reached their goal.

    An image keeps its first success, or the result of the last repetition. Each repetition costs one
    more pass, which judges the result.
    """

    attack: Attack
    restarts: int

    def __call__(self, victim: Victim, images: Tensor, goal: Goal) -> Tensor:
        attacked = images.clone()
        open_rows = torch.arange(len(images), device=images.device)
        for _ in range(self.restarts):
            attacked[open_rows] = self.attack(victim, images[open_rows], goal[open_rows])
            reached = predict_reached(victim, attacked[open_rows], goal[open_rows])
            open_rows = open_rows[~reached]
            if len(open_rows) == 0:
                break
        return attacked


@dataclass(frozen=True)
class BestOfRestarts:
    """Repetition of ``attack`` from random starts; each image keeps its best by ``goal.achieved``."""

    attack: Attack
    restarts: int

    def __call__(self, victim: Victim, images: Tensor, goal: Goal) -> Tensor:
        best = Best(torch.full_like(images[:, 0, 0, 0], -torch.inf), (images,))
        for _ in range(self.restarts):
            attacked = self.attack(victim, images, goal)
            with torch.no_grad():
                best.update(goal.achieved(victim(attacked)), attacked)
        return best.kept[0]


@dataclass(frozen=True)
class Rechecked:
    """Repetition of ``attack`` on the exact network for images that fool only the tuned copy.

    An attack that looks for the smallest change ends on the class boundary of the network it sees;
    with bf16 about a fifth of its results are on the wrong side of the exact boundary.
    """

    attack: Attack
    exact: Victim
    """Network that judges, called on the same images."""

    def __call__(self, victim: Victim, images: Tensor, goal: Goal) -> Tensor:
        attacked = self.attack(victim, images, goal)
        missed = ~predict_reached(self.exact, attacked, goal)
        if missed.any():
            attacked[missed] = self.attack(self.exact, images[missed], goal[missed])
        return attacked
