"""Objectives that attacks minimise: functions of embeddings (N, d) of attacked images, a value per image.

``objective(gallery, aim)`` computes once all that does not depend on the attacked images, and returns the
function that is minimised.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from src.attacks.ranking.aims import Aim
from src.attacks.ranking.gallery import Gallery, paired_distance

Loss = Callable[[Tensor], Tensor]
"""Function of embeddings (N, d) -> (N,) that the attack minimises."""
Objective = Callable[[Gallery, Aim], Loss]

_OFFSET = 1e-7
"""Offset of every coordinate of the clean embedding in ES, since a distance of 0 has no slope."""
_LARGEST_WEIGHT = 1e9


def raise_candidate(gallery: Gallery, aim: Aim) -> Loss:
    """Return CA+: mean over queries q and images x of relu(d(q, c') - d(q, x)); c' is attacked."""
    return _move_candidate(gallery, aim, 1)


def lower_candidate(gallery: Gallery, aim: Aim) -> Loss:
    """Return CA-: mean over queries q and images x of relu(d(q, x) - d(q, c')); c' is attacked."""
    return _move_candidate(gallery, aim, -1)


def _move_candidate(gallery: Gallery, aim: Aim, sign: int) -> Loss:
    queries = gallery.embeddings[aim.items]
    of_others = sign * gallery.distances(queries)

    def loss(embeddings: Tensor) -> Tensor:
        of_candidate = sign * paired_distance(queries, embeddings[:, None])
        return (of_candidate[..., None] - of_others).relu().mean(dim=(1, 2))

    return loss


def raise_in_query(gallery: Gallery, aim: Aim) -> Loss:
    """Return QA+: mean over candidates c and images x of relu(d(q', c) - d(q', x)); q' is attacked."""
    return lambda embeddings: _raised(gallery.distances(embeddings), aim.items)


def lower_in_query(gallery: Gallery, aim: Aim) -> Loss:
    """Return QA-: mean over candidates c and images x of relu(d(q', x) - d(q', c)); q' is attacked.

    With the nearest image as the candidate this is GTT.
    """
    return lambda embeddings: _raised(-gallery.distances(embeddings), aim.items)


def keeping(move: Objective, balance: float) -> Objective:
    """Return SPQA: ``move`` plus w QA+ of the kept images, with w = min(exp(balance * QA+), 1e9)."""

    def objective(gallery: Gallery, aim: Aim) -> Loss:
        moved = move(gallery, aim)
        kept = raise_in_query(gallery, Aim(aim.own, aim.kept))

        def loss(embeddings: Tensor) -> Tensor:
            out_of_place = kept(embeddings)
            weight = (balance * out_of_place.detach()).exp().clamp_max(_LARGEST_WEIGHT)
            return moved(embeddings) + weight * out_of_place

        return loss

    return objective


def _raised(distances: Tensor, items: Tensor) -> Tensor:
    """Average relu(d(item) - d(x)) over ``items`` (N, M) and all x of ``distances`` (N, G): (N,)."""
    of_items = distances.gather(1, items)
    # One item at a time, since (N, M, G) would be M times the largest array in memory.
    behind = [(of_item[:, None] - distances).relu().mean(dim=1) for of_item in of_items.unbind(1)]
    return torch.stack(behind).mean(dim=0)


def turn_towards(gallery: Gallery, aim: Aim) -> Loss:
    """Return TMA: 1 - cosine with one image."""
    aimed = gallery.embeddings[aim.items[:, 0]]
    return lambda embeddings: 1 - (embeddings * aimed).sum(dim=1)


def move_away(gallery: Gallery, aim: Aim) -> Loss:
    """Return ES: minus the distance to the image's own clean embedding."""
    clean = gallery.embeddings[aim.items[:, 0]] + _OFFSET
    return lambda embeddings: -paired_distance(embeddings, clean)


def approach(gallery: Gallery, aim: Aim) -> Loss:
    """Return GTM: the distance to one image."""
    aimed = gallery.embeddings[aim.items[:, 0]]
    return lambda embeddings: paired_distance(embeddings, aimed)


def misrank(gallery: Gallery, aim: Aim) -> Loss:
    """Return LTM: relu(farthest unmatching - nearest matching distance), without the query itself.

    Wang et al., "Transferable, Controllable, and Inconspicuous Adversarial Attacks on Person
    Re-identification With Deep Mis-Ranking", CVPR 2020. The value of a query without a match is 0.
    """
    own = torch.zeros_like(gallery.matches(aim.own)).scatter(1, aim.own[:, None], True)
    return _misrank(gallery, gallery.matches(aim.own), left_out=own)


def misrank_as_published(gallery: Gallery, aim: Aim) -> Loss:
    """Return LTM with the query among the matching images, see ``Definitions.ltm_keeps_self``."""
    matching = gallery.matches(aim.own)
    return _misrank(gallery, matching, left_out=torch.zeros_like(matching))


def _misrank(gallery: Gallery, matching: Tensor, left_out: Tensor) -> Loss:
    not_matching, not_unmatching = ~matching | left_out, matching
    has_match = ~not_matching.all(dim=1)

    def loss(embeddings: Tensor) -> Tensor:
        with torch.no_grad():  # only two distances of a query have a gradient
            distances = gallery.distances(embeddings)
            match = distances.masked_fill(not_matching, torch.inf).argmin(dim=1)
            unmatched = distances.masked_fill(not_unmatching, -torch.inf).argmax(dim=1)
        farthest = paired_distance(embeddings, gallery.embeddings[unmatched])
        nearest = paired_distance(embeddings, gallery.embeddings[match])
        return (farthest - nearest).relu() * has_match

    return loss


def reorder(gallery: Gallery, aim: Aim) -> Loss:
    """Return FOA: mean over M x M of relu(d(q', c_i) - d(q', c_j)) for every i that should precede j.

    Zhou et al., "Practical Relative Order Attack in Deep Ranking", ICCV 2021.
    """
    candidates = gallery.embeddings[aim.items]

    def loss(embeddings: Tensor) -> Tensor:
        distances = paired_distance(embeddings[:, None], candidates)
        behind = (distances[:, :, None] - distances[:, None, :]).relu()
        return behind.triu(diagonal=1).mean(dim=(1, 2))

    return loss
