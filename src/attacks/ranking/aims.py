"""Aims of attacks on rankings: the images of the gallery that are to move in the rankings.

A selection takes (gallery, own, generator), where ``own`` (N,) are the positions of the attacked images
in the gallery. Random choices come from the generator, which is on the CPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from src.attacks.ranking.gallery import Gallery

TOP_SHARE = 0.01
"""Nearest share of the gallery from which attacks choose the images that they lower."""
KEPT = 5
"""Number of images that SPQA keeps in their places."""


@dataclass(frozen=True)
class Aim:
    """Gallery positions, int64, that describe the aim for N attacked images."""

    own: Tensor
    """Positions (N,) of the attacked images."""
    items: Tensor
    """Positions (N, M) of the queries or candidates of the attack."""
    kept: Tensor | None = None
    """Positions (N, K) of candidates that must not move."""

    def __getitem__(self, rows: slice) -> "Aim":
        """Return the aim for some of the images."""
        kept = None if self.kept is None else self.kept[rows]
        return Aim(self.own[rows], self.items[rows], kept)


Select = Callable[[Gallery, Tensor, torch.Generator], Aim]


def own_images(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
    """Select the attacked images, of which the clean embeddings count."""
    del gallery, generator
    return Aim(own, own[:, None])


def random_images(size: int, *, keep_top: bool = False) -> Select:
    """Select ``size`` images, each uniform over the gallery without the attacked image.

    With ``keep_top`` the ``KEPT`` nearest images must not move.
    """

    def select(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
        others = torch.randint(len(gallery) - 1, (len(own), size), generator=generator)
        others = others.to(own.device)
        others += others >= own[:, None]  # leaves out the attacked image
        return Aim(own, others, _nearest(gallery, own, KEPT) if keep_top else None)

    return select


def top_images(size: int, *, keep_rest: bool = False) -> Select:
    """Select ``size`` different images of the nearest ``TOP_SHARE`` of the gallery, in random order.

    With ``keep_rest`` the ``KEPT`` nearest images that were not chosen must not move.
    """

    def select(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
        share = math.ceil(TOP_SHARE * len(gallery))
        top = _nearest(gallery, own, max(share, size + KEPT * keep_rest))
        shuffled = torch.rand(top.shape, generator=generator).argsort(dim=1).to(own.device)
        chosen, rest = shuffled[:, :size], shuffled[:, size:]
        kept = top.gather(1, rest.sort(dim=1).values[:, :KEPT]) if keep_rest else None
        return Aim(own, top.gather(1, chosen), kept)

    return select


def reordered_top_images(size: int) -> Select:
    """Select ``size`` different images of the nearest ``TOP_SHARE`` in the order that they should take.

    Two images should change places; more should take a random order.
    """
    choose = top_images(size)

    def select(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
        aim = choose(gallery, own, generator)
        if size > 2:
            return aim
        distances = gallery.distances_from_others(own).gather(1, aim.items)
        farthest_first = distances.argsort(dim=1, descending=True)
        return Aim(own, aim.items.gather(1, farthest_first))

    return select


def nearest(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
    """Select the nearest other image."""
    del generator
    return Aim(own, _nearest(gallery, own, 1))


def nearest_unmatching(gallery: Gallery, own: Tensor, generator: torch.Generator) -> Aim:
    """Select the nearest image of another class."""
    del generator
    distances = gallery.distances_from_others(own)
    distances = distances.masked_fill(gallery.matches(own), torch.inf)
    return Aim(own, distances.argmin(dim=1, keepdim=True))


def nearest_unmatching_as_published(
    gallery: Gallery, own: Tensor, generator: torch.Generator
) -> Aim:
    """Select the image that RobRank's code uses, see ``Definitions.gtm_index_in_subset``."""
    del generator
    distances = gallery.distances_from_others(own)
    matching = gallery.matches(distances.argmin(dim=1))
    aimed = distances.masked_fill(matching, torch.inf).argmin(dim=1, keepdim=True)
    in_subset = (~matching).cumsum(dim=1) - 1
    return Aim(own, in_subset.gather(1, aimed))


def _nearest(gallery: Gallery, own: Tensor, k: int) -> Tensor:
    """Return the nearest other images, (N, k), in order of distance."""
    return gallery.distances_from_others(own).topk(k, dim=1, largest=False).indices
