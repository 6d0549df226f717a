"""Mini-batches of a training set, drawn epoch by epoch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Batches = Callable[[Tensor, int, torch.Generator], Iterator[Tensor]]
"""Function of labels (n,) int64, number of drawn pictures in a batch and a generator that yields the rows
(m,) int64 of each step, until fewer pictures than a batch are left."""


def plain(labels: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of ``batch_size`` pictures."""
    order = torch.randperm(len(labels), generator=generator)
    # Batch norm is unreliable in a small last batch, so it is left out.
    yield from order[: len(labels) // batch_size * batch_size].split(batch_size)


def pairs(labels: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches [a0, p0, a1, p1, ...] of ``batch_size`` pairs, SPC-2 of Roth et al. 2020."""
    by_label = torch.argsort(labels, stable=True)
    for anchors in plain(labels, batch_size, generator):
        partners = draw_partners(labels, by_label, labels[anchors], generator)
        yield torch.stack([anchors, partners], dim=1).flatten()


def draw_partners(
    labels: Tensor, by_label: Tensor, wanted: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw for each label in ``wanted`` (b,) a row with this label, uniformly.

    The row may be the anchor itself. ``by_label`` (n,) are the rows of ``labels`` (n,) sorted by label.
    """
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    place = torch.rand(len(wanted), generator=generator, dtype=torch.float64) * counts[wanted]
    return by_label[first[wanted] + place.long()]


BATCHES: dict[str, Batches] = {"plain": plain, "pairs": pairs}
