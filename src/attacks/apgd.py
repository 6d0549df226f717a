"""APGD: projected descent with momentum that chooses its own steps.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, section 3.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.attacks.attack import Goal, Victim
from src.attacks.pgd import Best, into_ball, per_image, steepest

if TYPE_CHECKING:
    from src.attacks.registry import APGD

_MOMENTUM = 0.75
_FALLING = 0.75
"""The share of steps between two checkpoints that have to lower the goal, or the step is halved."""


def apgd(attack: "APGD", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Return the best point of each image by ``goal.achieved`` within its ball.

    A step begins at 2 eps and is halved at checkpoints where the goal's value has stopped falling; the
    image goes on from the point of its lowest value then. Each image has its own steps.
    """
    order, steps = attack.budget.order, attack.nb_iter
    project = into_ball(images, attack.radius, order, victim.box)
    points = first_points(attack, images, project)
    value, achieved, gradient = look(victim, points, goal)
    best, lowest = Best(achieved, (points,)), Best(-value, (points, gradient))
    previous = points
    step = per_image(images.new_full((len(images),), 2 * attack.radius), images)
    falls = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    value_then, halved_then = value, torch.ones_like(falls, dtype=torch.bool)
    checkpoints = checkpoints_of(steps)
    last_checkpoint = 0
    for number in range(1, steps + 1):
        ahead = project(points - step * steepest(gradient, order))
        if number > 1:
            ahead = project(with_momentum(previous, points, ahead))
        previous, points, value_before = points, ahead, value
        value, achieved, gradient = look(victim, points, goal)
        best.update(achieved, points)
        lowest.update(-value, points, gradient)
        falls += value < value_before

        if number in checkpoints:
            lowest_value, (lowest_points, lowest_gradient) = -lowest.scores, lowest.kept
            stuck = ~halved_then & (lowest_value >= value_then)
            halve = (falls < _FALLING * (number - last_checkpoint)) | stuck
            chosen = per_image(halve, images)
            step = torch.where(chosen, step / 2, step)
            points = torch.where(chosen, lowest_points, points)
            gradient = torch.where(chosen, lowest_gradient, gradient)
            value = torch.where(halve, lowest_value, value)
            value_then, halved_then = lowest_value, halve
            falls.zero_()
            last_checkpoint = number
    return best.kept[0]


def checkpoints_of(steps: int) -> set[int]:
    """Return the steps after which APGD looks back: 22 % of them, then ever closer, at least 6 %."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {math.ceil(round(share * steps, 6)) for share in shares[1:-1]}


def first_points(attack: "APGD", images: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``images``, or for a random start points around them, uniform before ``project``."""
    if not attack.random_start:
        return images
    return project(images + torch.zeros_like(images).uniform_(-attack.radius, attack.radius))


def with_momentum(previous: Tensor, points: Tensor, ahead: Tensor) -> Tensor:
    """Return the step from ``points`` to ``ahead``, bent towards the one from ``previous``."""
    return points + _MOMENTUM * (ahead - points) + (1 - _MOMENTUM) * (points - previous)


def look(victim: Victim, points: Tensor, goal: Goal) -> tuple[Tensor, Tensor, Tensor]:
    """Return the goal's value (n,), what is achieved (n,), and the value's gradient at ``points``."""
    points = points.detach().requires_grad_()
    prediction = victim(points)
    value = goal(prediction)
    (gradient,) = torch.autograd.grad(value.sum(), points)
    with torch.no_grad():
        achieved = goal.achieved(prediction)
    return value.detach(), achieved, gradient
