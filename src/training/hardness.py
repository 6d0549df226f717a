"""Hardness of triplets, H = d(a, p) - d(a, n), and destinations to which an adversary drives it.

Hardness manipulation HM[S, D] perturbs the triplets of a source miner S until they are as hard as the
destination D (Zhou and Patel, "Enhancing Adversarial Robustness for Deep Metric Learning", CVPR 2022,
section 3). A gradual adversary computes the destination from the last training loss: it is weak while the
loss is large, and hardest, H = 0, at a loss of 0.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.training.distances import distance
from src.training.miners import MINERS, Miner

INITIAL_LOSS = 2.0
"""Value of the last loss in the first step."""


def hardness(anchor: Tensor, positive: Tensor, negative: Tensor, metric: str = "N") -> Tensor:
    """Return d(a, p) - d(a, n) of embeddings (t, d) row by row: (t,), in [-2, 2] for C and N.

    It is above 0 if the negative is nearer than the positive.
    """
    return distance(anchor, positive, metric) - distance(anchor, negative, metric)


def one_sided(hardness: Tensor, destination: Tensor) -> Tensor:
    """Return relu(H_D - H)^2, whose gradient is exactly 0 for triplets that are hard enough."""
    return (destination - hardness).relu().square()


def two_sided(hardness: Tensor, destination: Tensor) -> Tensor:
    """Return (H - H_D)^2, which also makes harder triplets easier."""
    return (hardness - destination).square()


def divergence(hardness: Tensor, destination: Tensor) -> Tensor:
    """Return each triplet's term of KL(destination || hardness), as distributions over the batch.

    H + 2 lies in [0, 4]; scaled to the sum 1 it is a distribution over triplets. Only relative hardness
    counts, so that any constant destination asks for equally hard triplets.
    """
    wanted, present = _shares(destination.expand_as(hardness)), _shares(hardness)
    return wanted * (wanted.log() - present.log())


def _shares(hardness: Tensor) -> Tensor:
    positive = (hardness + 2).clamp_min(1e-6)
    return positive / positive.sum()


class Destination(Protocol):
    """Hardness at which perturbed triplets stop, for the anchors of a batch in their order."""

    def __call__(
        self,
        embeddings: Tensor,
        classes: Tensor,
        last_loss: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the destination (n / 2,) of the triplets of a batch, without gradient.

        Inputs are clean embeddings (n, d) of pairs, classes (n,) and the loss of the previous step.
        Distances are on the unit sphere.
        """
        ...


@dataclass(frozen=True)
class MinerHardness:
    """Hardness of the clean triplets that a miner finds for the same anchors."""

    miner: Miner

    @torch.no_grad()
    def __call__(
        self,
        embeddings: Tensor,
        classes: Tensor,
        last_loss: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        return hardness(*self.miner(embeddings, classes, generator).of(embeddings))

    def __str__(self) -> str:
        return f"H of {self.miner}"


@dataclass(frozen=True)
class Constant:
    """Constant hardness of all triplets; 2 cannot be reached, so that H is maximised without limit."""

    value: float

    def __call__(
        self,
        embeddings: Tensor,
        classes: Tensor,
        last_loss: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        return embeddings.new_full((len(embeddings) // 2,), self.value)

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True)
class LossGuided:
    """Hardness -gamma lbar^power: -gamma for a last loss of ``ceiling`` or more, 0 for a loss of 0."""

    power: float = 1.0
    """Exponent: 1 is the linear gradual adversary (LGA), 2 is harder early, 1/2 is weaker."""
    gamma: float = 0.2
    ceiling: float = 0.2

    def __call__(
        self,
        embeddings: Tensor,
        classes: Tensor,
        last_loss: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        return self.at(last_loss).to(embeddings).expand(len(embeddings) // 2)

    def at(self, last_loss: float | Tensor) -> Tensor:
        return -self.gamma * normalised_loss(last_loss, self.ceiling) ** self.power

    def __str__(self) -> str:
        exponent = "" if self.power == 1 else f"^{self.power:g}"
        return f"-{self.gamma:g} {_lbar(self.ceiling)}{exponent}"


@dataclass(frozen=True)
class Boosted:
    """Another destination plus ``xi`` (1 - lbar), which adds up to ``xi`` as the last loss falls."""

    destination: Destination
    xi: float = 0.1
    ceiling: float = 0.2

    def __call__(
        self,
        embeddings: Tensor,
        classes: Tensor,
        last_loss: float | Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        hard = self.destination(embeddings, classes, last_loss, generator)
        return hard + (self.xi * (1 - normalised_loss(last_loss, self.ceiling))).to(hard)

    def __str__(self) -> str:
        return f"{self.destination} + {self.xi:g} (1 - {_lbar(self.ceiling)})"


def normalised_loss(last_loss: float | Tensor, ceiling: float) -> Tensor:
    """Return lbar = clip(l, 0, u) / u in [0, 1], a scalar float64 on the loss's device."""
    return torch.as_tensor(last_loss, dtype=torch.float64).clamp(0, ceiling) / ceiling


def _lbar(ceiling: float) -> str:
    return f"(clip(l, 0, {ceiling:g}) / {ceiling:g})"


DESTINATIONS: dict[str, Destination] = {
    **{name: MinerHardness(miner) for name, miner in MINERS.items()},
    "lga": LossGuided(),
    "g2": LossGuided(power=2),
    "g1/2": LossGuided(power=0.5),
}


def parse_destination(text: str) -> Destination:
    """Parse a name of ``DESTINATIONS``, a number in [-2, 2], or ``boost:`` before either.

    Raises ``UserError`` for other texts.
    """
    if text.startswith("boost:"):
        return Boosted(parse_destination(text.removeprefix("boost:")))
    if text in DESTINATIONS:
        return DESTINATIONS[text]
    try:
        value = float(text)
    except ValueError:
        value = torch.nan
    if not -2 <= value <= 2:
        names = ", ".join(DESTINATIONS)
        raise UserError(
            f"unknown hardness {text}: choose from {names}, a number in [-2, 2] or boost:<one of these>"
        )
    return Constant(value)
