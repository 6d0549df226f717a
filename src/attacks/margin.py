"""PGD on the margin loss of Carlini and Wagner.

Carlini and Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017 (f6, without
confidence), in the L-inf ball by PGD as in Madry et al., "Towards deep learning models resistant to
adversarial attacks", ICLR 2018.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import pgd, random_start

if TYPE_CHECKING:
    from src.attacks.registry import MarginPGD


def margin_pgd(attack: "MarginPGD", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Descend ``goal.missed_by`` by steps of eps / 4 from a uniformly random point, in pixels."""
    if victim.box != (0.0, 1.0):
        raise ValueError("the margin attack reads pixels in [0, 1]")
    eps = attack.radius
    start = random_start(images, eps, torch.default_generator)

    def margins(moved: Tensor) -> Tensor:
        return goal.missed_by(victim(moved))

    return pgd(images, margins, eps, eps / 4, attack.nb_iter, start=start)
