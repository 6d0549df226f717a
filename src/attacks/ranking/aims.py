"""What an attack aims at: which images of the gallery are to move in the rankings.

A selection takes (gallery, own, generator): ``own`` (N,) are the attacked images' positions in the
gallery. Random choices come from the generator, a CPU one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.ranking.gallery import Gallery

TOP_SHARE = 0.01
"""Attacks that lower something choose it from this nearest share of the gallery."""
KEPT = 5
"""How many images SPQA keeps in their places."""


@dataclass(frozen=True)
class Aim:
    """Positions in the gallery, all int64, for N attacked images."""

    own: Tensor
    """(N,): the attacked images themselves."""
    items: Tensor
    """(N, M): queries or candidates that the attack is about."""
    kept: Tensor | None = None
    """(N, K): candidates that must not move."""


Select = Callable[[Gallery, Tensor, torch.Generator], Aim]


def themselves(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
    """The attacked images' own clean embeddings."""
    del gallery, generator
    return Aim(own, own[:, None])


def uniformly(size: int, *, keep_top: bool = False) -> Select:
    """``size`` images, each uniform over the gallery without the attacked one.

    ``keep_top``: the ``KEPT`` nearest images must not move.
    """

    def select(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
        others = torch.randint(len(gallery) - 1, (len(own), size), generator=generator)
        others = others.to(own.device)
        others += others >= own[:, None]  # step over the attacked image
        return Aim(own, others, _nearest(gallery, own, KEPT) if keep_top else None)

    return select


def from_the_top(size: int, *, keep_rest: bool = False) -> Select:
    """``size`` different images of the nearest ``TOP_SHARE`` of the gallery, in random order.

    ``keep_rest``: the ``KEPT`` nearest images that were not chosen must not move.
    """

    def select(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
        share = math.ceil(TOP_SHARE * len(gallery))
        top = _nearest(gallery, own, max(share, size + KEPT * keep_rest))
        shuffled = torch.rand(top.shape, generator=generator).argsort(dim=1).to(own.device)
        chosen, rest = shuffled[:, :size], shuffled[:, size:]
        kept = top.gather(1, rest.sort(dim=1).values[:, :KEPT]) if keep_rest else None
        return Aim(own, top.gather(1, chosen), kept)

    return select


def against_their_order(size: int) -> Select:
    """``size`` different images of the nearest ``TOP_SHARE``, and the order that they are to take.

    Two are to change places; more are to stand in a random order.
    """
    choose = from_the_top(size)

    def select(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
        aim = choose(gallery, own, generator)
        if size > 2:
            return aim
        distances = gallery.distances_from_others(own).gather(1, aim.items)
        farthest_first = distances.argsort(dim=1, descending=True)
        return Aim(own, aim.items.gather(1, farthest_first))

    return select


def nearest(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
    """The nearest other image."""
    del generator
    return Aim(own, _nearest(gallery, own, 1))


def nearest_unmatching(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
    """The nearest image of another class."""
    del generator
    distances = gallery.distances_from_others(own)
    distances = distances.masked_fill(gallery.matches(own), torch.inf)
    return Aim(own, distances.argmin(dim=1, keepdim=True))


def nearest_unmatching_as_published(
    gallery: Gallery, own: Tensor, generator: torch.Generator
) -> Aim:
    """RobRank's choice: see ``Definitions.gtm_index_in_subset``."""
    del generator
    distances = gallery.distances_from_others(own)
    matching = gallery.matches(distances.argmin(dim=1))
    aimed = distances.masked_fill(matching, torch.inf).argmin(dim=1, keepdim=True)
    in_subset = (~matching).cumsum(dim=1) - 1
    return Aim(own, in_subset.gather(1, aimed))


def _nearest(gallery: Gallery, own: Tensor, k: int) -> Tensor:
    """(N, k): the nearest other images, the nearest first."""
    return gallery.distances_from_others(own).topk(k, dim=1, largest=False).indices
