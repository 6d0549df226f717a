"""Defences that alter gradients before they are shared.

Noise and pruning: Zhu et al., "Deep Leakage from Gradients" (NeurIPS 2019), section 5.1. Clipping: Abadi
et al., "Deep Learning with Differential Privacy" (CCS 2016). Signs: Bernstein et al., "signSGD" (ICML
2018).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from src.artifacts.errors import UserError
from src.extractors.device import generator_on

Alteration = Callable[[Sequence[Tensor], Fraction, torch.Generator], Sequence[Tensor]]
"""Function (gradients, strength, generator) -> gradients; the first axis of tensors counts targets."""


@dataclass(frozen=True)
class SharingDefence:
    """Alteration of gradients with a strength."""

    name: str
    """Name that ``parse_gradient_defence`` reads."""
    alteration: Alteration
    strength: Fraction

    def __call__(
        self, gradients: Sequence[Tensor], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Alter the ``gradients`` of one mini-batch, a tensor for each parameter, into new tensors."""
        stacked = self.stacked([gradient[None] for gradient in gradients], generator)
        return tuple(gradient[0] for gradient in stacked)

    def stacked(
        self, gradients: Sequence[Tensor], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Alter the gradients of many targets; every tensor is (targets, ...).

        Each target is altered separately: clipping uses its norm, pruning its smallest entries.
        """
        with torch.no_grad():
            return tuple(self.alteration(gradients, self.strength, generator))


def _gaussian(gradients: Sequence[Tensor], scale: Fraction, generator: torch.Generator):
    """Return g + scale * N(0, 1)."""
    return [g + float(scale) * _draw(g, torch.Tensor.normal_, generator) for g in gradients]


def _laplace(gradients: Sequence[Tensor], scale: Fraction, generator: torch.Generator):
    """Return g + scale * Laplace(0, 1), the noise as the difference of two exponential variables."""
    return [
        g
        + float(scale)
        * (
            _draw(g, torch.Tensor.exponential_, generator)
            - _draw(g, torch.Tensor.exponential_, generator)
        )
        for g in gradients
    ]


def _draw(like: Tensor, fill: Callable[..., Tensor], generator: torch.Generator) -> Tensor:
    drawn = torch.empty(like.shape, dtype=like.dtype, device=like.device)
    return fill(drawn, generator=generator_on(like.device, generator))


def _prune(gradients: Sequence[Tensor], percent: Fraction, _: torch.Generator):
    """Keep the ceil((1 - percent / 100) n) entries of largest magnitude of every tensor."""
    return [_largest(g.flatten(1), (100 - percent) / 100).view_as(g) for g in gradients]


def _largest(entries: Tensor, share: Fraction) -> Tensor:
    kept = entries.abs().topk(math.ceil(share * entries.shape[1]), dim=1).indices
    return torch.zeros_like(entries).scatter(1, kept, entries.gather(1, kept))


def _clip(gradients: Sequence[Tensor], bound: Fraction, _: torch.Generator):
    """Return g * min(1, bound / |g|), with the L2 norm over all tensors together."""
    squares = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients])
    norms = squares.sum(dim=0).sqrt()
    # A norm of 0 gives the factor infinity, which becomes 1.
    factors = (float(bound) / norms).clamp(max=1)
    return [g * factors.view(-1, *[1] * (g.ndim - 1)) for g in gradients]


def _quantise(gradients: Sequence[Tensor], bits: Fraction, _: torch.Generator):
    """Round to 2^bits - 1 even levels from -max|g| to max|g| of every tensor, which include 0."""
    levels = 2 ** (int(bits) - 1) - 1
    return [_rounded(g.flatten(1), levels).view_as(g) for g in gradients]


def _rounded(entries: Tensor, levels: int) -> Tensor:
    step = entries.abs().amax(dim=1, keepdim=True) / levels
    return torch.where(step > 0, (entries / step).round() * step, entries)


def _signs(gradients: Sequence[Tensor], _: Fraction, generator: torch.Generator):
    """Return the signs of the gradients."""
    del generator
    return [g.sign() for g in gradients]


@dataclass(frozen=True)
class _Kind:
    alteration: Alteration
    accepts: Callable[[Fraction], bool]
    strength: str
    """Meaning of the number after the name, for messages."""


DEFENCES = {
    "gaussian": _Kind(_gaussian, lambda scale: scale > 0, "standard deviation"),
    "lap": _Kind(_laplace, lambda scale: scale > 0, "scale"),
    "prune": _Kind(_prune, lambda percent: 0 <= percent < 100, "percent, below 100"),
    "clip": _Kind(_clip, lambda bound: bound > 0, "largest L2 norm"),
    "quantise": _Kind(
        _quantise, lambda bits: bits.denominator == 1 and 2 <= bits <= 16, "2 to 16 bits"
    ),
}
"""Defences with a strength, written ``<name>_<strength>``; ``sign`` has no strength."""


def parse_gradient_defence(name: str) -> SharingDefence:
    """Parse ``gaussian_1e-3``, ``lap_1e-2``, ``prune_70``, ``clip_1.0``, ``quantise_8`` or ``sign``.

    Raises ``UserError`` for other texts.
    """
    if name == "sign":
        return SharingDefence(name, _signs, Fraction(0))
    word, _, number = name.partition("_")
    kind, strength = DEFENCES.get(word), _number(number)
    if kind is None or strength is None or not kind.accepts(strength):
        known = ", ".join(f"{word}_<{kind.strength}>" for word, kind in DEFENCES.items())
        raise UserError(f"there is no gradient defence {name!r}: it is one of {known} or sign")
    return SharingDefence(name, kind.alteration, strength)


def _number(text: str) -> Fraction | None:
    """Parse a number exactly, so that 70 % of 10 entries are 7; None if ``text`` is no number."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
