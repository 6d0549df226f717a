"""Optimisation loop that finds images whose observation matches the shared one.

For every target it minimises

    cost(observe(x), observed) + tv * TV(x)

Targets are independent, and Adam and SGD update every pixel separately, so that a stack of targets gives
the same results as single targets. L-BFGS mixes all variables and therefore gets one target at a time.
The loop optimises points, images normalised with the extractor's mean and std, as the published code
does, so that published rates, starts from N(0, 1) and weights of TV keep their meaning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.leaks.costs import Matching
from src.leaks.observations import Observation
from src.leaks.presets import Preset

_TINY = 1e-30
_DECAYS = (2.667, 1.6, 1.142)
"""Divisors of the number of iterations that give, rounded down, the published steps of rate decay."""
_RECORDS = 100
"""Largest number of entries of a history."""
_STARTS = {
    "randn": lambda rng, shape: rng.standard_normal(shape, dtype=np.float32),
    "rand": lambda rng, shape: 2 * rng.random(shape, dtype=np.float32) - 1,
    "zeros": lambda rng, shape: np.zeros(shape, dtype=np.float32),
}


@dataclass(frozen=True)
class Reconstruction:
    """Reconstruction of each target, on the observation's device."""

    images: Tensor
    """Images of the requested shape, float32 in [0, 1]."""
    costs: Tensor
    """Costs (targets,) of the images, without total variation; infinite if all restarts diverged, for
    which the image is the mean colour."""
    restarts: Tensor
    """Number (targets,) int64 of the best restart; -1 if all restarts diverged."""
    history: Tensor
    """Costs (records, targets) of the best restart at even distances, the first before any step."""
    shares: Tensor | None = None
    """Shares of classes, (targets, C) or (targets, n, C), if classes were optimised too."""

    def update(self, other: "Reconstruction", better: Tensor) -> None:
        """Replace the targets marked in ``better`` (targets,) bool by those of ``other``."""
        for mine, theirs in (
            (self.images, other.images),
            (self.costs, other.costs),
            (self.restarts, other.restarts),
            (self.history.T, other.history.T),
        ):
            mine[better] = theirs[better]
        if self.shares is not None and other.shares is not None:
            self.shares[better] = other.shares[better]


def reconstruct(
    observe: Observation,
    observed: Sequence[Tensor],
    shape: Sequence[int],
    preset: Preset,
    *,
    seed: int,
    targets: int = 32,
    ids: Sequence[int] | None = None,
    n_classes: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Reconstruction:
    """Find images whose observation by ``observe`` matches ``observed``.

    ``shape`` is (targets, 3, H, W) or (targets, n, 3, H, W). ``observed`` is the observation of the
    real images, possibly after a defence. With ``n_classes`` the classes of ``observe`` are not used:
    shares of classes are optimised beside the images, as in Zhu et al. ``targets`` bounds the size of
    a stack and thereby the memory. The starts of a target come from a random stream of ``seed``, the
    restart and the target's entry of ``ids`` (default: its position). ``progress`` is called after
    every step with the number of targets in it; the total is
    ``shape[0] * preset.restarts * preset.iterations``.

    Raises ``UserError`` if ``shape``, ``observed`` and ``ids`` differ in their number of targets.
    """
    shape, names = tuple(shape), list(range(shape[0]) if ids is None else ids)
    if len(shape) not in (4, 5) or shape[-3] != 3:
        raise UserError(f"images of a reconstruction are (targets, [n,] 3, H, W), not {shape}")
    lengths = {shape[0], len(names), *(len(tensor) for tensor in observed)}
    if observe.given is not None and n_classes is None:
        lengths.add(len(observe.given))
    if len(lengths) > 1 or shape[0] == 0:
        raise UserError(f"a reconstruction of {shape[0]} targets got inputs for {sorted(lengths)}")
    size = 1 if preset.optimizer == "lbfgs" else targets
    parts = [
        _best_restart(
            _Problem.of(
                observe[rows], [tensor[rows] for tensor in observed], shape[1:], preset, n_classes
            ),
            seed,
            names[rows],
            progress or _no_progress,
        )
        for rows in (slice(first, first + size) for first in range(0, shape[0], size))
    ]
    return Reconstruction(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "costs")),
        torch.cat([part.restarts for part in parts]),
        torch.cat([part.history for part in parts], dim=1),
        None if n_classes is None else torch.cat([part.shares for part in parts]),
    )


def _no_progress(_: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class _Problem:
    """Stack of targets with the cost to minimise."""

    observe: Observation
    matching: Matching
    shape: tuple[int, ...]
    """Shape of one target's images."""
    preset: Preset
    n_classes: int | None

    @classmethod
    def of(
        cls,
        observe: Observation,
        observed: Sequence[Tensor],
        shape: tuple[int, ...],
        preset: Preset,
        n_classes: int | None,
    ) -> "_Problem":
        on_device = [tensor.to(observe.extractor.device) for tensor in observed]
        matching = Matching.of(preset.cost, on_device, preset.indices, preset.weights)
        return cls(observe, matching, shape, preset, n_classes)

    @property
    def box(self) -> tuple[Tensor, Tensor]:
        """Points of black and of white, (3, 1, 1)."""
        mean, std = self.observe.extractor.mean, self.observe.extractor.std
        return (0 - mean) / std, (1 - mean) / std

    def start(self, seed: int, restart: int, names: Sequence[int]) -> list[Tensor]:
        """Return the variables to optimise: points and, if classes are optimised, their logits."""
        rngs = [np.random.default_rng([seed, restart, name]) for name in names]
        drawn = [np.stack([_STARTS[self.preset.init](rng, self.shape) for rng in rngs])]
        if self.n_classes is not None:
            logits = (*self.shape[:-3], self.n_classes)
            drawn.append(np.stack([_STARTS["randn"](rng, logits) for rng in rngs]))
        device = self.observe.extractor.device
        return [torch.from_numpy(array).to(device).requires_grad_() for array in drawn]

    def costs(self, moved: Sequence[Tensor], matching: Matching) -> Tensor:
        """Return the costs (targets,) without total variation."""
        shares = moved[1].softmax(dim=-1) if len(moved) > 1 else None
        return matching(self.observe(self.images(moved[0]), shares))

    def images(self, points: Tensor) -> Tensor:
        """Convert points to pixels, which may lie outside [0, 1]."""
        return points * self.observe.extractor.std + self.observe.extractor.mean


def total_variation(points: Tensor) -> Tensor:
    """Return mean |dx| + mean |dy| of each target's images (targets, ..., H, W): (targets,)."""
    return sum(points.diff(dim=axis).abs().flatten(1).mean(dim=1) for axis in (-1, -2))


def _best_restart(
    problem: _Problem, seed: int, names: Sequence[int], progress: Callable[[int], object]
) -> Reconstruction:
    """Return the restart with the lowest score for each target; restarts that diverged never win."""
    best, lowest = None, None
    for restart in range(problem.preset.restarts):
        moved = problem.start(seed, restart, names)
        history = _descend(problem, moved, np.random.default_rng([seed, restart]), progress)
        found, scores = _scored(problem, moved, history, restart)
        if best is None or lowest is None:
            best, lowest = _all_diverged(problem, found), torch.full_like(scores, torch.inf)
        better = scores < lowest
        best.update(found, better)
        lowest = torch.where(better, scores, lowest)
    return best


def _descend(
    problem: _Problem,
    moved: list[Tensor],
    rng: np.random.Generator,
    progress: Callable[[int], object],
) -> Tensor:
    """Optimise the variables ``moved`` in place; return the history of costs (records, targets)."""
    preset, points = problem.preset, moved[0]
    optimizer = _optimizer(preset, moved)
    milestones = [int(preset.iterations // share) for share in _DECAYS] if preset.decay else []
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    costs = torch.empty(0)
    scale = 1.0 if preset.optimizer != "lbfgs" else None

    def evaluate() -> Tensor:
        nonlocal costs, scale
        costs = problem.costs(moved, problem.matching.drawn(rng))
        objective = (costs + preset.tv * total_variation(points)).sum()
        if scale is None:
            # L-BFGS stops below absolute tolerances, and short gradients are below them at the start.
            scale = max(1.0, 1 / max(objective.item(), _TINY))
        objective = scale * objective
        for variable, gradient in zip(moved, torch.autograd.grad(objective, moved), strict=True):
            variable.grad = gradient
        if preset.signed:
            points.grad.sign_()
        return objective.detach()

    history = []
    for iteration in range(preset.iterations):
        optimizer.step(evaluate)
        schedule.step()
        if preset.boxed:
            with torch.no_grad():
                points.clamp_(*problem.box)
        if iteration % -(-preset.iterations // _RECORDS) == 0:
            history.append(costs.detach())
        progress(len(points))
    return torch.stack(history)


def _optimizer(preset: Preset, moved: list[Tensor]) -> torch.optim.Optimizer:
    if preset.optimizer == "adam":
        return torch.optim.Adam(moved, preset.lr)
    if preset.optimizer == "sgd":
        return torch.optim.SGD(moved, preset.lr, momentum=0.9, nesterov=True)
    return torch.optim.LBFGS(moved, preset.lr)


def _scored(
    problem: _Problem, moved: list[Tensor], history: Tensor, restart: int
) -> tuple[Reconstruction, Tensor]:
    """Return the reconstruction of a restart and its scores (targets,); lower is better, NaN diverged."""
    with torch.no_grad():
        points = moved[0]
        costs = problem.costs(moved, problem.matching)
        scores = costs if problem.preset.scoring == "loss" else total_variation(points)
        found = Reconstruction(
            problem.images(points).clamp(0, 1),
            costs,
            torch.full(costs.shape, restart, device=costs.device),
            history,
            moved[1].softmax(dim=-1) if len(moved) > 1 else None,
        )
        return found, torch.where(costs.isfinite(), scores, torch.nan)


def _all_diverged(problem: _Problem, like: Reconstruction) -> Reconstruction:
    """Return the result of targets for which every restart diverged."""
    mean_colour = problem.images(torch.zeros_like(like.images))
    return Reconstruction(
        mean_colour,
        torch.full_like(like.costs, torch.inf),
        torch.full_like(like.restarts, -1),
        torch.full_like(like.history, torch.nan),
        None if like.shares is None else torch.full_like(like.shares, 1 / like.shares.shape[-1]),
    )
