"""PGD on the margin loss of Carlini and Wagner.

Carlini and Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017 (f6, without
confidence), in the L-inf ball by PGD as in Madry et al., "Towards deep learning models resistant to
adversarial attacks", ICLR 2018.
"""

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import pgd, random_start


def margin_pgd(
    victim: Victim, images: Tensor, goal: Goal, eps: float, step: float, steps: int
) -> Tensor:
    """Descend ``goal.missed_by`` from a uniformly random point of the ball, in pixels."""
    if victim.box != (0.0, 1.0):
        raise ValueError("the margin attack reads pixels in [0, 1]")
    start = random_start(images, eps, torch.default_generator)
    return pgd(images, lambda moved: goal.missed_by(victim(moved)), eps, step, steps, start=start)
