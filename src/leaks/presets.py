"""Published settings of inversion attacks, by their names.

The settings are those of Sun et al., "Privacy Assessment on Reconstructed Images" (NeurIPS 2023), which
include those of Gao et al. 2021 and Geiping et al. 2020, with the values that their code uses. ``dlg`` is
"Deep Leakage from Gradients" as Zhu et al. 2019 run it; ``zhu`` is the same attack with the published
rate of 1e-4, with which L-BFGS hardly moves. L-BFGS does not work with signs of gradients either:
``replace(preset, signed=False, lr=1.0)`` corrects ``inversed-LBFGS-sim``.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from src.artifacts.errors import UserError
from src.leaks.costs import COSTS, INDICES, LAYER_WEIGHTS

OPTIMIZERS = ("adam", "sgd", "lbfgs")
INITS = ("randn", "rand", "zeros")
SCORINGS = ("loss", "tv")


@dataclass(frozen=True)
class Preset:
    """Settings of an inversion. Points are images normalised with the extractor's mean and std."""

    cost: str = "sim"
    optimizer: Literal["adam", "sgd", "lbfgs"] = "adam"
    """Optimiser; SGD has Nesterov momentum of 0.9, and a step of L-BFGS needs up to 20 gradients."""
    lr: float = 0.1
    """Learning rate of points; with signed Adam about the size of first steps in standard deviations."""
    iterations: int = 4800
    restarts: int = 1
    tv: float = 1e-4
    """Weight of the total variation of points, mean |dx| + mean |dy|."""
    init: Literal["randn", "rand", "zeros"] = "randn"
    """Starting points: from N(0, 1), from U(-1, 1), or the mean colour."""
    signed: bool = True
    """Descend along the sign of the gradient."""
    boxed: bool = True
    """Clamp pixels to [0, 1] after each step."""
    decay: bool = True
    """Multiply the rate by 0.1 after 3/8, 5/8 and 7/8 of the iterations."""
    indices: str = "def"
    """Choice of shared tensors that count, one of ``costs.INDICES``."""
    weights: str = "equal"
    """Weights of these tensors, one of ``costs.LAYER_WEIGHTS``."""
    scoring: Literal["loss", "tv"] = "loss"
    """Measure of the best restart: lowest cost (without total variation) or lowest total variation."""

    def __post_init__(self) -> None:
        _check_known("cost", self.cost, COSTS)
        _check_known("optimizer", self.optimizer, OPTIMIZERS)
        _check_known("init", self.init, INITS)
        _check_known("indices", self.indices, INDICES)
        _check_known("weights", self.weights, LAYER_WEIGHTS)
        _check_known("scoring", self.scoring, SCORINGS)
        finite = math.isfinite(self.lr) and math.isfinite(self.tv)
        if not finite or self.lr <= 0 or self.tv < 0 or self.iterations < 1 or self.restarts < 1:
            raise UserError(
                "an inversion needs a positive rate and a non-negative weight of total variation, "
                "both finite, and at least one iteration and one restart"
            )


def _check_known(field: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise UserError(f"no inversion has {field} {value!r}: it is one of {', '.join(known)}")


PRESETS = {
    "inversed": Preset(iterations=8000),
    "inversed-zero": Preset(init="zeros"),
    "inversed-sim-out": Preset(cost="out_sim", init="zeros"),
    "inversed-sgd-sim": Preset(optimizer="sgd", lr=0.01),
    "inversed-LBFGS-sim": Preset(
        optimizer="lbfgs", lr=1e-4, iterations=300, restarts=16, decay=False
    ),
    "inversed-adam-L1": Preset(cost="l1"),
    "inversed-adam-L2": Preset(cost="l2"),
    "zhu": Preset(
        cost="l2",
        optimizer="lbfgs",
        lr=1e-4,
        iterations=50,
        restarts=2,
        tv=1e-3,
        signed=False,
        boxed=False,
        decay=False,
    ),
    "inversed_large": Preset(iterations=12_000, tv=1e-2),
    "inversed_large_24000_3_lr1": Preset(iterations=24_000, restarts=4, tv=1e-1),
    "inversed_large_12000_3_lr1": Preset(iterations=12_000, restarts=3, tv=1e-1),
    "inversed_large_8000_3_lr1": Preset(iterations=8000, restarts=3, tv=1e-1),
    "inversed_cele": Preset(iterations=12_000, restarts=3, tv=1e-1),
    "dlg": Preset(
        cost="l2",
        optimizer="lbfgs",
        lr=1.0,
        iterations=300,
        tv=0.0,
        signed=False,
        boxed=False,
        decay=False,
    ),
}


def find_preset(name: str) -> Preset:
    """Return the preset ``name``; ``UserError`` lists all names if there is none."""
    _check_known("preset", name, PRESETS)
    return PRESETS[name]
