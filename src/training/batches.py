"""Which pictures make a training step: rows of the training set, drawn epoch by epoch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Batches = Callable[[Tensor, int, torch.Generator], Iterator[Tensor]]
"""Of labels (n,) int64, drawn pictures in a batch and a source of random numbers: rows (m,) int64 of
one step after the other, until every picture was drawn once, the rest of fewer than a batch left out."""


def plain(labels: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """``batch_size`` pictures."""
    order = torch.randperm(len(labels), generator=generator)
    # Batch norm wants no small last batch.
    yield from order[: len(labels) // batch_size * batch_size].split(batch_size)


def pairs(labels: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """[a0, p0, a1, p1, ...] of ``batch_size`` pairs; SPC-2 of Roth et al. 2020."""
    by_label = torch.argsort(labels, stable=True)
    for anchors in plain(labels, batch_size, generator):
        partners = draw_partners(labels, by_label, labels[anchors], generator)
        yield torch.stack([anchors, partners], dim=1).flatten()


def draw_partners(
    labels: Tensor, by_label: Tensor, wanted: Tensor, generator: torch.Generator
) -> Tensor:
    """For each label in ``wanted`` (b,) a row that has it, uniformly; it may be the anchor itself.

    ``by_label`` (n,): the rows of ``labels`` (n,) in the order of their labels.
    """
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    place = torch.rand(len(wanted), generator=generator, dtype=torch.float64) * counts[wanted]
    return by_label[first[wanted] + place.long()]


BATCHES: dict[str, Batches] = {"plain": plain, "pairs": pairs}
