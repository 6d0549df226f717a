"""L2 attack of Carlini and Wagner 2017, "Towards Evaluating the Robustness of Neural Networks".

For every image the attack minimises, with Adam,

    ||x' - x||_2^2 + c * f(x'),   f(x') = max(0, max_{i != t} Z_i(x') - Z_t(x') + confidence)

(targeted; the two logits change places when a class is to be left), and searches the constant c by
bisection. x' stays in the box because it is a tanh of the free variable. Images are independent of
each other: each has its own c and stops on its own.

CleverHans 4.0.0 differs in three ways: a batch shares the mean of its constants, the bounds of the
search are views of the constant and move with it, and neither the variable nor Adam starts afresh
when c changes. With ``warm`` and ``alias`` on and ``abort="never"`` this engine gives bit for bit
what CleverHans gives for single images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from torch import Tensor

from src.attacks.attack import Box, Goal, Victim
from src.attacks.goals import class_goal

_UNBOUNDED = 1e9
"""An upper bound of c above this says that no search step has succeeded yet."""
_CHECKS = 10
"""How often in one search step an image may be given up."""
_PROGRESS = 0.9999
"""An image goes on while its loss is below this share of what it was at the last check."""


@dataclass(frozen=True)
class CarliniWagner:
    """C&W with the paper's algorithm; images without a success stay clean."""

    confidence: float = 0.0
    """Margin by which the target's logit must lead."""
    learning_rate: float = 5e-3
    initial_c: float = 1e-2
    search_steps: int = 5
    iterations: int = 1000
    """Adam steps of one search step."""
    abort: Literal["image", "never"] = "image"
    """Early stop: with ``image`` an image whose loss no longer falls leaves the search step."""
    warm: bool = False
    """True keeps the variable and Adam's moments over search steps."""
    alias: bool = False
    """True lets the bounds of the search follow c."""

    def __post_init__(self) -> None:
        if self.warm and self.abort != "never":
            raise ValueError("a warm search needs abort='never': given up images lag behind")

    def __call__(self, victim: Victim, points: Tensor, goal: Goal) -> Tensor:
        start = _Descent.start(points, goal, victim.box)
        best = _Best(start.clean.clone(), points.new_full((len(points),), torch.inf))
        search = _ConstantSearch.start(len(points), self.initial_c, points)
        descent = start
        for step in range(self.search_steps):
            if step and not self.warm:
                descent = _Descent.start(points, goal, victim.box)
            found = self._descend(victim, descent, search.c, best)
            search.update(found, self.alias)
        return best.images

    def _descend(self, victim: Victim, descent: "_Descent", c: Tensor, best: "_Best") -> Tensor:
        """Take one search step; return whether each image reached its goal in it, (N,) bool."""
        found = torch.zeros(len(c), dtype=torch.bool, device=c.device)
        rows = torch.arange(len(c), device=c.device)
        last_loss = torch.full_like(c, torch.inf)
        between_checks = max(1, self.iterations // _CHECKS)
        for iteration in range(self.iterations):
            images, reached, distance, loss = descent.step(
                victim, c[rows], self.confidence, self.learning_rate
            )
            found[rows] |= reached
            best.update(rows, images, distance, reached)
            if self.abort == "image" and iteration % between_checks == 0:
                going_on = loss <= _PROGRESS * last_loss
                if not going_on.all():
                    rows = rows[going_on]
                    descent.keep(going_on)
                    if len(rows) == 0:
                        break
                last_loss = loss[going_on]
        return found


@dataclass(frozen=True)
class CarliniWagnerCleverHans:
    """CleverHans' own C&W, image by image: in a batch it would mix the images' constants."""

    confidence: float = 0.0
    learning_rate: float = 5e-3
    initial_c: float = 1e-2
    search_steps: int = 5
    iterations: int = 1000

    def __call__(self, victim: Victim, points: Tensor, goal: Goal) -> Tensor:
        if victim.box is None:
            raise ValueError("CleverHans' C&W needs a box")
        goal = class_goal(goal)
        with torch.no_grad():
            n_classes = victim(points[:1]).logits.shape[1]
        attacked = [
            carlini_wagner_l2(
                lambda images: victim(images).logits,
                point,
                n_classes,
                y=label,
                targeted=goal.targeted,
                lr=self.learning_rate,
                confidence=self.confidence,
                clip_min=victim.box[0],
                clip_max=victim.box[1],
                initial_const=self.initial_c,
                binary_search_steps=self.search_steps,
                max_iterations=self.iterations,
            )
            for point, label in zip(points.split(1), goal.classes.split(1), strict=True)
        ]
        return torch.cat(attacked)


@dataclass
class _ConstantSearch:
    """Bisection of c for every image; all tensors are (N,)."""

    c: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def start(cls, n: int, initial_c: float, like: Tensor) -> "_ConstantSearch":
        return cls(
            like.new_full((n,), initial_c), like.new_zeros(n), like.new_full((n,), 10 * _UNBOUNDED)
        )

    def update(self, found: Tensor, alias: bool) -> None:
        """Lower c of images that succeeded, and raise it for the others, tenfold until one succeeds."""
        self.upper = torch.where(found, torch.minimum(self.upper, self.c), self.upper)
        self.lower = torch.where(found, self.lower, torch.maximum(self.lower, self.c))
        bounded = self.upper < _UNBOUNDED
        self.c = torch.where(bounded, (self.lower + self.upper) / 2, self.c * 10)
        if alias:
            self.upper = torch.where(bounded, self.c, self.upper)
            self.lower = torch.where(self.lower > 0, self.c, self.lower)


@dataclass
class _Best:
    """Nearest success of every image over all search steps."""

    images: Tensor
    distances: Tensor
    """Squared L2 norms (N,); infinite without a success."""

    def update(self, rows: Tensor, images: Tensor, distances: Tensor, reached: Tensor) -> None:
        better = reached & (distances < self.distances[rows])
        self.distances[rows] = torch.where(better, distances, self.distances[rows])
        if images.is_cpu:
            # This copies few images; `where` over all pixels would cost as much as Adam.
            self.images[rows[better]] = images[better]
        else:
            # A mask as an index would wait for the device in every step.
            chosen = better[:, None, None, None]
            self.images[rows] = torch.where(chosen, images, self.images[rows])


@dataclass
class _Descent:
    """Adam on the free variable of the images that are still attacked."""

    clean: Tensor
    to_images: Callable[[Tensor, Tensor], Tensor]
    """Function of (modifier, anchor) that returns images."""
    anchor: Tensor
    goal: Goal
    modifier: Tensor
    mean: Tensor
    """First moment of Adam."""
    square: Tensor
    """Second moment of Adam."""
    steps: int = 0

    @classmethod
    def start(cls, points: Tensor, goal: Goal, box: Box | None) -> "_Descent":
        clean, anchor, to_images = _bounded(points, box) if box else _free(points)
        modifier = torch.zeros_like(points)
        return cls(
            clean,
            to_images,
            anchor,
            goal,
            modifier,
            torch.zeros_like(modifier),
            torch.zeros_like(modifier),
        )

    def keep(self, rows: Tensor) -> None:
        """Keep only some of the images; ``rows`` is a mask."""
        self.goal = self.goal[rows]
        for name in ("clean", "anchor", "modifier", "mean", "square"):
            setattr(self, name, getattr(self, name)[rows])

    def step(
        self, victim: Victim, c: Tensor, confidence: float, learning_rate: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take one step; return images, reached, squared L2 and loss as they were before it."""
        modifier = self.modifier.detach().requires_grad_()
        images = self.to_images(modifier, self.anchor)
        prediction = victim(images)
        missed_by = self.goal.missed_by(prediction)
        # `maximum`, not `clamp`: it has a gradient if the margin is met exactly.
        hinge = torch.maximum(missed_by + confidence, torch.zeros_like(missed_by))
        distance = (images - self.clean).pow(2).sum(dim=(1, 2, 3))
        loss = c * hinge + distance
        (gradient,) = torch.autograd.grad(loss.sum(), modifier)
        self._adam(gradient, learning_rate)
        with torch.no_grad():
            reached = self.goal.reached(prediction, confidence)
        return (
            images.detach(),
            reached,
            distance.detach(),
            loss.detach(),
        )

    def _adam(self, gradient: Tensor, learning_rate: float) -> None:
        """Kingma and Ba 2015, with the operations in torch.optim's order, so that bits agree."""
        beta_1, beta_2, tiny = 0.9, 0.999, 1e-8
        self.steps += 1
        self.mean.lerp_(gradient, 1 - beta_1)
        self.square.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        scale = (1 - beta_2**self.steps) ** 0.5
        denominator = (self.square.sqrt() / scale).add_(tiny)
        step_size = learning_rate / (1 - beta_1**self.steps)
        self.modifier.addcdiv_(self.mean, denominator, value=-step_size)


def _bounded(points: Tensor, box: Box) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Return x' = box of (tanh(modifier + anchor) + 1) / 2, in the box for every modifier."""
    low, high = box
    clean = points.clamp(low, high)
    unit = ((clean - low) / (high - low)).clamp(0, 1)
    # Slightly inside, since arctanh is infinite at black and white pixels.
    anchor = torch.arctanh((unit * 2 - 1) * 0.999999)

    def to_images(modifier: Tensor, anchor: Tensor) -> Tensor:
        return (torch.tanh(modifier + anchor) + 1) / 2 * (high - low) + low

    return clean, anchor, to_images


def _free(points: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Return x' = x + modifier, without bounds."""
    return points, points, lambda modifier, anchor: modifier + anchor
