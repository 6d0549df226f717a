"""FGSM and PGD, with our engine and with CleverHans; both round alike.

FGSM: Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples".
PGD: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks".
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor

from src.artifacts.errors import UserError
from src.attacks.attack import LEVELS, Goal, Victim
from src.attacks.goals import class_goal
from src.attacks.pgd import Objective, descend, inside, into_ball, limit, steepest

if TYPE_CHECKING:
    from src.attacks.registry import FGSM, PGD, MomentumFGSM

_MOVED_BY_L1_PGD = 0.01
"""Share of the coordinates that a step of PGD within an L1 ball moves; a single one gets nowhere."""


def fgsm(attack: "FGSM", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Take one step of length eps in the norm of the budget: x' = x - eps sign(grad CE(x, target))."""
    return descend(
        images,
        mean_goal(victim, goal),
        lambda gradient: attack.radius * steepest(gradient, attack.budget.order),
        inside(victim.box),
        1,
    )


def projected_descent(attack: "PGD", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Take steps, each projected onto the ball."""
    eps, order, step = attack.radius, attack.budget.order, attack.step / LEVELS
    into_box = inside(victim.box)
    share = _MOVED_BY_L1_PGD if order == 1 else 0.0

    def project(points: Tensor) -> Tensor:
        # The sum is rounded as CleverHans rounds it.
        return into_box(images + limit(into_box(points) - images, eps, order))

    start = images
    if attack.random_start:
        noise = torch.zeros_like(images).uniform_(-eps, eps)
        start = into_box(images + limit(noise, eps, order))
    return descend(
        start,
        mean_goal(victim, goal),
        lambda gradient: step * steepest(gradient, order, share),
        project,
        attack.nb_iter,
    )


def momentum_descent(attack: "MomentumFGSM", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Take steps of eps / steps along gradients of L1 length 1, which are summed with a decay.

    MI-FGSM: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.
    """
    eps, order, steps = attack.radius, attack.budget.order, attack.nb_iter
    summed = torch.zeros_like(images)

    def step(gradient: Tensor) -> Tensor:
        length = gradient.abs().sum(tuple(range(1, gradient.ndim)), keepdim=True)
        summed.mul_(attack.decay).add_(
            gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)
        )
        return eps / steps * steepest(summed, order)

    project = into_ball(images, eps, order, victim.box)
    return descend(images, mean_goal(victim, goal), step, project, steps)


def mean_goal(victim: Victim, goal: Goal) -> Objective:
    """Return the mean of the goal over the images, whose gradient is that of CleverHans' loss."""
    return lambda points: goal(victim(points)).mean()


def cleverhans_fgsm(attack: "FGSM", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Attack with CleverHans' ``fgsm``."""
    low, high = victim.box or (None, None)
    goal = class_goal(goal)
    with _explained():
        attacked = fast_gradient_method(
            lambda points: victim(points).logits,
            images,
            attack.radius,
            attack.budget.order,
            clip_min=low,
            clip_max=high,
            y=goal.classes,
            targeted=goal.targeted,
            sanity_checks=False,
        )
    return attacked.detach()


def cleverhans_pgd(attack: "PGD", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Attack with CleverHans' ``projected_gradient_descent``, which has no L1 ball."""
    low, high = victim.box or (None, None)
    goal = class_goal(goal)
    with _explained():
        attacked = projected_gradient_descent(
            lambda points: victim(points).logits,
            images,
            attack.radius,
            attack.step / LEVELS,
            attack.nb_iter,
            attack.budget.order,
            clip_min=low,
            clip_max=high,
            y=goal.classes,
            targeted=goal.targeted,
            # The default of this argument changed between versions of the library.
            rand_init=attack.random_start,
            # CleverHans' checks end in numpy.all of tensors, which fails on CUDA.
            sanity_checks=False,
        )
    return attacked.detach()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Give CleverHans' assertion about the length of a step a message."""
    try:
        yield
    except AssertionError as error:
        raise UserError(
            "CleverHans cannot normalise a gradient (it vanished or is not finite): use --l inf, "
            "or --engine own"
        ) from error
