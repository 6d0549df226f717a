"""AutoAttack from its authors' library.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020. Each attack sees only images that the attacks before it did not change the class of.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.attacks.attack import Goal, Victim
from src.attacks.goals import untargeted

if TYPE_CHECKING:
    from src.attacks.registry import AutoAttack, Effort

_FEWEST_CLASSES = 4
"""The targeted loss divides by a difference of the four largest logits."""
_MOST_TARGETS = 9

FAST_STEPS = 50
FAST_TARGETS = 3
FAST_QUERIES = 500


def auto_attack(attack: "AutoAttack", victim: Victim, images: Tensor, goal: Goal) -> Tensor:
    """Attack with the ensemble in the L-inf ball, untargeted, in pixels.

    ``standard`` is the published one: APGD-CE (100 steps), targeted APGD-DLR and targeted FAB (9 targets
    of 100 steps each, or one less than there are classes), Square (5000 queries). ``fast`` is APGD-CE of
    50 steps, targeted APGD-DLR with 3 targets of 50 steps, and Square with 500 queries, about a tenth of
    the work; the accuracy that it leaves is an upper bound of what ``standard`` leaves. Raises
    ``UserError`` for fewer than four classes.
    """
    goal = untargeted(goal)
    if victim.box != (0.0, 1.0):
        raise ValueError("AutoAttack reads pixels in [0, 1]")

    def logits(points: Tensor) -> Tensor:
        return victim(points).logits

    with torch.no_grad():
        n_classes = logits(images[:1]).shape[1]
    if n_classes < _FEWEST_CLASSES:
        raise UserError(f"AutoAttack needs {_FEWEST_CLASSES} classes, the network has {n_classes}")
    seed = int(torch.randint(2**31, ()))
    # The library seeds the global generators, whose state the caller needs unchanged.
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        n_targets = min(_MOST_TARGETS, n_classes - 1)
        ensemble = build_ensemble(
            logits, attack.radius, attack.effort, n_targets, seed, images.device
        )
        attacked, _ = ensemble.run_standard_evaluation(
            images, goal.classes, batch_size=max(len(images), 1)
        )
    # Its clipping can leave the ball by a rounding error.
    return (
        attacked.clamp(images - attack.radius, images + attack.radius).clamp(*victim.box).detach()
    )


def build_ensemble(
    logits: Callable[[Tensor], Tensor],
    eps: float,
    effort: "Effort",
    n_targets: int,
    seed: int,
    device: torch.device,
) -> Any:
    """Return the library's object, to be called with ``run_standard_evaluation``."""
    import pyautoattack
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    shared = {"eps": eps, "seed": seed, "device": device}
    if effort == "standard":
        ensemble = pyautoattack.AutoAttack(logits, version="standard", **shared)
        ensemble.apgd_targeted.n_target_classes = n_targets
        ensemble.fab.n_target_classes = n_targets
        return ensemble
    ensemble = pyautoattack.AutoAttack(
        logits, version="custom", attacks=["apgd-ce", "apgd-t", "square"], **shared
    )
    shared |= {"n_iter": FAST_STEPS, "logger": ensemble.logger}
    ensemble.apgd = APGDAttack(logits, **shared)
    ensemble.apgd_targeted = APGDAttack_targeted(
        logits, n_target_classes=min(FAST_TARGETS, n_targets), **shared
    )
    ensemble.square.n_queries = FAST_QUERIES
    return ensemble
