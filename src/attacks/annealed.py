"""Projected descent with momentum whose steps become shorter from the first to the last."""

from typing import TYPE_CHECKING

from torch import Tensor

from src.attacks.apgd import first_points, look, with_momentum
from src.attacks.attack import Goal, Victim
from src.attacks.pgd import Best, into_ball, steepest

if TYPE_CHECKING:
    from src.attacks.registry import Annealed

_LAST_STEP = 0.02
"""Length of the last step, as a share of the first."""


def annealed(attack: "Annealed", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Return the best point of each image by ``goal.achieved`` within its ball.

    The first step has the length eps, each further one is shorter by the same factor.
    """
    order, steps = attack.budget.order, attack.nb_iter
    project = into_ball(images, attack.radius, order, victim.box)
    previous = points = first_points(attack, images, project)
    _, achieved, gradient = look(victim, points, goal)
    best = Best(achieved, (points,))
    for number in range(steps):
        step = attack.radius * _LAST_STEP ** (number / max(steps - 1, 1))
        ahead = project(points - step * steepest(gradient, order))
        ahead = project(with_momentum(previous, points, ahead))
        previous, points = points, ahead
        _, achieved, gradient = look(victim, points, goal)
        best.update(achieved, points)
    return best.kept[0]
