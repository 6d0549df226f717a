"""Mini-batches of a training set, drawn epoch by epoch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Batches = Callable[[Tensor, int, torch.Generator], Iterator[Tensor]]
"""Function of classes (n,) int64, number of drawn pictures in a batch and a generator that yields the
rows (m,) int64 of each step, until fewer pictures than a batch are left."""


def plain(classes: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of ``batch_size`` pictures."""
    order = torch.randperm(len(classes), generator=generator)
    # Batch norm is unreliable in a small last batch, so it is left out.
    yield from order[: len(classes) // batch_size * batch_size].split(batch_size)


def pairs(classes: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches [a0, p0, a1, p1, ...] of ``batch_size`` pairs, SPC-2 of Roth et al. 2020."""
    by_class = torch.argsort(classes, stable=True)
    for anchors in plain(classes, batch_size, generator):
        partners = draw_partners(classes, by_class, classes[anchors], generator)
        yield torch.stack([anchors, partners], dim=1).flatten()


def draw_partners(
    classes: Tensor, by_class: Tensor, wanted: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw for each class in ``wanted`` (b,) a row of this class, uniformly.

    The row may be the anchor itself. ``by_class`` (n,) are the rows of ``classes`` (n,) sorted by class.
    """
    counts = classes.bincount()
    first = counts.cumsum(0) - counts
    place = torch.rand(len(wanted), generator=generator, dtype=torch.float64) * counts[wanted]
    return by_class[first[wanted] + place.long()]
